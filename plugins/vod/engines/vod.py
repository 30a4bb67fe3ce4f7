"""Extraction by Huawei Cloud VOD: submit, wait elsewhere, collect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from vod import media
from vod.batch.ledger import Ledger
from vod.cloud.assets import Asset, Readiness
from vod.cloud.errors import (
    AmbiguousExtractionError,
    AnswerLostError,
    AssetNotFoundError,
    AssetNotSupportedError,
    CloudError,
    ExtractionFailedError,
    NotSentError,
    SourceNotReadyError,
    ThrottledError,
)
from vod.engines import Outcomes, SubmissionStoppedError
from vod.engines.audio_assets import collect, read_assets, result_of, within_grace
from vod.engines.cancel import CONCERNS_THE_ACCOUNT, cancel_queued
from vod.engines.lost_answers import (
    MIN_LOOKS,
    RECOVERY_WINDOW,
    Finding,
    LostAnswer,
    find_audio_assets,
)
from vod.errors import InvalidInputError, VodError
from vod.hooks import VodHook
from vod.locations import file_stem, is_asset_id
from vod.logs import get_logger
from vod.records import (
    AssetFailure,
    ExtractedAudio,
    PostponedExtraction,
    Record,
    SubmittedExtraction,
    parse_record,
)
from vod.storage.files import Destination, not_written

log = get_logger(__name__)

_NONE_WOULD_BE_ACCEPTED = (*CONCERNS_THE_ACCOUNT, ThrottledError, NotSentError)
_MAX_LOST = 3
"""Lost answers in a row after which VOD counts as out of order: more submissions would only be lost too."""

_ENDED_BY_OTHERS = ("CANCELLED", "DELETING", "DELETED", "DELETE_FAILED")
"""States of an audio asset that a person or another program has caused, not the extraction."""

_SECONDS_BETWEEN_MESSAGES = 10.0


class AudioNotReadyError(VodError):
    """VOD had not finished the audio when the task's time was up."""

    outcome = "not_ready"
    retryable = True
    remedy = "Raise the task's timeout, or try again: an extraction that already runs is not submitted twice."


