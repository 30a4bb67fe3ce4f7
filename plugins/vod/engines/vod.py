"""Extraction by Huawei Cloud VOD: submit, wait elsewhere, collect."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from vod.batch.ledger import Ledger
from vod.cloud import refusals
from vod.cloud.assets import Asset, Readiness
from vod.cloud.errors import (
    AmbiguousExtractionError,
    AnswerLostError,
    AssetNotFoundError,
    AssetNotSupportedError,
    AuthenticationError,
    CloudError,
    ExtractionFailedError,
    ForbiddenError,
    NotSentError,
    SourceNotReadyError,
    ThrottledError,
)
from vod.engines import ClaimedElsewhereError, Outcomes, QuotaUsedUpError, SubmissionStoppedError
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
from vod.engines.copies import Copies
from vod.engines.lost_answers import (
    MIN_LOOKS,
    RECOVERY_WINDOW,
    Finding,
    LostAnswer,
    find_audio_assets,
)
from vod.errors import InvalidInputError, VodError
from vod.hooks import VodHook
from vod.library.pace import Pace
from vod.library.register import Claims, Entry, Register
from vod.locations import is_asset_id
from vod.logs import get_logger
from vod.records import (
    AssetFailure,
    ExtractedAudio,
    PostponedExtraction,
    Record,
    SubmittedExtraction,
    parse_record,
)
from vod.storage.files import Destination

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


class _ClaimLostError(Exception):
    """Another task has taken over the claim on an asset."""


_LEAD = 5.0
"""Seconds before there is room in the quota at which a task is resumed: that is what starting it takes."""
_SHORT_WAIT = 15.0
"""Seconds that are waited for the quota in the worker."""
_LONGEST_WAIT_FOR_OTHERS = 300.0


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
        report: Callable[[str], None] = log.info,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._audio_format = audio_format
        self._register = register
        self._pace = pace
        self._force = force
        self._room_at = 0.0
        self._confirmations = 0
        self._accepted_at: dict[str, float] = {}
        self._tries = tries
        self._retry_delay = retry_delay
        self._cancel_on_kill = cancel_on_kill
        self._recovery_window = recovery_window
        self._report = report
        self._stopping = threading.Event()
        self._copies = (
            Copies(hook, ledger, destination, stopping=self._stopping, report=report) if destination else None
        )
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
        try:
            return self._submit(assets, {})
        except CONCERNS_THE_ACCOUNT as error:
            if not self._ledger.audio_assets():  # VOD has never accepted the credential: it may be wrong
                raise
            return self._held_up(assets, error, {})

    def advance(self, outcomes: Mapping[str, Record], *, time_is_up: bool) -> Outcomes:
        """Collect what is ready, and submit what was postponed and is due.

        When the time is up, what VOD still has queued is cancelled.
        """
        submitted = [outcome for outcome in outcomes.values() if isinstance(outcome, SubmittedExtraction)]
        postponed = [outcome for outcome in outcomes.values() if isinstance(outcome, PostponedExtraction)]
        result = self._collect(submitted, time_is_up=time_is_up)
        if time_is_up:
            self.release([outcome.asset for outcome in postponed])
            return result | {outcome.asset: parse_record(outcome.failure) for outcome in postponed}
        # What shared audio has come to may have to be submitted as well.
        postponed += [outcome for outcome in result.values() if isinstance(outcome, PostponedExtraction)]
        now = time.time()
        due = {outcome.asset: outcome for outcome in postponed if _is_due(outcome, now)}
        result |= {outcome.asset: outcome for outcome in postponed if outcome.asset not in due}
        if not due:
            return result
        # No more than VOD takes in a minute: reading the others would be in vain.
        for_quota = [asset for asset, outcome in due.items() if _waits_for_quota(outcome)]
        left = for_quota[int(self._hook.client.extractions_per_minute) :] if self._pace else []
        taken = {asset: outcome for asset, outcome in due.items() if asset not in set(left)}
        result |= self._submit_patiently(list(taken), taken)
        return result | {asset: replace(due[asset], again=self._room_at) for asset in left}

    def release(self, assets: Sequence[str]) -> None:
        """Let other tasks go on with assets that this one has given up."""
        if self._register:
            self._register.release(assets)

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
                self._register.release(cancelled, cancelled=True)

    def _submit(self, assets: Sequence[str], postponed: Mapping[str, PostponedExtraction]) -> Outcomes:
        """:param postponed: What became of assets that were submitted before."""
        entries = {asset: self._ledger.get(asset) or {} for asset in assets}
        outcomes: Outcomes = {
            asset: parse_record(entry["failure"]) for asset, entry in entries.items() if "failure" in entry
        }
        if self._copies:
            outcomes |= self._copies.earlier(entries)
        accepted = {
            asset: self._submitted(asset, entry["audio"], entry["accepted"])
            for asset, entry in entries.items()
            if "audio" in entry and asset not in outcomes
        }
        rest = [asset for asset in assets if asset not in outcomes and asset not in accepted]
        try:
            claims = self._claim(rest, postponed)
            if self._copies:
                outcomes |= self._copies.whole(
                    entry.record for entry in claims.known.values() if entry.record
                )
            accepted |= {
                asset: self._shared(asset, entry)
                for asset, entry in claims.known.items()
                if asset not in outcomes
            }
            outcomes |= self._taken_by_others(claims, postponed)
            audio_ids = [extraction.audio_asset_id for extraction in accepted.values()]
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
        useless: dict[str, str | None] = {}
        for asset, extraction in accepted.items():
            if outcome := self._earlier_outcome(extraction, read[extraction.audio_asset_id]):
                outcomes[asset] = outcome
            else:
                useless[asset] = extraction.audio_asset_id
        if useless:
            again = self._claim(list(useless), postponed, superseded=useless)
            outcomes |= {asset: self._shared(asset, entry) for asset, entry in again.known.items()}
            outcomes |= self._taken_by_others(again, postponed)
            claims.granted |= again.granted
        intents = {asset: entry["intended"] for asset, entry in entries.items() if "intended" in entry}
        for asset, claimed in claims.granted.items():
            if claimed and claimed.intended and not claimed.audio and asset not in intents:
                intents[asset] = claimed.intended  # of a task that died
                self._ledger.intend(asset, claimed.intended)
        intents = {asset: at for asset, at in intents.items() if asset not in outcomes}
        outcomes |= self._recover(intents, read, postponed)
        missing = [read[asset] for asset in assets if asset not in outcomes]
        outcomes |= self._submit_all(missing, read, postponed)
        outcomes |= self._copied(outcomes)
        self._save(outcomes)
        return {asset: outcomes[asset] for asset in assets}

    def _claim(
        self,
        assets: Sequence[str],
        postponed: Mapping[str, PostponedExtraction],
        *,
        superseded: Mapping[str, str | None] | None = None,
    ) -> Claims:
        if self._register is None:
            return Claims(granted=dict.fromkeys(assets))
        # What waits for the quota was claimed before it was left: its claim is looked at when it is sent.
        held = {asset for asset in assets if asset in postponed and _waits_for_quota(postponed[asset])}
        claims = self._register.claim(
            [asset for asset in assets if asset not in held],
            superseded=superseded,
            waited_for={asset: outcome.holder for asset, outcome in postponed.items() if outcome.holder},
            force=self._force,
        )
        claims.granted |= dict.fromkeys(held)
        return claims

    def _shared(self, asset: str, entry: Entry) -> SubmittedExtraction:
        """The extraction that the register knows."""
        assert self._register
        assert entry.audio
        extraction = self._submitted(asset, entry.audio, entry.accepted or entry.changed)
        by = entry.holder or entry.ended_by or "another task"
        return extraction if by == self._register.holder else replace(extraction, submitted_by=by)

    def _taken_by_others(self, claims: Claims, postponed: Mapping[str, PostponedExtraction]) -> Outcomes:
        outcomes: Outcomes = {
            asset: parse_record(entry.failure or {}) for asset, entry in claims.failed.items()
        }
        if claims.elsewhere:
            holders = sorted({entry.holder or "" for entry in claims.elsewhere.values()})
            self._report(f"{len(claims.elsewhere)} assets are being extracted by {', '.join(holders)}.")
        for asset, entry in claims.elsewhere.items():
            outcomes[asset] = self._waiting_for(asset, entry.holder or "", postponed)
        return outcomes

    def _waiting_for(
        self, asset: str, holder: str, postponed: Mapping[str, PostponedExtraction]
    ) -> PostponedExtraction:
        assert self._register
        tries = postponed[asset].tries if asset in postponed else 0
        pause = min(self._retry_delay * 2**tries, _LONGEST_WAIT_FOR_OTHERS)
        return PostponedExtraction(
            asset=asset,
            again=time.time() + pause,
            tries=tries + 1,
            watch=False,
            failure=AssetFailure.from_error(asset, ClaimedElsewhereError(holder)).to_json(),
            holder=holder,
            key=self._register.key(asset),
        )

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
        sources, left = self._in_quota(sources)
        outcomes |= {source.asset_id: self._waiting_for_quota(source.asset_id) for source in left}
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
            except _ClaimLostError:
                outcomes[asset] = self._waiting_for(asset, "", postponed)
            else:
                self._wait_for(extraction)
                lost_in_a_row = 0
                submitted += 1
                if time.monotonic() - reported_at >= _SECONDS_BETWEEN_MESSAGES:
                    reported_at = time.monotonic()
                    self._report(f"Submitted {submitted}/{len(sources)} assets to VOD.")
        if self._pace and refused_all:
            unsent = len(sources) - submitted
            if isinstance(refused_all, ThrottledError):
                self._pace.refused(unsent)
            else:
                self._pace.give_back(unsent)
        if sources:
            rest = f"; {len(left)} more when the quota has room" if left else ""
            self._report(f"Submitted {submitted}/{len(sources)} assets to VOD{rest}.")
        return outcomes | self._recover(lost, read, postponed)

    def _in_quota(self, sources: list[Asset]) -> tuple[list[Asset], list[Asset]]:
        """Those that VOD takes now, and the rest."""
        if self._pace is None or not sources:
            return sources, []
        count, seconds = self._pace.take(len(sources))
        if not count and seconds <= _SHORT_WAIT:
            self._stopping.wait(seconds)
            count, seconds = self._pace.take(len(sources))
        self._room_at = time.time() + max(seconds - _LEAD, 1.0)
        return sources[:count], sources[count:]

    def _waiting_for_quota(self, asset: str) -> PostponedExtraction:
        error = QuotaUsedUpError("VOD's quota of extractions was used up until the time was over.")
        return PostponedExtraction(
            asset=asset,
            again=self._room_at,
            tries=1,
            watch=False,
            failure=AssetFailure.from_error(asset, error).to_json(),
        )

    def _submit_one(self, source: Asset) -> SubmittedExtraction:
        asset = source.asset_id
        if self._stopping.is_set():
            raise SubmissionStoppedError("The task was ended while it submitted.")
        if source.is_gone and self._is_gone(source):
            raise AssetNotFoundError("VOD knows no such asset.", asset=asset)
        if source.is_audio:
            raise AssetNotSupportedError(
                f"This is already an audio asset ({source.container}); VOD extracts only from videos.",
                asset=asset,
            )
        if source.status == "CREATING":
            raise SourceNotReadyError("The video is still being created.", asset=asset)

        def about_to_send() -> None:
            now = self._hook.client.clock.time()  # VOD's, which all workers share
            if self._register and not self._register.intend(asset, now):
                raise _ClaimLostError
            self._ledger.intend(asset, now)

        try:
            submission = self._hook.client.extract_audio(
                asset, self._audio_format, paced=self._pace is None, before=about_to_send
            )
        except AnswerLostError:
            raise  # the intent stays: the audio asset is looked for before anything is submitted again
        except CloudError:
            self._ledger.forget(asset)
            if self._register:
                self._register.forget(asset)
            raise
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
        # A key that could read is refused for a while only; a permission may never have been there.
        if isinstance(error, AuthenticationError) or (
            isinstance(error, ForbiddenError) and self._ledger.audio_assets()
        ):
            return self._held_up([asset], error, postponed)[asset]
        if isinstance(error, CONCERNS_THE_ACCOUNT):  # may be in order at the next try
            return AssetFailure.from_error(asset, error)
        return self._failed(asset, error)

    def _failed(self, asset: str, error: CloudError) -> AssetFailure:
        """A failure that no retry can change."""
        failure = AssetFailure.from_error(asset, error)
        self._ledger.fail(asset, failure.to_json())
        if self._register:
            self._register.fail(asset, failure.to_json())
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
        return self._held_up(assets, refusal, postponed)

    def _held_up(
        self, assets: Sequence[str], error: CloudError, postponed: Mapping[str, PostponedExtraction]
    ) -> Outcomes:
        """Leave assets until VOD accepts the credential again."""
        log.warning(
            "VOD refuses the credential; %d assets are left until it does not. %s", len(assets), error
        )
        outcomes: Outcomes = {}
        for asset in assets:
            later = self._postponed(asset, error, postponed)
            outcomes[asset] = replace(
                later,
                again=max(
                    later.again, time.time() + max(self._hook.client.refused_for, refusals.FIRST_PAUSE)
                ),
                failure={**later.failure, "retryable": True},
                refused=True,
            )
        return outcomes

    def _collect(self, submitted: list[SubmittedExtraction], *, time_is_up: bool) -> Outcomes:
        self._under_way = [extraction for extraction in submitted if not extraction.submitted_by]
        self._accepted_at |= {extraction.asset: extraction.accepted for extraction in submitted}
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
                self._register.release(cancelled, cancelled=True)
        self._save(outcomes)
        return outcomes

    def _finished(self, asset: str, outcome: Record, *, submitted_by: str = "") -> Record:
        """What becomes of an extraction that VOD has ended.

        :param submitted_by: The other task that has submitted it, if there is one.
        """
        if not isinstance(outcome, AssetFailure) or outcome.outcome != ExtractionFailedError.outcome:
            return outcome
        if submitted_by:  # that task may try again, or will say that there can be no audio
            return self._waiting_for(asset, submitted_by, {})
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
        if self._register:
            self._register.fail(asset, outcome.to_json())
        return outcome

    def _save(self, outcomes: Mapping[str, Record]) -> None:
        """Write what was noted, here and for all."""
        self._ledger.save()
        ready = {
            asset: outcome.to_json()
            for asset, outcome in outcomes.items()
            if isinstance(outcome, ExtractedAudio) and asset in self._accepted_at
        }
        if self._register and ready:
            self._register.finish(ready, self._accepted_at)

    def _recover(
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
        clock, window = self._hook.client.clock, self._recovery_window
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
                claimed_by_others=self._register.is_owned if self._register else None,
            )
        except CloudError as error:
            if not error.retryable:
                raise
            return {asset: self._postponed(asset, error, postponed) for asset in intents}
        outcomes: Outcomes = {}
        for asset, finding in findings.items():
            if finding.audio:
                outcomes[asset] = extraction = self._accepted(asset, finding.audio)
                self._wait_for(extraction)
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
                later = self._postponed(asset, question, postponed)
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

    def _accepted(self, asset: str, audio_asset_id: str) -> SubmittedExtraction:
        now = time.time()
        self._ledger.accept(asset, audio_asset_id, now)
        if self._register:
            self._register.accept(asset, audio_asset_id, now)
        return self._submitted(asset, audio_asset_id, now)

    def _submitted(self, asset: str, audio_asset_id: str, accepted: float) -> SubmittedExtraction:
        self._accepted_at[asset] = accepted
        return SubmittedExtraction(
            asset=asset, audio_asset_id=audio_asset_id, audio_format=self._audio_format, accepted=accepted
        )


def _waits_for_quota(outcome: PostponedExtraction) -> bool:
    return outcome.failure["outcome"] == QuotaUsedUpError.outcome


def _is_due(outcome: PostponedExtraction, now: float) -> bool:
    return outcome.watch or outcome.again <= now


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
