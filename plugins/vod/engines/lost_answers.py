"""Finds the audio assets of submissions whose answers were lost (contract, section 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from vod.cloud.assets import Asset
from vod.cloud.client import CLOCK_MARGIN, VodClient
from vod.cloud.errors import AmbiguousExtractionError, CloudError
from vod.logs import get_logger

log = get_logger(__name__)

RECOVERY_WINDOW = 15.0
"""Seconds in which the list may not show a new audio asset yet: a guess, the contract has no number."""

_PAUSE = 2.0
"""Seconds between two looks at the list."""


def find_audio_assets(
    client: VodClient,
    intents: Mapping[str, float],
    sources: Mapping[str, Asset],
    *,
    audio_format: str,
    claimed: set[str],
    seconds: float,
) -> dict[str, str | CloudError]:
    """Find the audio assets of submissions that VOD may have accepted.

    :param intents: When each submission was about to be sent, seconds since the epoch, by source.
    :param sources: The sources as VOD describes them.
    :param claimed: Audio assets that are known to be of other submissions.
    :param seconds: How long to go on looking, since a new asset may take a moment to be listed. Counted from
        now, since it is not known how long a submission waited for its turn in the quota.
    :returns: by source the id of its audio asset; an :class:`AmbiguousExtractionError` if there are several;
        the error for which VOD could not be asked. Nothing for a source of which VOD lists no audio.
    :raises CloudError: a refusal that will not pass.
    """
    found: dict[str, str | CloudError] = {}
    fault: CloudError | None = None

    def look() -> bool:
        nonlocal fault
        missing = {source: at for source, at in intents.items() if source not in found}
        try:
            found.update(_look(client, missing, sources, audio_format, claimed))
        except CloudError as error:
            if not error.retryable:
                raise
            fault = error
            return False
        fault = None
        return len(found) == len(intents)

    if not intents:
        return {}
    Retrying(
        retry=retry_if_result(lambda complete: not complete),
        wait=wait_fixed(_PAUSE),
        stop=stop_after_delay(seconds),
        retry_error_callback=lambda _: None,
    )(look)
    log.info("Found the audio of %d of %d submissions whose answer was lost.", len(found), len(intents))
    if fault:
        # Without VOD's list, submitting these again could extract them a second time.
        found |= {source: fault for source in intents if source not in found}
    return found


def _look(
    client: VodClient,
    intents: Mapping[str, float],
    sources: Mapping[str, Asset],
    audio_format: str,
    claimed: set[str],
) -> dict[str, str | CloudError]:
    titles = Counter(sources[source].title or "" for source in intents)
    since = datetime.fromtimestamp(min(intents.values()), timezone.utc)
    listed = client.find_audio_assets(set(titles), audio_format, since=since)
    found: dict[str, str | CloudError] = {}
    for source, intended in intents.items():
        title = sources[source].title or ""
        earliest = datetime.fromtimestamp(int(intended), timezone.utc) - CLOCK_MARGIN
        candidates = [
            audio.asset_id
            for audio in listed
            if audio.title == title and audio.created >= earliest and audio.asset_id not in claimed
        ]
        if len(candidates) == 1 and titles[title] == 1:
            found[source] = candidates[0]
        elif candidates:
            found[source] = AmbiguousExtractionError(
                "The answer to the submission was lost, and any of these audio assets may be its result: "
                f"{', '.join(candidates)}.",
                asset=source,
            )
    return found
