"""Extraction by Huawei Cloud VOD: one of the two engines behind ExtractAudioOperator."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from vod import media
from vod.batch.ledger import Ledger
from vod.cloud.assets import Asset, Readiness
from vod.cloud.client import CLOCK_MARGIN
from vod.cloud.errors import (
    AccountError,
    AmbiguousExtractionError,
    AnswerLostError,
    AssetNotFoundError,
    AssetNotSupportedError,
    CloudError,
    ExtractionFailedError,
    InvalidRequestError,
    NotSentError,
    SourceNotReadyError,
    ThrottledError,
)
from vod.engines.cancel import ALL_WOULD_FAIL, cancel
from vod.errors import VodError
from vod.hooks import VodHook
from vod.locations import asset_uri, file_stem
from vod.records import (
    AssetFailure,
    ExtractedAudio,
    PostponedExtraction,
    Record,
    SubmittedExtraction,
    parse_record,
)
from vod.storage.files import Destination, not_written

log = logging.getLogger(__name__)

VISIBILITY_GRACE = 60.0
"""Seconds after the acceptance in which VOD may not know the audio asset yet (contract, section 5.3)."""

RECOVERY_WINDOW = 15.0
"""Seconds in which the list may not show a new audio asset yet: a guess, the contract has no number."""

_SECONDS_BETWEEN_WORDS = 10.0

_NOBODY_IS_TAKEN = (ThrottledError, NotSentError)

_LOST = AnswerLostError.outcome
_MOST_LOST = 3
"""Lost answers in a row after which VOD counts as out of order: more submissions would only be lost too."""

_TAKEN_BACK = ("CANCELLED", "DELETING", "DELETED", "DELETE_FAILED")
"""States of an audio asset that somebody else, not the extraction, has brought about."""

_REFUSALS = (AccountError, AssetNotSupportedError, ExtractionFailedError, SourceNotReadyError)
"""What another engine may still do from the original."""


class SubmissionStoppedError(VodError):
    """Somebody ended the task while it submitted."""

    outcome = "cancelled"
    retryable = True
    remedy = "Clear the task to go on: what was submitted and not cancelled is not submitted again."


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
    :param destination: Where to copy the audio; ``None`` leaves it in VOD.
    :param patience: Seconds before an asset that VOD does not take yet is submitted again; doubled each
        time, up to twenty times that.
    :param impatient: Do not wait for sources that are not ready as long as their original can be read.
    :param tell: Told in words how far the batch is.
    :param stopping: Set it, from any thread, to have :meth:`submit` stop.
    """

    def __init__(
        self,
        hook: VodHook,
        ledger: Ledger,
        audio_format: str,
        *,
        destination: Destination | None = None,
        patience: float = 15.0,
        impatient: bool = False,
        tell: Callable[[str], None] = log.info,
        stopping: threading.Event | None = None,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._audio_format = audio_format
        self._destination = destination
        self._patience = patience
        self._impatient = impatient
        self._tell = tell
        self._stopping = stopping or threading.Event()
        self.refused: set[str] = set()
        """Assets that VOD does not extract, and that another engine may."""
        self._earlier: dict[str, PostponedExtraction] = {}
        self.underway: list[SubmittedExtraction] = []
        """What is waited for. Another thread may read it at any time."""

    def submit(
        self, assets: Iterable[str], postponed: Mapping[str, PostponedExtraction] | None = None
    ) -> dict[str, Record]:
        """Submit each asset for which no earlier try did so.

        :param postponed: What became of assets that were submitted before.
        :returns: for each asset an :class:`ExtractedAudio` that was ready, a :class:`SubmittedExtraction`, a
            :class:`PostponedExtraction` if it may be taken later, or the :class:`AssetFailure` that prevents
            it.
        :raises CloudError: a refusal that concerns all assets, found before anything was submitted.
        :raises SubmissionStoppedError: *stopping* was set.
        """
        wanted = list(assets)
        self._earlier = dict(postponed or {})
        entries = {asset: self._ledger.get(asset) or {} for asset in wanted}
        outcomes: dict[str, Record] = {
            asset: parse_record(entry["failure"]) for asset, entry in entries.items() if "failure" in entry
        }
        self.refused.update(asset for asset in outcomes if entries[asset]["refused"])
        accepted = {asset: entry["audio"] for asset, entry in entries.items() if "audio" in entry}
        try:
            read, malformed = self._read([*(entries.keys() - outcomes.keys()), *accepted.values()])
        except CloudError as error:
            if not error.retryable:
                raise
            rest = [asset for asset in wanted if asset not in outcomes]
            return outcomes | {asset: self._postponed(asset, error) for asset in rest}
        for asset, refusal in malformed.items():
            if asset not in entries:  # an audio asset's, which came from VOD
                raise refusal
            outcomes[asset] = failure = AssetFailure.of(asset, refusal)
            self._ledger.fail(asset, failure.to_json(), refused=False)
        for asset, audio in accepted.items():
            extraction = self._submitted(asset, audio, entries[asset]["accepted"])
            if read[audio].readiness is Readiness.READY:
                outcomes[asset] = self._outcome(extraction, read[audio])
            elif not read[audio].settled(grace=within_grace(extraction.accepted)):
                outcomes[asset] = extraction
                self.underway.append(extraction)
            elif read[audio].readiness is Readiness.FAILED and read[audio].status not in _TAKEN_BACK:
                if self._impatient or self._ledger.is_second(asset):
                    outcomes[asset] = self._outcome(extraction, read[audio])
                else:
                    self._ledger.again(asset)
        intents = {asset: entry["intended"] for asset, entry in entries.items() if "intended" in entry}
        sought = {asset for asset, earlier in self._earlier.items() if earlier.failure["outcome"] == _LOST}
        outcomes |= self._recover(intents, read, 0.0 if intents.keys() <= sought else RECOVERY_WINDOW)
        outcomes |= self._submit_all([read[asset] for asset in wanted if asset not in outcomes], read)
        self._ledger.save()
        return {asset: outcomes[asset] for asset in wanted}

    def _read(self, ids: Sequence[str]) -> tuple[dict[str, Asset], dict[str, InvalidRequestError]]:
        """Read assets, and find the ids that VOD calls malformed: for one, it refuses the whole call."""
        try:
            return self._hook.client.asset_info(ids), {}
        except InvalidRequestError as error:
            if len(ids) == 1:
                return {}, {ids[0]: error}
        half = len(ids) // 2
        (some, bad), (others, worse) = self._read(ids[:half]), self._read(ids[half:])
        return some | others, bad | worse

    def collect(self, submitted: Iterable[SubmittedExtraction], *, last: bool) -> dict[str, Record]:
        """Turn extractions that were waited for into audio, or into the reason why there is none.

        :param last: Whether the time is up: what is not settled is cancelled where it is still queued, and
            has failed, and so has what cannot be read. Otherwise it is returned as it is.
        :raises CloudError: a refusal that will not pass.
        """
        extractions = list(submitted)
        self.underway = [*extractions]
        try:
            read = self._hook.client.asset_info(extraction.audio_asset_id for extraction in extractions)
        except CloudError as error:
            if not error.retryable:
                raise
            log.warning("VOD cannot be read%s: %s", "" if last else ", waiting on", error)
            return {
                extraction.asset: AssetFailure.of(extraction.asset, error) if last else extraction
                for extraction in extractions
            }
        outcomes: dict[str, Record] = {}
        late: list[SubmittedExtraction] = []
        settled = {
            extraction.asset
            for extraction in extractions
            if read[extraction.audio_asset_id].settled(grace=within_grace(extraction.accepted))
        }
        self.underway = [extraction for extraction in extractions if extraction.asset not in settled]
        for extraction in extractions:
            audio = read[extraction.audio_asset_id]
            if extraction.asset in settled:
                outcomes[extraction.asset] = self._outcome(extraction, audio)
            elif last:
                late.append(extraction)
                timeout = ExtractionTimeoutError(
                    f"The audio asset {audio.asset_id} is still {audio.status or 'unknown'}.",
                    asset=extraction.asset,
                )
                outcomes[extraction.asset] = AssetFailure.of(extraction.asset, timeout)
            else:
                outcomes[extraction.asset] = extraction
        cancelled = cancel(self._hook.settings, late)
        for asset in cancelled:
            self._ledger.forget(asset)
        self._ledger.save()
        return outcomes

    def _submit_all(self, sources: list[Asset], read: Mapping[str, Asset]) -> dict[str, Record]:
        outcomes: dict[str, Record] = {}
        lost: dict[str, float] = {}
        in_a_row = 0
        stopped: CloudError | None = None
        progress = Progress("Submitted", len(sources), "assets to VOD", self._tell)
        for source in sources:
            asset = source.asset_id
            if stopped:
                outcomes[asset] = self._refusal(source, stopped)
                continue
            try:
                outcomes[asset] = extraction = self._submit_one(source)
                self.underway.append(extraction)
                in_a_row = 0
                progress.step()
            except CloudError as error:
                outcomes[asset] = self._refusal(source, error)
                if isinstance(error, AnswerLostError):
                    lost[asset] = time.time()
                in_a_row = in_a_row + 1 if isinstance(error, AnswerLostError) else 0
                if isinstance(error, ALL_WOULD_FAIL + _NOBODY_IS_TAKEN) or in_a_row == _MOST_LOST:
                    stopped = error
        progress.end()
        if lost:
            outcomes |= self._recover(lost, read, RECOVERY_WINDOW)
        return outcomes

    def _submit_one(self, source: Asset) -> SubmittedExtraction:
        asset = source.asset_id
        if self._stopping.is_set():
            raise SubmissionStoppedError("The task was ended while it submitted.")
        if source.readiness is Readiness.GONE:
            raise AssetNotFoundError("VOD knows no such asset.", asset=asset)
        if source.is_audio:
            raise AssetNotSupportedError(
                f"This is already an audio asset ({source.container}); VOD extracts only from videos.",
                asset=asset,
            )
        if source.status == "CREATING":
            raise SourceNotReadyError("The video is still being created.", asset=asset)
        self._ledger.intend(asset, time.time())
        try:
            submission = self._hook.client.extract_audio(asset, self._audio_format)
        except AnswerLostError:
            raise  # the intent stays: the audio asset is looked for before anything is submitted again
        except CloudError:
            self._ledger.forget(asset)
            raise
        # Not the time of the intent: the submission may have waited long for its turn in the quota.
        return self._accepted(asset, submission.audio_asset_id)

    def _refusal(self, source: Asset, error: CloudError) -> Record:
        """What becomes of an asset that was not taken."""
        asset = source.asset_id
        failure = AssetFailure.of(asset, error)
        if isinstance(error, SourceNotReadyError) and self._impatient and source.url:
            self.refused.add(asset)
            return failure
        if error.retryable:
            processed = source.readiness is Readiness.TRANSIENT
            watch = processed and isinstance(error, SourceNotReadyError)
            return self._postponed(asset, error, watch=watch)
        if isinstance(error, _REFUSALS):
            self.refused.add(asset)
        if not isinstance(error, ALL_WOULD_FAIL):
            self._ledger.fail(asset, failure.to_json(), refused=asset in self.refused)
        return failure

    def _postponed(self, asset: str, error: CloudError, *, watch: bool = False) -> PostponedExtraction:
        earlier = self._earlier.get(asset)
        tries = earlier.tries if earlier else 0
        return PostponedExtraction(
            asset=asset,
            again=time.time() + self._patience * min(2**tries, 20),
            tries=tries + 1,
            watch=watch,
            failure=AssetFailure.of(asset, error).to_json(),
        )

    def _outcome(self, extraction: SubmittedExtraction, audio: Asset) -> Record:
        asset = extraction.asset
        try:
            record = extracted(extraction, audio, self._hook.vod_conn_id)
            return self._copy(record) if self._destination else record
        except ExtractionFailedError as error:
            if not self._impatient and not self._ledger.is_second(asset):
                self._ledger.again(asset)
                return self._postponed(asset, error)
            failure = AssetFailure.of(asset, error)
            self.refused.add(asset)
            self._ledger.fail(asset, failure.to_json(), refused=True)
            return failure
        except VodError as error:
            return AssetFailure.of(asset, error)

    def _recover(
        self, intents: Mapping[str, float], sources: Mapping[str, Asset], patience: float
    ) -> dict[str, Record]:
        """Find the audio assets of submissions that may have been accepted (contract, section 3).

        :param intents: When each submission was about to be sent.
        :param patience: Seconds to go on looking, since a new asset may take a moment to be listed. Counted
            from now: how long a submission waited for its turn in the quota before it was sent, nobody knows.
        :returns: an outcome for each asset that was found, or of which several were found, or for which VOD
            could not be asked.
        """
        found: dict[str, Record] = {}
        unasked: CloudError | None = None

        def look() -> bool:
            nonlocal unasked
            missing = {asset: at for asset, at in intents.items() if asset not in found}
            try:
                found.update(self._candidates(missing, sources))
            except CloudError as error:
                if not error.retryable:
                    raise
                unasked = error
                return False
            unasked = None
            return len(found) == len(intents)

        if not intents:
            return {}
        Retrying(
            retry=retry_if_result(lambda complete: not complete),
            wait=wait_fixed(2),
            stop=stop_after_delay(patience),
            retry_error_callback=lambda _: None,
        )(look)
        log.info("Recovered %d/%d submissions whose answer was lost.", len(found), len(intents))
        self.underway += [outcome for outcome in found.values() if isinstance(outcome, SubmittedExtraction)]
        if unasked:
            # Whoever submitted these again now might do it a second time.
            found |= {asset: self._postponed(asset, unasked) for asset in intents if asset not in found}
        return found

    def _candidates(self, intents: Mapping[str, float], sources: Mapping[str, Asset]) -> dict[str, Record]:
        claimed = self._ledger.audio_assets()
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
                found[asset] = self._accepted(asset, candidates[0])
            elif candidates:
                error = AmbiguousExtractionError(
                    f"A submission whose answer was lost may have made any of the audio assets "
                    f"{', '.join(candidates)}.",
                    asset=asset,
                )
                found[asset] = AssetFailure.of(asset, error)
        return found

    def _copy(self, record: ExtractedAudio) -> ExtractedAudio:
        assert self._destination
        name = file_stem(record.asset) + media.EXTENSIONS[record.audio_format]
        try:
            with self._destination.writing(name) as path:
                self._hook.client.download(record.audio_asset_id or "", path)
                info = media.probe(path)
                if not info.audio:
                    raise ExtractionFailedError("VOD's audio asset has no audio track.", asset=record.asset)
        except OSError as error:
            raise not_written(self._destination.uri(name), error) from error
        track = info.audio[0]
        return replace(
            record,
            uri=self._destination.uri(name),
            codec=track.codec,
            duration=info.duration,
            size=info.size,
            sample_rate=track.sample_rate,
            channels=track.channels,
        )

    def _accepted(self, asset: str, audio_asset_id: str) -> SubmittedExtraction:
        now = time.time()
        self._ledger.accept(asset, audio_asset_id, now)
        return self._submitted(asset, audio_asset_id, now)

    def _submitted(self, asset: str, audio_asset_id: str, accepted: float) -> SubmittedExtraction:
        return SubmittedExtraction(
            asset=asset, audio_asset_id=audio_asset_id, audio_format=self._audio_format, accepted=accepted
        )


class Progress:
    """Tells how far a batch is: now and then, and at its end.

    :param tell: Gets the words.
    """

    def __init__(self, done: str, total: int, what: str, tell: Callable[[str], None]) -> None:
        self._words = f"{done} {{}}/{total} {what}."
        self._tell = tell
        self._count = 0
        self._total = total
        self._told_at = time.monotonic()

    def step(self) -> None:
        self._count += 1
        if self._count < self._total and time.monotonic() - self._told_at >= _SECONDS_BETWEEN_WORDS:
            self.end()

    def end(self) -> None:
        self._told_at = time.monotonic()
        if self._total:
            self._tell(self._words.format(self._count))


class ReadyShare:
    """The ``on_poll`` of a wait for a batch: says each time that more of it is ready or has failed.

    :param total: Audio assets that are waited for.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._settled: set[str] = set()
        self._told: int | None = None

    def __call__(self, read: Mapping[str, Asset], pause: float) -> None:
        self._settled.update(asset_id for asset_id, asset in read.items() if asset.settled(grace=True))
        settled = len(self._settled)
        if settled != self._told:
            log.info("Ready %d/%d audio assets, next look in %.0f s.", settled, self._total, pause)
        self._told = settled

    @property
    def share(self) -> float:
        """What is settled, from 0 to 1."""
        return len(self._settled) / self._total


def within_grace(accepted: float) -> bool:
    """Whether an audio asset accepted then (seconds since the epoch) may still be invisible."""
    return time.time() < accepted + VISIBILITY_GRACE
