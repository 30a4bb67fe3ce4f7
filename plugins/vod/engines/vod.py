"""Extraction by Huawei Cloud VOD: submit, wait elsewhere, collect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from vod.batch.ledger import Ledger
from vod.cloud.assets import Asset, Readiness
from vod.cloud.errors import (
    AuthenticationError,
    CloudError,
    ExtractionFailedError,
)
from vod.engines import Outcomes, count_extracted
from vod.engines.audio_assets import (
    MAX_CONFIRMATIONS,
    collect,
    confirmed_gone,
    doubted,
    read_assets,
    result_of,
    within_grace,
)
from vod.engines.cancel import CONCERNS_THE_ACCOUNT, cancel_queued
from vod.engines.claims import EngineClaims, waits_for_quota
from vod.engines.copies import Copies
from vod.engines.lost_answers import RECOVERY_WINDOW
from vod.engines.recovery import Recovery
from vod.engines.submission import Submitter
from vod.errors import InvalidInputError, VodError
from vod.hooks import VodHook
from vod.library.pace import Pace
from vod.library.register import Claims, Entry, Register
from vod.locations import is_asset_id, public_name
from vod.logs import get_logger
from vod.records import (
    AssetFailure,
    ExtractedAudio,
    PostponedExtraction,
    Record,
    SubmittedExtraction,
    parse_record,
)
from vod.storage.destination import Destination

if TYPE_CHECKING:
    from vod.library.register import Made

log = get_logger(__name__)

_ENDED_BY_OTHERS = ("CANCELLED", "DELETING", "DELETED", "DELETE_FAILED")
"""States of an audio asset that a person or another program has caused, not the extraction."""


class AudioNotReadyError(VodError):
    """VOD had not finished the audio when the task's time was up."""

    outcome = "not_ready"
    retryable = True
    remedy = "Raise the task's timeout, or try again: an extraction that already runs is not submitted twice."


