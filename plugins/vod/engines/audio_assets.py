"""Audio assets that VOD makes: read, waited for, and turned into results by operator, sensor and trigger."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vod.cloud.assets import Asset, Readiness
from vod.cloud.client import VodClient
from vod.cloud.errors import CloudError, ExtractionFailedError, InvalidRequestError
from vod.locations import asset_uri
from vod.logs import get_logger
from vod.records import AssetFailure, ExtractedAudio, Record, SubmittedExtraction

log = get_logger(__name__)

VISIBILITY_GRACE = 60.0
"""Seconds after the acceptance in which VOD may not know the audio asset yet (contract, section 5.3)."""


def within_grace(accepted: float) -> bool:
    """Whether an audio asset may still be invisible.

    :param accepted: When VOD accepted the extraction, seconds since the epoch.
    """
    return time.time() < accepted + VISIBILITY_GRACE


def read_assets(
    client: VodClient, asset_ids: Sequence[str]
) -> tuple[dict[str, Asset], dict[str, InvalidRequestError]]:
    """Read assets. VOD refuses a whole call for one malformed id: such ids are found by halving the list.

    :returns: the assets by id, and the refusals of those ids that VOD calls malformed.
    :raises CloudError: VOD could not be asked, or refuses all.
    """
    try:
        return client.asset_info(asset_ids), {}
    except InvalidRequestError as error:
        if len(asset_ids) == 1:
            return {}, {asset_ids[0]: error}
    half = len(asset_ids) // 2
    assets, malformed = read_assets(client, asset_ids[:half])
    more_assets, more_malformed = read_assets(client, asset_ids[half:])
    return assets | more_assets, malformed | more_malformed


def collect(
    client: VodClient, extractions: Sequence[SubmittedExtraction], conn_id: str, *, time_is_up: bool = False
) -> dict[str, Record]:
    """Look once at what VOD has made of extractions.

    :param conn_id: Name of the connection, for the URI of the audio.
    :param time_is_up: Fail what cannot be read. Otherwise a passing fault of VOD leaves it open.
    :returns: for each source an :class:`ExtractedAudio`, an :class:`AssetFailure`, or, while VOD is still
        working on it, the extraction with the state that VOD reports.
    :raises CloudError: a refusal that will not pass.
    """
    if not extractions:
        return {}
    try:
        read, malformed = read_assets(client, [extraction.audio_asset_id for extraction in extractions])
    except CloudError as error:
        if not error.retryable:
            raise
        if time_is_up:
            return {
                extraction.asset: AssetFailure.from_error(extraction.asset, error)
                for extraction in extractions
            }
        log.warning("Could not read the states of the audio assets from VOD; still waiting. %s", error)
        return {extraction.asset: extraction for extraction in extractions}
    outcomes: dict[str, Record] = {}
    for extraction in extractions:
        if refusal := malformed.get(extraction.audio_asset_id):
            outcomes[extraction.asset] = AssetFailure.from_error(extraction.asset, refusal)
        else:
            audio = read[extraction.audio_asset_id]
            settled = audio.settled(grace=within_grace(extraction.accepted))
            outcomes[extraction.asset] = (
                result_of(extraction, audio, conn_id) if settled else replace(extraction, status=audio.status)
            )
    return outcomes


def result_of(extraction: SubmittedExtraction, audio: Asset, conn_id: str) -> ExtractedAudio | AssetFailure:
    """The result of an extraction that VOD has ended: the audio, or why there is none.

    :param audio: The audio asset as just read.
    """
    if audio.readiness is not Readiness.READY:
        reason = audio.description.rstrip(".") or "no reason given"
        error = ExtractionFailedError(f"VOD ended the extraction as {audio.status}: {reason}.")
        return AssetFailure.from_error(extraction.asset, error)
    took = (audio.modified - audio.created).total_seconds() if audio.modified and audio.created else None
    return ExtractedAudio(
        asset=extraction.asset,
        audio_asset_id=audio.asset_id,
        uri=asset_uri(conn_id, audio.asset_id),
        audio_format=extraction.audio_format or audio.container or "",
        codec=(audio.metadata.codec or "").lower() or None,
        duration=audio.metadata.duration,
        size=audio.metadata.size or 0,
        channels=audio.metadata.channels,
        title=audio.title,
        engine="vod",
        seconds=took,
    )


class ReadyCount:
    """Counts which audio assets of a batch are ready or have failed, and logs when there are more.

    It is the ``on_poll`` of :meth:`vod.cloud.poller.Poller.wait`.

    :param total: Audio assets that are waited for.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._settled: set[str] = set()
        self._logged: int | None = None

    def __call__(self, read: Mapping[str, Asset], pause: float) -> None:
        self._settled.update(asset_id for asset_id, asset in read.items() if asset.settled(grace=True))
        settled = len(self._settled)
        if settled == self._total != self._logged:
            log.info("All %d audio assets are ready or have failed.", self._total)
        elif settled != self._logged:
            log.info("%d of %d audio assets are ready; next look in %.0f s.", settled, self._total, pause)
        self._logged = settled

    @property
    def share(self) -> float:
        """The part that is ready or has failed, from 0 to 1."""
        return len(self._settled) / self._total
