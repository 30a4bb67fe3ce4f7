"""Takes over the audio of submissions whose answers were lost, or finds that there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vod.batch.ledger import Ledger
from vod.cloud.assets import Asset
from vod.cloud.errors import AmbiguousExtractionError, AnswerLostError, CloudError
from vod.engines import Outcomes
from vod.engines.claims import EngineClaims
from vod.engines.lost_answers import MIN_LOOKS, RECOVERY_WINDOW, Finding, LostAnswer, find_audio_assets
from vod.engines.submission import Submitter
from vod.hooks import VodHook
from vod.logs import get_logger
from vod.records import AssetFailure, PostponedExtraction, SubmittedExtraction

log = get_logger(__name__)


class Recovery:
    """The search for the audio of lost answers: one look each time, waiting happens elsewhere.

    :param ledger: Remembers how far each search is.
    :param submitter: Notes what was found.
    :param claims: What all tasks know together, if there is a register.
    :param on_accepted: Called with each extraction that was found.
    :param window: Seconds over which VOD must have listed none before one is submitted again.
    """

    def __init__(
        self,
        hook: VodHook,
        ledger: Ledger,
        audio_format: str,
        submitter: Submitter,
        *,
        claims: EngineClaims | None,
        on_accepted: Callable[[SubmittedExtraction], None],
        window: float = RECOVERY_WINDOW,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._audio_format = audio_format
        self._submitter = submitter
        self._claims = claims
        self._on_accepted = on_accepted
        self._window = window

    def take_over(
        self,
        intents: Mapping[str, float],
        sources: Mapping[str, Asset],
        postponed: Mapping[str, PostponedExtraction],
    ) -> Outcomes:
        """Take over the audio assets of submissions whose answers were lost.

        :param intents: When each was about to be sent by VOD's clock, where the ledger does not say it.
        :returns: nothing for those that are to be submitted again.
        """
        if not intents:
            return {}
        clock, window = self._hook.client.clock, self._window
        searches = {asset: self._search(asset, intents[asset]) for asset in intents}
        try:
            findings = find_audio_assets(
                self._hook.client,
                {
                    asset: LostAnswer(intended=search["since"], lost=search["lost"], seen=search["seen"])
                    for asset, search in searches.items()
                },
                sources,
                audio_format=self._audio_format,
                claimed=self._ledger.audio_assets(),
                claimed_by_others=self._claims.register.is_owned if self._claims else None,
            )
        except CloudError as error:
            if not error.retryable:
                raise
            return {asset: self._submitter.postponed(asset, error, postponed) for asset in intents}
        outcomes: Outcomes = {}
        for asset, finding in findings.items():
            if finding.audio:
                outcomes[asset] = extraction = self._submitter.accepted(asset, finding.audio)
                self._on_accepted(extraction)
                continue
            search = searches[asset]
            search["seen"] = sorted({*search["seen"], *finding.seen})
            search["looks"] += 1
            self._ledger.looked(asset, search)
            enough = search["looks"] >= MIN_LOOKS and clock.time() >= search["lost"] + window
            if finding.is_none and enough:
                if finding.ended_without_audio:
                    self._ledger.again(asset)
                continue
            question = _open_question(asset, finding)
            if finding.doubts and finding.settled and enough:
                outcomes[asset] = AssetFailure.from_error(asset, question)
            else:
                pause = self._submitter.retry_delay * min(2 ** search["looks"], 20)
                later = replace(
                    self._submitter.postponed(asset, question, postponed), again=time.time() + pause
                )
                left = search["lost"] + window - clock.time()
                # The look that ends the window is not to come long after it.
                outcomes[asset] = (
                    replace(later, again=min(later.again, time.time() + left)) if left > 0 else later
                )
        found = sum(bool(finding.audio) for finding in findings.values())
        log.info("Found the audio of %d of %d submissions whose answer was lost.", found, len(findings))
        return outcomes

    def _search(self, asset: str, intended: float) -> dict[str, Any]:
        """How far the search for the audio of a lost answer is: times are VOD's, which all workers share."""
        entry = self._ledger.get(asset) or {}
        begun = {
            "since": entry.get("intended", intended),
            "lost": self._hook.client.clock.time(),
            "looks": 0,
            "seen": [],
        }
        return {**begun, **(entry.get("search") or {})}


def _open_question(asset: str, finding: Finding) -> CloudError:
    """What there is to say about a lost answer as long as it is not known what became of the submission."""
    if finding.is_none:
        return AnswerLostError(
            "VOD did not say whether it accepted the extraction, and lists no audio asset of it so far.",
            asset=asset,
        )
    listed = ", ".join(finding.candidates)
    return AmbiguousExtractionError(
        "The answer to the submission was lost, and it cannot be told which audio asset is its result: "
        f"{finding.doubts}.{f' VOD lists {listed}.' if listed else ''}",
        asset=asset,
    )