class VodEngine:
    """Extraction by the service.

    :param hook: The connection.
    :param ledger: Remembers each submission before and after it is sent.
    :param register: What all tasks know together; without one, only this task's ledger is known.
    :param pace: The quota that all tasks share; without one, this process paces itself.
    :param force: Extract again what is in the register.
    :param destination: Where to copy the audio; ``None`` leaves it in VOD.
    :param tries: How often an asset is extracted that VOD ends without audio.
    :param retry_delay: Seconds before an asset that VOD does not take yet is submitted again; doubled each
        time, up to twenty times that.
    :param cancel_on_kill: Whether :meth:`cancel` cancels what VOD has queued.
    :param recovery_window: Seconds over which VOD must have listed no audio of a submission whose answer was
        lost, before it is sent again.
    :param made: Looks at what the fallback has made; ``None`` if there is no fallback.
    :param report: Gets messages about how far the batch is.
    """

    def __init__(
        self,
        hook: VodHook,
        ledger: Ledger,
        audio_format: str,
        *,
        register: Register | None = None,
        pace: Pace | None = None,
        force: bool = False,
        destination: Destination | None = None,
        tries: int = 2,
        retry_delay: float = 15.0,
        cancel_on_kill: bool = True,
        recovery_window: float = RECOVERY_WINDOW,
        made: Made | None = None,
        report: Callable[[str], None] = log.info,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._audio_format = audio_format
        self._register = register
        self._pace = pace
        self._confirmations = 0
        self._tries = tries
        self._retry_delay = retry_delay
        self._cancel_on_kill = cancel_on_kill
        self._stopping = threading.Event()
        self._copies = (
            Copies(hook, ledger, destination, stopping=self._stopping, report=report) if destination else None
        )
        # What is waited for. Another thread may take from it at any time.
        self._under_way: list[SubmittedExtraction] = []
        # Whose audio other tasks want as well.
        self._with_others: set[str] = set()
        self._claims = (
            EngineClaims(register, force=force, pause=retry_delay, made=made, report=report)
            if register
            else None
        )
        self._submitter = Submitter(
            hook,
            ledger,
            audio_format,
            claims=self._claims,
            pace=pace,
            retry_delay=retry_delay,
            stopping=self._stopping,
            is_gone=self._is_gone,
            on_accepted=self._wait_for,
            report=report,
        )
        self._recovery = Recovery(
            hook,
            ledger,
            audio_format,
            self._submitter,
            claims=self._claims,
            on_accepted=self._wait_for,
            window=recovery_window,
        )

    def start(self, assets: Sequence[str]) -> Outcomes:
        """Submit each asset for which no earlier try did so.

        :returns: for each asset an :class:`ExtractedAudio` that was ready, a :class:`SubmittedExtraction`, a
            :class:`PostponedExtraction` if VOD may take it later, or an :class:`AssetFailure`.
        :raises CloudError: a refusal that concerns all assets, found before anything was submitted.
        :raises SubmissionStoppedError: :meth:`cancel` was called.
        """
        outcomes: Outcomes = {asset: _no_id(asset) for asset in assets if not is_asset_id(asset)}
        ids = [asset for asset in assets if asset not in outcomes]
        try:
            outcomes |= self._submit(ids, {})
        except CONCERNS_THE_ACCOUNT as error:
            if not self._ledger.audio_assets():  # VOD has never accepted the credential: it may be wrong
                raise
            outcomes |= self._submitter.held_up(ids, error, {})
        return {asset: outcomes[asset] for asset in assets}

    def advance(self, outcomes: Mapping[str, Record], *, time_is_up: bool) -> Outcomes:
        """Collect what is ready, and submit what was postponed and is due.

        When the time is up, what VOD still has queued is cancelled.
        """
        submitted = [outcome for outcome in outcomes.values() if isinstance(outcome, SubmittedExtraction)]
        postponed = [outcome for outcome in outcomes.values() if isinstance(outcome, PostponedExtraction)]
        result = self._collect(submitted, time_is_up=time_is_up)
        if time_is_up:
            given_up = {outcome.asset: outcome.given_up for outcome in postponed}
            self.release(given_up)
            return {**result, **given_up}
        # What shared audio has come to may have to be submitted as well.
        postponed += [outcome for outcome in result.values() if isinstance(outcome, PostponedExtraction)]
        now = time.time()
        due = {outcome.asset: outcome for outcome in postponed if _is_due(outcome, now)}
        result |= {outcome.asset: outcome for outcome in postponed if outcome.asset not in due}
        if not due:
            return result
        # No more than VOD takes in a minute: reading the others would be in vain.
        for_quota = [asset for asset, outcome in due.items() if waits_for_quota(outcome)]
        left = for_quota[int(self._hook.client.extractions_per_minute) :] if self._pace else []
        taken = {asset: outcome for asset, outcome in due.items() if asset not in set(left)}
        result |= self._submit_patiently(list(taken), taken)
        return result | {asset: replace(due[asset], again=self._submitter.room_at) for asset in left}

    def release(self, failures: Mapping[str, AssetFailure]) -> None:
        """Let other tasks go on with assets that this one has given up."""
        if self._register:
            self._register.release({asset: failure.to_json() for asset, failure in failures.items()})

    def cancel(self) -> None:
        """Submit and copy nothing more; cancel what VOD has queued, if ``cancel_on_kill`` says so."""
        self._stopping.set()
        taken = []
        with suppress(IndexError):  # the task goes on beside this, and may end it as well
            while True:
                taken.append(self._under_way.pop())
        if self._cancel_on_kill:
            cancelled = cancel_queued(self._hook.settings, taken)
            if self._register:
                self._register.release(dict.fromkeys(cancelled), cancelled=True)

    def _submit(self, assets: Sequence[str], postponed: Mapping[str, PostponedExtraction]) -> Outcomes:
        """:param postponed: What became of assets that were submitted before."""
        entries = {asset: self._ledger.get(asset) or {} for asset in assets}
        outcomes: Outcomes = {
            asset: parse_record(entry["failure"]) for asset, entry in entries.items() if "failure" in entry
        }
        if self._copies:
            outcomes |= self._copies.earlier(entries)
        accepted = {
            asset: self._submitter.submitted(asset, entry["audio"], entry["accepted"])
            for asset, entry in entries.items()
            if "audio" in entry and asset not in outcomes
        }
        rest = [asset for asset in assets if asset not in outcomes and asset not in accepted]
        try:
            claims = self._ask(rest, postponed)
            if self._copies:
                outcomes |= self._copied_before(claims.known)
            accepted |= {
                asset: self._shared(asset, entry)
                for asset, entry in claims.known.items()
                if asset not in outcomes
            }
            if self._claims:
                outcomes |= self._claims.taken_by_others(claims, postponed)
            audio_ids = [extraction.audio_asset_id for extraction in accepted.values()]
            read, malformed = read_assets(
                self._hook.client, [*(asset for asset in assets if asset not in outcomes), *audio_ids]
            )
        except CloudError as error:
            if not error.retryable:
                raise
            rest = [asset for asset in assets if asset not in outcomes]
            return outcomes | {asset: self._submitter.postponed(asset, error, postponed) for asset in rest}
        for asset, refusal in malformed.items():
            if asset not in entries:  # an audio asset's, which came from VOD
                raise refusal
            outcomes[asset] = self._submitter.failed(asset, refusal)
        useless: dict[str, str | None] = {}
        for asset, extraction in accepted.items():
            if outcome := self._earlier_outcome(extraction, read[extraction.audio_asset_id]):
                outcomes[asset] = outcome
            else:
                useless[asset] = extraction.audio_asset_id
        if useless:
            again = self._ask(list(useless), postponed, superseded=useless)
            outcomes |= {asset: self._shared(asset, entry) for asset, entry in again.known.items()}
            if self._claims:
                outcomes |= self._claims.taken_by_others(again, postponed)
            claims.granted |= again.granted
        intents = {asset: entry["intended"] for asset, entry in entries.items() if "intended" in entry}
        for asset, claimed in claims.granted.items():
            if claimed and claimed.audio and asset in intents and asset not in outcomes:
                # With force, too, what the register has heard since the intent is the answer to it.
                self._ledger.accept(asset, claimed.audio, claimed.accepted or claimed.changed)
                outcomes[asset] = extraction = self._shared(asset, claimed)
                self._wait_for(extraction)
            elif claimed and claimed.intended and not claimed.audio and asset not in intents:
                intents[asset] = claimed.intended  # of a task that died
                self._ledger.intend(asset, claimed.intended)
        intents = {asset: at for asset, at in intents.items() if asset not in outcomes}
        outcomes |= self._recovery.take_over(intents, read, postponed)
        missing = [read[asset] for asset in assets if asset not in outcomes]
        submitted, lost = self._submitter.submit(missing, postponed)
        outcomes |= submitted | self._recovery.take_over(lost, read, postponed)
        outcomes |= self._copied(outcomes)
        self._save(outcomes)
        return {asset: outcomes[asset] for asset in assets}

    def _copied_before(self, known: Mapping[str, Entry]) -> Outcomes:
        """What any run has copied to this destination; a failure where that does not say."""
        assert self._copies
        outcomes = self._copies.whole(record for entry in known.values() for record in entry.records)
        for asset, outcome in outcomes.items():
            entry = known[asset]
            if isinstance(outcome, ExtractedAudio) and outcome.to_json() != entry.record:
                # It becomes the newest again: the library shows what the last run got.
                self._submitter.accepted_at[asset] = entry.accepted or entry.changed
                self._with_others.add(asset)
        return outcomes

    def _ask(
        self,
        assets: Sequence[str],
        postponed: Mapping[str, PostponedExtraction],
        *,
        superseded: Mapping[str, str | None] | None = None,
    ) -> Claims:
        if self._claims is None:
            return Claims(granted=dict.fromkeys(assets))
        return self._claims.ask(assets, postponed, superseded=superseded)

    def _shared(self, asset: str, entry: Entry) -> SubmittedExtraction:
        """The extraction that the register knows."""
        assert self._claims
        assert entry.audio
        if entry.record:
            self._with_others.add(asset)
        extraction = self._submitter.submitted(asset, entry.audio, entry.accepted or entry.changed)
        return self._claims.shared(extraction, entry)

    def _earlier_outcome(self, extraction: SubmittedExtraction, audio: Asset) -> Record | None:
        """What has become of an extraction of an earlier try; ``None`` if it is to be submitted again."""
        asset = extraction.asset
        if audio.readiness is Readiness.READY:
            return result_of(extraction, audio, self._hook.vod_conn_id)
        if not audio.settled(grace=within_grace(extraction.accepted)):
            self._wait_for(extraction)
            return extraction
        if audio.is_gone and not self._is_gone(audio):
            extraction = doubted(extraction, audio)
            self._wait_for(extraction)
            return extraction
        if (
            audio.readiness is not Readiness.FAILED
            or audio.status in _ENDED_BY_OTHERS
            or extraction.submitted_by
        ):
            return None
        if self._may_try_again(asset):
            self._ledger.again(asset)
            return None
        return self._finished(asset, result_of(extraction, audio, self._hook.vod_conn_id))

    def _is_gone(self, asset: Asset) -> bool:
        self._confirmations += 1
        return self._confirmations <= MAX_CONFIRMATIONS and confirmed_gone(self._hook.client, asset)

    def _wait_for(self, extraction: SubmittedExtraction) -> None:
        if not extraction.submitted_by:
            self._under_way.append(extraction)

    def _may_try_again(self, asset: str) -> bool:
        return self._tries > 1 and not self._ledger.is_second(asset)

    def _submit_patiently(
        self, assets: Sequence[str], postponed: Mapping[str, PostponedExtraction]
    ) -> Outcomes:
        """:meth:`_submit` for a task whose credential VOD has accepted before."""
        refusal: CloudError = AuthenticationError("VOD refused the credential a moment ago.")
        if not self._hook.client.refused_for:
            try:
                return self._submit(assets, postponed)
            except CONCERNS_THE_ACCOUNT as error:
                refusal = error
        return self._submitter.held_up(assets, refusal, postponed)

    def _collect(self, submitted: list[SubmittedExtraction], *, time_is_up: bool) -> Outcomes:
        self._under_way = [extraction for extraction in submitted if not extraction.submitted_by]
        self._submitter.accepted_at |= {extraction.asset: extraction.accepted for extraction in submitted}
        self._with_others |= {extraction.asset for extraction in submitted if extraction.submitted_by}
        collected = collect(self._hook.client, submitted, self._hook.vod_conn_id, time_is_up=time_is_up)
        outcomes: Outcomes = {one.asset: collected[one.audio_asset_id] for one in submitted}
        still_running = [outcome for outcome in outcomes.values() if isinstance(outcome, SubmittedExtraction)]
        self._under_way = [extraction for extraction in still_running if not extraction.submitted_by]
        for extraction in submitted:
            if not isinstance(outcome := outcomes[extraction.asset], SubmittedExtraction):
                outcomes[extraction.asset] = self._finished(
                    extraction.asset, outcome, submitted_by=extraction.submitted_by
                )
        outcomes |= self._copied(outcomes)
        if time_is_up:
            for extraction in still_running:
                error = AudioNotReadyError(
                    f"The audio asset {extraction.audio_asset_id} is still {extraction.status or 'unknown'}."
                )
                outcomes[extraction.asset] = AssetFailure.from_error(extraction.asset, error)
            own = [extraction for extraction in still_running if not extraction.submitted_by]
            cancelled = cancel_queued(self._hook.settings, own)
            for asset in cancelled:
                self._ledger.forget(asset)
            if self._register:
                reasons = {asset: outcomes[asset].to_json() for asset in cancelled}
                self._register.release(reasons, cancelled=True)
        self._save(outcomes)
        return outcomes

    def _finished(self, asset: str, outcome: Record, *, submitted_by: str = "") -> Record:
        """What becomes of an extraction that VOD has ended.

        :param submitted_by: The other task that has submitted it, if there is one.
        """
        if not isinstance(outcome, AssetFailure) or outcome.outcome != ExtractionFailedError.outcome:
            return outcome
        if submitted_by:  # that task may try again, or will say that there can be no audio
            assert self._claims  # or nobody else would be known
            return self._claims.waiting_for(asset, submitted_by, {})
        if self._may_try_again(asset):
            self._ledger.again(asset)
            if self._register:
                self._register.forget(asset)
            return PostponedExtraction(
                asset=asset,
                again=time.time() + self._retry_delay,
                tries=1,
                watch=False,
                failure=outcome.to_json(),
            )
        self._ledger.fail(asset, outcome.to_json())
        if self._claims:
            self._claims.fail(asset, outcome)
        return outcome

    def _save(self, outcomes: Mapping[str, Record]) -> None:
        """Write what was noted, here and for all."""
        self._ledger.save()
        ready = {
            asset: outcome
            for asset, outcome in outcomes.items()
            if isinstance(outcome, ExtractedAudio) and asset in self._submitter.accepted_at
        }
        new = set(ready)
        if self._register and ready:
            records = {asset: outcome.to_json() for asset, outcome in ready.items()}
            # A read for each: beside a copy it costs little, and else few assets have others who want them.
            shared = records if self._copies else self._with_others
            new = self._register.finish(records, self._submitter.accepted_at, shared)
        for asset in new:
            count_extracted(ready[asset])

    def _copied(self, outcomes: Outcomes) -> Outcomes:
        """What becomes of audio that is ready and still lies in VOD only."""
        if self._copies is None:
            return {}
        ready = [
            outcome
            for outcome in outcomes.values()
            if isinstance(outcome, ExtractedAudio) and outcome.uri.startswith("vod://")
        ]
        copied = self._copies.copy(ready)
        return {asset: self._finished(asset, outcome) for asset, outcome in copied.items()}


def _no_id(asset: str) -> AssetFailure:
    error = InvalidInputError(
        "VOD extracts only from its own assets.",
        remedy="Give an asset id, or use engine='ffmpeg' for files and URLs.",
    )
    return AssetFailure.from_error(public_name(asset), error)


def _is_due(outcome: PostponedExtraction, now: float) -> bool:
    return outcome.watch or outcome.again <= now