class VodEngine:
    """Extraction by the service.

    :param hook: The connection.
    :param ledger: Remembers each submission before and after it is sent.
    :param destination: Where to copy the audio; ``None`` leaves it in VOD.
    :param tries: How often an asset is extracted that VOD ends without audio.
    :param retry_delay: Seconds before an asset that VOD does not take yet is submitted again; doubled each
        time, up to twenty times that.
    :param cancel_on_kill: Whether :meth:`cancel` cancels what VOD has queued.
    :param report: Gets messages about how far the batch is.
    """

    def __init__(
        self,
        hook: VodHook,
        ledger: Ledger,
        audio_format: str,
        *,
        destination: Destination | None = None,
        tries: int = 2,
        retry_delay: float = 15.0,
        cancel_on_kill: bool = True,
        report: Callable[[str], None] = log.info,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._audio_format = audio_format
        self._destination = destination
        self._tries = tries
        self._retry_delay = retry_delay
        self._cancel_on_kill = cancel_on_kill
        self._report = report
        self._stopping = threading.Event()
        # What is waited for. Another thread may take from it at any time.
        self._under_way: list[SubmittedExtraction] = []

    def start(self, assets: Sequence[str]) -> Outcomes:
        """Submit each asset for which no earlier try did so.

        :returns: for each asset an :class:`ExtractedAudio` that was ready, a :class:`SubmittedExtraction`, a
            :class:`PostponedExtraction` if VOD may take it later, or an :class:`AssetFailure`.
        :raises InvalidInputError: one of them is no asset id.
        :raises CloudError: a refusal that concerns all assets, found before anything was submitted.
        :raises SubmissionStoppedError: :meth:`cancel` was called.
        """
        for asset in assets:
            if not is_asset_id(asset):
                raise InvalidInputError(
                    "VOD extracts only from its own assets.",
                    asset=asset,
                    remedy="Give an asset id, or use engine='ffmpeg' for files and URLs.",
                )
        return self._submit(assets, {})

    def advance(self, outcomes: Mapping[str, Record], *, time_is_up: bool) -> Outcomes:
        """Collect what is ready, and submit what was postponed and is due.

        When the time is up, what VOD still has queued is cancelled.
        """
        submitted = [outcome for outcome in outcomes.values() if isinstance(outcome, SubmittedExtraction)]
        postponed = [outcome for outcome in outcomes.values() if isinstance(outcome, PostponedExtraction)]
        result = self._collect(submitted, time_is_up=time_is_up)
        if time_is_up:
            return result | {outcome.asset: parse_record(outcome.failure) for outcome in postponed}
        now = time.time()
        due = {outcome.asset: outcome for outcome in postponed if outcome.watch or outcome.again <= now}
        result |= {outcome.asset: outcome for outcome in postponed if outcome.asset not in due}
        return result | (self._submit(list(due), due) if due else {})

    def cancel(self) -> None:
        """Submit nothing more; cancel what VOD has queued, if ``cancel_on_kill`` says so."""
        self._stopping.set()
        taken = []
        with suppress(IndexError):  # the task goes on beside this, and may end it as well
            while True:
                taken.append(self._under_way.pop())
        if self._cancel_on_kill:
            cancel_queued(self._hook.settings, taken)

    def _submit(self, assets: Sequence[str], postponed: Mapping[str, PostponedExtraction]) -> Outcomes:
        """:param postponed: What became of assets that were submitted before."""
        entries = {asset: self._ledger.get(asset) or {} for asset in assets}
        outcomes: Outcomes = {
            asset: parse_record(entry["failure"]) for asset, entry in entries.items() if "failure" in entry
        }
        accepted = {
            asset: self._submitted(asset, entry["audio"], entry["accepted"])
            for asset, entry in entries.items()
            if "audio" in entry
        }
        audio_ids = [extraction.audio_asset_id for extraction in accepted.values()]
        try:
            read, malformed = read_assets(
                self._hook.client, [*(asset for asset in assets if asset not in outcomes), *audio_ids]
            )
        except CloudError as error:
            if not error.retryable:
                raise
            rest = [asset for asset in assets if asset not in outcomes]
            return outcomes | {asset: self._postponed(asset, error, postponed) for asset in rest}
        for asset, refusal in malformed.items():
            if asset not in entries:  # an audio asset's, which came from VOD
                raise refusal
            outcomes[asset] = self._failed(asset, refusal)
        for asset, extraction in accepted.items():
            if outcome := self._earlier_outcome(extraction, read[extraction.audio_asset_id]):
                outcomes[asset] = outcome
        intents = {asset: entry["intended"] for asset, entry in entries.items() if "intended" in entry}
        outcomes |= self._recover(intents, read, postponed, RECOVERY_WINDOW)
        missing = [read[asset] for asset in assets if asset not in outcomes]
        outcomes |= self._submit_all(missing, read, postponed)
        self._ledger.save()
        return {asset: outcomes[asset] for asset in assets}

    def _earlier_outcome(self, extraction: SubmittedExtraction, audio: Asset) -> Record | None:
        """What has become of an extraction of an earlier try; ``None`` if it is to be submitted again."""
        asset = extraction.asset
        if audio.readiness is Readiness.READY:
            return self._finished(extraction, result_of(extraction, audio, self._hook.vod_conn_id))
        if not audio.settled(grace=within_grace(extraction.accepted)):
            self._under_way.append(extraction)
            return extraction
        if audio.readiness is not Readiness.FAILED or audio.status in _ENDED_BY_OTHERS:
            return None
        if self._may_try_again(asset):
            self._ledger.again(asset)
            return None
        return self._finished(extraction, result_of(extraction, audio, self._hook.vod_conn_id))

    def _may_try_again(self, asset: str) -> bool:
        return self._tries > 1 and not self._ledger.is_second(asset)

    def _submit_all(
        self,
        sources: list[Asset],
        read: Mapping[str, Asset],
        postponed: Mapping[str, PostponedExtraction],
    ) -> Outcomes:
        outcomes: Outcomes = {}
        lost: dict[str, float] = {}
        submitted = lost_in_a_row = 0
        refused_all: CloudError | None = None
        reported_at = time.monotonic()
        for source in sources:
            asset = source.asset_id
            if refused_all:
                outcomes[asset] = self._refused(source, refused_all, postponed)
                continue
            try:
                outcomes[asset] = extraction = self._submit_one(source)
            except CloudError as error:
                outcomes[asset] = self._refused(source, error, postponed)
                if isinstance(error, AnswerLostError):
                    lost[asset] = time.time()
                    lost_in_a_row += 1
                else:
                    lost_in_a_row = 0
                if isinstance(error, _NONE_WOULD_BE_ACCEPTED) or lost_in_a_row == _MAX_LOST:
                    refused_all = error
            else:
                self._under_way.append(extraction)
                lost_in_a_row = 0
                submitted += 1
                if time.monotonic() - reported_at >= _SECONDS_BETWEEN_MESSAGES:
                    reported_at = time.monotonic()
                    self._report(f"Submitted {submitted}/{len(sources)} assets to VOD.")
        if sources:
            self._report(f"Submitted {submitted}/{len(sources)} assets to VOD.")
        return outcomes | self._recover(lost, read, postponed, RECOVERY_WINDOW)

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

    def _refused(
        self, source: Asset, error: CloudError, postponed: Mapping[str, PostponedExtraction]
    ) -> Record:
        """What becomes of an asset that VOD did not accept."""
        asset = source.asset_id
        if error.retryable:
            not_ready = isinstance(error, SourceNotReadyError)
            return self._postponed(
                asset,
                error,
                postponed,
                watch=not_ready and source.readiness is Readiness.TRANSIENT,
                # As long as there is no URL, no other engine can read the original either.
                other_engine=error.other_engine and bool(source.url),
            )
        if isinstance(error, CONCERNS_THE_ACCOUNT):  # may be in order at the next try
            return AssetFailure.from_error(asset, error)
        return self._failed(asset, error)

    def _failed(self, asset: str, error: CloudError) -> AssetFailure:
        """A failure that no retry can change."""
        failure = AssetFailure.from_error(asset, error)
        self._ledger.fail(asset, failure.to_json())
        return failure

    def _postponed(
        self,
        asset: str,
        error: CloudError,
        postponed: Mapping[str, PostponedExtraction],
        *,
        watch: bool = False,
        other_engine: bool = False,
    ) -> PostponedExtraction:
        failure = replace(AssetFailure.from_error(asset, error), other_engine=other_engine)
        earlier = postponed.get(asset)
        tries = earlier.tries if earlier else 0
        return PostponedExtraction(
            asset=asset,
            again=time.time() + self._retry_delay * min(2**tries, 20),
            tries=tries + 1,
            watch=watch,
            failure=failure.to_json(),
        )

    def _collect(self, submitted: list[SubmittedExtraction], *, time_is_up: bool) -> Outcomes:
        self._under_way = [*submitted]
        outcomes = collect(self._hook.client, submitted, self._hook.vod_conn_id, time_is_up=time_is_up)
        still_running = [outcome for outcome in outcomes.values() if isinstance(outcome, SubmittedExtraction)]
        self._under_way = [*still_running]
        for extraction in submitted:
            if not isinstance(outcome := outcomes[extraction.asset], SubmittedExtraction):
                outcomes[extraction.asset] = self._finished(extraction, outcome)
        if time_is_up:
            for extraction in still_running:
                error = AudioNotReadyError(
                    f"The audio asset {extraction.audio_asset_id} is still {extraction.status or 'unknown'}."
                )
                outcomes[extraction.asset] = AssetFailure.from_error(extraction.asset, error)
            for asset in cancel_queued(self._hook.settings, still_running):
                self._ledger.forget(asset)
        self._ledger.save()
        return outcomes

    def _finished(self, extraction: SubmittedExtraction, outcome: Record) -> Record:
        """What becomes of an extraction that VOD has ended."""
        asset = extraction.asset
        if isinstance(outcome, ExtractedAudio) and self._destination:
            outcome = self._copied(outcome)
        if not isinstance(outcome, AssetFailure) or outcome.outcome != ExtractionFailedError.outcome:
            return outcome
        if self._may_try_again(asset):
            self._ledger.again(asset)
            return PostponedExtraction(
                asset=asset,
                again=time.time() + self._retry_delay,
                tries=1,
                watch=False,
                failure=outcome.to_json(),
            )
        self._ledger.fail(asset, outcome.to_json())
        return outcome

    def _recover(
        self,
        intents: Mapping[str, float],
        sources: Mapping[str, Asset],
        postponed: Mapping[str, PostponedExtraction],
        window: float,
    ) -> Outcomes:
        """Take over the audio assets of submissions whose answers were lost.

        :param window: Seconds over which VOD must have listed none before one is submitted again.
        :returns: nothing for those that are to be submitted again.
        """
        if not intents:
            return {}
        clock = self._hook.client.clock
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
            )
        except CloudError as error:
            if not error.retryable:
                raise
            return {asset: self._postponed(asset, error, postponed) for asset in intents}
        outcomes: Outcomes = {}
        for asset, finding in findings.items():
            if finding.audio:
                outcomes[asset] = extraction = self._accepted(asset, finding.audio)
                self._under_way.append(extraction)
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
                outcomes[asset] = self._postponed(asset, question, postponed)
        found = sum(bool(finding.audio) for finding in findings.values())
        log.info("Found the audio of %d of %d submissions whose answer was lost.", found, len(findings))
        return outcomes

    def _search(self, asset: str, intended: float) -> dict[str, Any]:
        """How far the search for the audio of a lost answer is: times are VOD's, which all workers share."""
        clock, entry = self._hook.client.clock, self._ledger.get(asset) or {}
        begun = {
            "since": clock.of(entry.get("intended", intended)),
            "lost": clock.time(),
            "looks": 0,
            "seen": [],
        }
        return {**begun, **(entry.get("search") or {})}

    def _copied(self, record: ExtractedAudio) -> Record:
        try:
            return self._copy(record)
        except VodError as error:
            return AssetFailure.from_error(record.asset, error)

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
