"""Audio assets that VOD makes: read, waited for, and turned into results by operator, sensor and trigger."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vod.cloud import poller
from vod.cloud.assets import Asset, Readiness
from vod.cloud.client import VodClient
from vod.cloud.errors import (
    AssetNotFoundError,
    AssetNotSupportedError,
    CloudError,
    ExtractionFailedError,
    InvalidRequestError,
)
from vod.cloud.refusals import CONCERNS_THE_ACCOUNT
from vod.locations import asset_uri
from vod.logs import get_logger
from vod.records import AssetFailure, ExtractedAudio, Record, SubmittedExtraction

log = get_logger(__name__)

VISIBILITY_GRACE = 60.0
"""Seconds after the acceptance in which VOD may not know the audio asset yet (contract, section 5.3)."""

SECOND_LOOK_PAUSE = 2.0
"""Seconds before an id that VOD calls malformed is asked for again."""

MAX_CONFIRMATIONS = 50
"""Assets that a worker asks for one by one, at 25 a second; the others are looked at again later."""


def within_grace(accepted: float) -> bool:
    """Whether an audio asset may still be invisible.

    :param accepted: When VOD accepted the extraction, seconds since the epoch.
    """
    return time.time() < accepted + VISIBILITY_GRACE


def read_assets(
    client: VodClient, asset_ids: Sequence[str]
) -> tuple[dict[str, Asset], dict[str, InvalidRequestError]]:
    """Read assets. VOD refuses a whole call for one malformed id: such ids are found by halving the list.

    :returns: the assets by id, and the refusals of those ids that VOD has called malformed twice.
    :raises CloudError: VOD could not be asked, or refuses all.
    """
    assets, malformed = _read(client, asset_ids)
    if malformed:
        time.sleep(SECOND_LOOK_PAUSE)
        more_assets, malformed = _read(client, list(malformed))
        assets |= more_assets
    return assets, malformed


def _read(
    client: VodClient, asset_ids: Sequence[str]
) -> tuple[dict[str, Asset], dict[str, InvalidRequestError]]:
    try:
        return client.asset_info(asset_ids), {}
    except AssetNotFoundError:
        if len(asset_ids) == 1:
            return {asset_ids[0]: Asset(asset_id=asset_ids[0], status="NO_ASSET")}, {}
    except InvalidRequestError as error:
        if len(asset_ids) == 1:
            return {}, {asset_ids[0]: error}
    half = len(asset_ids) // 2
    assets, malformed = _read(client, asset_ids[:half])
    more_assets, more_malformed = _read(client, asset_ids[half:])
    return assets | more_assets, malformed | more_malformed


def confirmed_gone(client: VodClient, asset: Asset, since: float | None = None) -> bool:
    """Whether an asset that one answer of VOD calls gone (:attr:`Asset.is_gone`) really is.

    It is if VOD has said so for :data:`vod.cloud.poller.CONFIRMATION_PAUSE`, or if asset/details knows no
    such asset either. Of one that an answer only left out, details decide.

    :param asset: As just read.
    :param since: Since when VOD says so, seconds since the epoch; ``None`` if this is the first time.
    """
    if since is not None and time.time() - since >= poller.CONFIRMATION_PAUSE and not asset.is_missing:
        return True
    try:
        client.asset_details(asset.asset_id)
    except AssetNotFoundError:
        return True
    except CloudError as error:
        log.warning("Could not confirm that %s is gone; still waiting. %s", asset.asset_id, error)
    return False


def collect(
    client: VodClient,
    extractions: Sequence[SubmittedExtraction],
    conn_id: str,
    *,
    time_is_up: bool = False,
    patient: bool = True,
) -> dict[str, Record]:
    """Look once at what VOD has made of extractions.

    :param conn_id: Name of the connection, for the URI of the audio.
    :param time_is_up: Fail what cannot be read. Otherwise a fault of VOD, or a credential that it refuses,
        leaves it open.
    :param patient: Whether VOD has accepted the credential before. Otherwise a refusal is raised.
    :returns: by audio asset an :class:`ExtractedAudio`, an :class:`AssetFailure`, or, while VOD is still
        working on it, the extraction with the state that VOD reports.
    :raises CloudError: a refusal, as *patient* says.
    """
    by_audio = {extraction.audio_asset_id: extraction for extraction in extractions}
    if not by_audio:
        return {}
    if patient and not time_is_up and (pause := client.refused_for):
        log.info("VOD refused the credential; it is not asked for %.0f s.", pause)
        return {**by_audio}
    try:
        read, malformed = read_assets(client, list(by_audio))
    except CloudError as error:
        if not error.retryable and not (patient and isinstance(error, CONCERNS_THE_ACCOUNT)):
            raise
        if time_is_up:  # VOD goes on meanwhile: another try may find the audio
            return {
                audio_id: replace(AssetFailure.from_error(extraction.asset, error), retryable=True)
                for audio_id, extraction in by_audio.items()
            }
        log.warning("Could not read the states of the audio assets from VOD; still waiting. %s", error)
        return {**by_audio}
    outcomes: dict[str, Record] = {}
    confirmations = 0
    for audio_id, extraction in by_audio.items():
        if refusal := malformed.get(audio_id):
            outcomes[audio_id] = AssetFailure.from_error(extraction.asset, refusal)
            continue
        audio = read[audio_id]
        grace = within_grace(extraction.accepted)
        if _is_video(extraction, audio):
            outcomes[audio_id] = AssetFailure.from_error(extraction.asset, _not_audio(audio))
        elif not audio.settled(grace=grace) and (grace or not audio.is_missing):
            outcomes[audio_id] = replace(extraction, status=audio.status, gone_since=None)
        elif not audio.is_gone:
            outcomes[audio_id] = result_of(extraction, audio, conn_id)
        else:
            confirmations += 1
            since = extraction.gone_since
            asked = confirmations <= MAX_CONFIRMATIONS
            if asked and confirmed_gone(client, audio, since):
                outcomes[audio_id] = result_of(extraction, audio, conn_id)
            else:
                outcomes[audio_id] = doubted(extraction, audio)
    return outcomes


def doubted(extraction: SubmittedExtraction, audio: Asset) -> SubmittedExtraction:
    """The extraction whose audio asset VOD calls gone, which is still to be confirmed."""
    # Details know what an answer left out: there is nothing to be seen before the next pause is over.
    since = None if audio.is_missing else extraction.gone_since
    return replace(extraction, status=audio.status, gone_since=since or time.time())


def _is_video(extraction: SubmittedExtraction, audio: Asset) -> bool:
    """Whether a bare id is that of a video. What VOD made is audio, whatever it calls the container."""
    return not extraction.audio_format and bool(audio.container) and not audio.is_audio


def _not_audio(asset: Asset) -> CloudError:
    return AssetNotSupportedError(
        f"This is a video ({asset.container}), not the audio of one.",
        remedy="Give the id of an audio asset, or what ExtractAudioOperator(wait_for_completion=False) "
        "returned.",
    )


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
