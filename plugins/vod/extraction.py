"""Extraction by Huawei Cloud VOD: one of the two engines behind ExtractAudioOperator."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from vod import media
from vod.cloud.assets import Asset, Readiness
from vod.cloud.client import CLOCK_MARGIN
from vod.cloud.errors import (
    AccountError,
    AmbiguousExtractionError,
    AnswerLostError,
    AssetNotFoundError,
    AssetNotSupportedError,
    AuthenticationError,
    CloudError,
    ExtractionFailedError,
    ForbiddenError,
    NotSentError,
    ThrottledError,
)
from vod.errors import VodError
from vod.hooks import VodHook
from vod.ledger import Ledger
from vod.results import AssetFailure, ExtractedAudio, Record, SubmittedExtraction
from vod.storage import Destination, asset_uri, file_stem

log = logging.getLogger(__name__)

VISIBILITY_GRACE = 60.0
"""Seconds after the acceptance in which VOD may not know the audio asset yet (contract, section 5.3)."""

RECOVERY_WINDOW = 15.0
"""Seconds in which the list may not show a new audio asset yet: a guess, the contract has no number."""

_ALL_WOULD_FAIL = (AuthenticationError, ForbiddenError, AccountError, ThrottledError, NotSentError)


class ExtractionTimeoutError(VodError):
    """The audio was not ready in time."""

    outcome = "timeout"
    retryable = True
    remedy = "Raise the task's timeout, or try again: an extraction that already runs is not submitted twice."


def extracted(extraction: SubmittedExtraction, audio: Asset, conn_id: str) -> ExtractedAudio:
    """Give the record of an extraction that VOD finished.

    :param audio: The audio asset as just read.
    :raises ExtractionFailedError: it is not ready and never will be.
    """
    if audio.readiness is not Readiness.READY:
        reason = audio.description.rstrip(".") or "no reason given"
        raise ExtractionFailedError(
            f"VOD ended the extraction as {audio.status}: {reason}.", asset=extraction.asset
        )
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
        seconds=(audio.modified - audio.created).total_seconds()
        if audio.modified and audio.created
        else None,
    )


class VodEngine:
    """Extraction by the service: submit, wait elsewhere, collect.

    :param ledger: Remembers each submission before and after it is sent.
    """

    def __init__(self, hook: VodHook, ledger: Ledger, audio_format: str) -> None:
        self._hook = hook
        self._ledger = ledger
        self._audio_format = audio_format

    def submit(self, assets: Iterable[str]) -> dict[str, Record]:
        """Submit each asset for which no earlier try did so.

        :returns: for each asset a :class:`SubmittedExtraction`, or the :class:`AssetFailure` that prevented
            it.
        :raises CloudError: a refusal that concerns all assets, found before anything was submitted.
        """
        entries = {asset: self._ledger.get(asset) or {} for asset in assets}
        accepted = {asset: entry["audio"] for asset, entry in entries.items() if "audio" in entry}
        read = self._hook.client.asset_info([*entries, *accepted.values()])
        intents = {asset: entry["intended"] for asset, entry in entries.items() if "intended" in entry}
        outcomes: dict[str, Record] = {
            asset: self._submitted(asset, audio, entries[asset]["accepted"])
            for asset, audio in accepted.items()
            if self._is_usable(read[audio], entries[asset]["accepted"])
        }
        outcomes |= self._recover(intents, read, outcomes)
        lost: dict[str, float] = {}
        stopped: CloudError | None = None
        for asset in entries:
            if asset in outcomes:
                continue
            started = time.time()
            try:
                if stopped:
                    raise stopped
                outcomes[asset] = self._submit_one(read[asset], started)
            except CloudError as error:
                if isinstance(error, _ALL_WOULD_FAIL):
                    stopped = error
                if isinstance(error, AnswerLostError):
                    lost[asset] = started
                outcomes[asset] = AssetFailure.of(asset, error)
        outcomes |= self._recover(lost, read, outcomes)
        submitted = sum(isinstance(outcome, SubmittedExtraction) for outcome in outcomes.values())
        log.info("Submitted %d/%d assets to VOD.", submitted, len(outcomes))
        return {asset: outcomes[asset] for asset in entries}

    def collect(
        self, submitted: Iterable[SubmittedExtraction], destination: Destination | None
    ) -> dict[str, Record]:
        """Turn extractions that were waited for into audio, or into the reason why there is none.

        What is not settled has run out of time: it is cancelled where it is still queued.

        :param destination: Where to copy the audio; ``None`` leaves it in VOD.
        """
        extractions = list(submitted)
        read = self._hook.client.asset_info(extraction.audio_asset_id for extraction in extractions)
        outcomes: dict[str, Record] = {}
        for extraction in extractions:
            try:
                audio = read[extraction.audio_asset_id]
                if not audio.settled(grace=within_grace(extraction.accepted)):
                    self._give_up(extraction, audio)
                outcomes[extraction.asset] = self._deliver(extraction, audio, destination)
            except VodError as error:
                outcomes[extraction.asset] = AssetFailure.of(extraction.asset, error)
                if isinstance(error, ExtractionFailedError):
                    self._ledger.forget(extraction.asset)
        return outcomes

    def cancel(self, submitted: Iterable[SubmittedExtraction]) -> None:
        """Cancel what is still queued; say of the rest that it goes on (contract, section 4)."""
        for extraction in submitted:
            try:
                cancelled = self._hook.client.cancel_extraction(extraction.asset, extraction.audio_asset_id)
            except CloudError as error:
                log.warning("Cancelling the extraction of %s failed: %s", extraction.asset, error)
                continue
            if cancelled:
                self._ledger.forget(extraction.asset)
            log.info("Extraction of %s: %s.", extraction.asset, cancel_words(cancelled))

    def _submit_one(self, source: Asset, now: float) -> SubmittedExtraction:
        asset = source.asset_id
        if source.readiness is Readiness.GONE:
            raise AssetNotFoundError("VOD knows no such asset.", asset=asset)
        if source.is_audio:
            raise AssetNotSupportedError(
                f"This is already an audio asset ({source.container}); VOD extracts only from videos.",
                asset=asset,
            )
        self._ledger.intend(asset, now)
        try:
            submission = self._hook.client.extract_audio(asset, self._audio_format)
        except AnswerLostError:
            raise  # the intent stays: the audio asset is looked for before anything is submitted again
        except CloudError:
            self._ledger.forget(asset)
            raise
        self._ledger.accept(asset, submission.audio_asset_id, now)
        return self._submitted(asset, submission.audio_asset_id, now)

    def _recover(
        self, intents: Mapping[str, float], sources: Mapping[str, Asset], known: Mapping[str, Record]
    ) -> dict[str, Record]:
        """Find the audio assets of submissions that may have been accepted (contract, section 3).

        A new asset may take a moment to be listed: what is not found is looked for until the last intent is
        :data:`RECOVERY_WINDOW` old.

        :param intents: When each submission was about to be sent.
        :param known: Outcomes so far; their audio assets are not candidates.
        :returns: an outcome for each asset that was found, or of which several were found.
        """
        found: dict[str, Record] = {}
        claimed = {
            outcome.audio_asset_id for outcome in known.values() if isinstance(outcome, SubmittedExtraction)
        }

        def look() -> bool:
            missing = {asset: at for asset, at in intents.items() if asset not in found}
            found.update(self._candidates(missing, sources, claimed))
            return len(found) == len(intents)

        if intents:
            patience = max(intents.values()) + RECOVERY_WINDOW - time.time()
            Retrying(
                retry=retry_if_result(lambda complete: not complete),
                wait=wait_fixed(2),
                stop=stop_after_delay(max(patience, 0.0)),
                retry_error_callback=lambda _: None,
            )(look)
            log.info("Recovered %d/%d submissions whose answer was lost.", len(found), len(intents))
        return found

    def _candidates(
        self, intents: Mapping[str, float], sources: Mapping[str, Asset], claimed: set[str]
    ) -> dict[str, Record]:
        titles = Counter(sources[asset].title or "" for asset in intents)
        since = datetime.fromtimestamp(min(intents.values()), timezone.utc)
        listed = self._hook.client.find_audio_assets(set(titles), self._audio_format, since=since)
        found: dict[str, Record] = {}
        for asset, intended in intents.items():
            title = sources[asset].title or ""
            earliest = datetime.fromtimestamp(int(intended), timezone.utc) - CLOCK_MARGIN
            candidates = [
                audio.asset_id
                for audio in listed
                if audio.title == title and audio.created >= earliest and audio.asset_id not in claimed
            ]
            if len(candidates) == 1 and titles[title] == 1:
                self._ledger.accept(asset, candidates[0], intended)
                found[asset] = self._submitted(asset, candidates[0], intended)
            elif candidates:
                error = AmbiguousExtractionError(
                    f"A submission whose answer was lost may have made any of the audio assets "
                    f"{', '.join(candidates)}.",
                    asset=asset,
                )
                found[asset] = AssetFailure.of(asset, error)
        return found

    def _deliver(
        self, extraction: SubmittedExtraction, audio: Asset, destination: Destination | None
    ) -> ExtractedAudio:
        record = extracted(extraction, audio, self._hook.vod_conn_id)
        return record if destination is None else self._copy(record, destination)

    def _copy(self, record: ExtractedAudio, destination: Destination) -> ExtractedAudio:
        name = file_stem(record.asset) + media.EXTENSIONS[record.audio_format]
        with destination.writing(name) as path:
            self._hook.client.download(record.audio_asset_id or "", path)
            info = media.probe(path)
        track = info.audio[0]
        return ExtractedAudio(
            **{
                **record.to_json(),
                "uri": destination.uri(name),
                "codec": track.codec,
                "duration": info.duration,
                "size": info.size,
                "sample_rate": track.sample_rate,
                "channels": track.channels,
            }
        )

    def _give_up(self, extraction: SubmittedExtraction, audio: Asset) -> None:
        self.cancel([extraction])
        raise ExtractionTimeoutError(
            f"The audio asset {audio.asset_id} is still {audio.status or 'unknown'}.", asset=extraction.asset
        )

    def _is_usable(self, audio: Asset, accepted: float) -> bool:
        return audio.readiness is Readiness.READY or not audio.settled(grace=within_grace(accepted))

    def _submitted(self, asset: str, audio_asset_id: str, accepted: float) -> SubmittedExtraction:
        return SubmittedExtraction(
            asset=asset,
            audio_asset_id=audio_asset_id,
            audio_format=self._audio_format,
            accepted=accepted,
        )


def cancel_words(cancelled: bool) -> str:
    """What to say of an attempt to cancel: only queued extractions can be (contract, section 4)."""
    return "cancelled" if cancelled else "already running or ended, VOD cannot cancel it"


def progress_logger(total: int) -> Callable[[Mapping[str, Asset], float], None]:
    """Give the ``on_poll`` of a wait: one line each time that more of a batch is ready or failed."""
    settled: set[str] = set()
    told: int | None = None

    def on_poll(read: Mapping[str, Asset], pause: float) -> None:
        nonlocal told
        settled.update(asset_id for asset_id, asset in read.items() if asset.settled(grace=True))
        if len(settled) != told:
            log.info("Ready %d/%d audio assets, next look in %.0f s.", len(settled), total, pause)
        told = len(settled)

    return on_poll


def within_grace(accepted: float) -> bool:
    """Whether an audio asset accepted then (seconds since the epoch) may still be invisible."""
    return time.time() < accepted + VISIBILITY_GRACE
