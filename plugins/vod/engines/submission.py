"""Submits extractions to VOD: within the quota, each noted before and after it is sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from vod import metrics
from vod.batch.ledger import Ledger
from vod.cloud import refusals
from vod.cloud.assets import Asset, Readiness, Submission
from vod.cloud.errors import (
    AnswerLostError,
    AssetNotFoundError,
    AssetNotSupportedError,
    AuthenticationError,
    CloudError,
    ForbiddenError,
    NotSentError,
    SourceNotReadyError,
    ThrottledError,
)
from vod.engines import Outcomes, QuotaUsedUpError, SubmissionStoppedError
from vod.engines.cancel import CONCERNS_THE_ACCOUNT
from vod.engines.claims import EngineClaims
from vod.hooks import VodHook
from vod.library.pace import PAUSE, Pace
from vod.logs import get_logger
from vod.records import AssetFailure, PostponedExtraction, Record, SubmittedExtraction

log = get_logger(__name__)

_NONE_WOULD_BE_ACCEPTED = (*CONCERNS_THE_ACCOUNT, ThrottledError, NotSentError)
_MAX_LOST = 3
"""Lost answers in a row after which VOD counts as out of order: more submissions would only be lost too."""

_LEAD = 5.0
"""Seconds before there is room in the quota at which a task is resumed: that is what starting it takes."""
_SECOND_TRY = 2.0
"""Seconds until a submission is sent again that VOD refused for the quota."""
_SHORT_WAIT = 15.0
"""Seconds that are waited for the quota in the worker."""
_SECONDS_BETWEEN_MESSAGES = 10.0


class _ClaimLostError(Exception):
    """Another task has taken over the claim on an asset."""

    def __init__(self, claims: EngineClaims) -> None:
        super().__init__()
        self.claims = claims


class Submitter:
    """Submits the extractions of one task.

    :param ledger: Remembers each submission before and after it is sent.
    :param claims: What all tasks know together; without them, only this task's ledger is known.
    :param pace: The quota that all tasks share; without one, this process paces itself.
    :param retry_delay: Seconds before an asset that VOD does not take yet is submitted again; doubled each
        time, up to twenty times that.
    :param stopping: Ends the submission when it is set, from any thread.
    :param is_gone: Makes sure that a source that VOD calls gone is gone.
    :param on_accepted: Called with each extraction as VOD accepts it.
    :param report: Gets messages about how far the batch is.
    """

    def __init__(
        self,
        hook: VodHook,
        ledger: Ledger,
        audio_format: str,
        *,
        claims: EngineClaims | None,
        pace: Pace | None,
        retry_delay: float,
        stopping: threading.Event,
        is_gone: Callable[[Asset], bool],
        on_accepted: Callable[[SubmittedExtraction], None],
        report: Callable[[str], None],
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._audio_format = audio_format
        self._claims = claims
        self._pace = pace
        self.retry_delay = retry_delay
        self._stopping = stopping
        self._is_gone = is_gone
        self._on_accepted = on_accepted
        self._report = report
        self.accepted_at: dict[str, float] = {}
        """When VOD accepted each extraction that this process knows, seconds since the epoch."""
        self.room_at = 0.0
        """When the quota has room again, seconds since the epoch."""

    def submit(
        self,
        sources: list[Asset],
        postponed: Mapping[str, PostponedExtraction],
    ) -> tuple[Outcomes, dict[str, float]]:
        """Submit what the quota allows.

        :param sources: The videos as VOD describes them.
        :param postponed: What became of assets before.
        :returns: what became of each, and when the answers were lost that did not come.
        :raises SubmissionStoppedError: the task was ended meanwhile.
        """
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
            except _ClaimLostError as error:
                outcomes[asset] = error.claims.waiting_for(asset, "", postponed)
            else:
                self._on_accepted(extraction)
                lost_in_a_row = 0
                submitted += 1
                if time.monotonic() - reported_at >= _SECONDS_BETWEEN_MESSAGES:
                    reported_at = time.monotonic()
                    self._report(f"Submitted {submitted} of {len(sources)} assets to VOD.")
        if self._pace and refused_all:
            unsent = len(sources) - submitted
            if isinstance(refused_all, ThrottledError):
                self._pace.refused(unsent)
            else:
                self._pace.give_back(unsent)
        if sources:
            rest = f"; {len(left)} more when the quota has room" if left else ""
            self._report(f"Submitted {submitted} of {len(sources)} assets to VOD{rest}.")
        return outcomes, lost

    def accepted(self, asset: str, audio_asset_id: str) -> SubmittedExtraction:
        """Note that VOD has accepted an extraction, here and for all."""
        now = time.time()
        self._ledger.accept(asset, audio_asset_id, now)
        metrics.count("vod.extractions.submitted")
        if self._claims:
            self._claims.register.accept(asset, audio_asset_id, now)
        return self.submitted(asset, audio_asset_id, now)

    def submitted(self, asset: str, audio_asset_id: str, accepted: float) -> SubmittedExtraction:
        """The record of an extraction that VOD has accepted.

        :param accepted: When that was, seconds since the epoch.
        """
        self.accepted_at[asset] = accepted
        return SubmittedExtraction(
            asset=asset, audio_asset_id=audio_asset_id, audio_format=self._audio_format, accepted=accepted
        )

    def failed(self, asset: str, error: CloudError) -> AssetFailure:
        """A failure that no retry can change."""
        failure = AssetFailure.from_error(asset, error)
        self._ledger.fail(asset, failure.to_json())
        if self._claims:
            self._claims.fail(asset, failure)
        return failure

    def postponed(
        self,
        asset: str,
        error: CloudError,
        postponed: Mapping[str, PostponedExtraction],
        *,
        watch: bool = False,
        other_engine: bool = False,
    ) -> PostponedExtraction:
        """The outcome of an asset that is submitted later.

        :param watch: Whether it is worth asking as soon as the source is no longer being processed.
        :param other_engine: Whether another engine may extract it now.
        """
        metrics.count("vod.extractions.postponed", outcome=error.outcome)
        failure = replace(AssetFailure.from_error(asset, error), other_engine=other_engine)
        earlier = postponed.get(asset)
        tries = earlier.tries if earlier else 0
        return PostponedExtraction(
            asset=asset,
            again=time.time() + self.retry_delay * min(2**tries, 20),
            tries=tries + 1,
            watch=watch,
            failure=failure.to_json(),
        )

    def held_up(
        self, assets: Sequence[str], error: CloudError, postponed: Mapping[str, PostponedExtraction]
    ) -> Outcomes:
        """Leave assets until VOD accepts the credential again."""
        log.warning(
            "VOD does not accept the credentials; %d assets wait until it does. %s", len(assets), error
        )
        outcomes: Outcomes = {}
        for asset in assets:
            later = self.postponed(asset, error, postponed)
            outcomes[asset] = replace(
                later,
                again=max(
                    later.again, time.time() + max(self._hook.client.refused_for, refusals.FIRST_PAUSE)
                ),
                failure={**later.failure, "retryable": True},
                refused=True,
            )
        return outcomes

    def _in_quota(self, sources: list[Asset]) -> tuple[list[Asset], list[Asset]]:
        """Those that VOD takes now, and the rest."""
        if self._pace is None or not sources:
            return sources, []
        count, seconds = self._pace.take(len(sources))
        if not count and seconds <= _SHORT_WAIT:
            self._stopping.wait(seconds)
            count, seconds = self._pace.take(len(sources))
        self.room_at = time.time() + max(seconds - _LEAD, 1.0)
        return sources[:count], sources[count:]

    def _waiting_for_quota(self, asset: str) -> PostponedExtraction:
        metrics.count("vod.extractions.postponed", outcome=QuotaUsedUpError.outcome)
        error = QuotaUsedUpError("VOD's quota of extractions was used up until the time was over.")
        return PostponedExtraction(
            asset=asset,
            again=self.room_at,
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
            if self._claims and not self._claims.register.intend(asset, now):
                raise _ClaimLostError(self._claims)
            # What the register has noted needs no second write, unless it is what is to be done again.
            self._ledger.intend(asset, now, save=self._claims is None or self._claims.force)

        try:
            try:
                submission = self._send(asset, about_to_send)
            except ThrottledError:
                if self._pace is None:  # the client has repeated it already
                    raise
                # Room may be left by the second: it is not worth leaving the worker for.
                self._stopping.wait(_SECOND_TRY)
                submission = self._send(asset, about_to_send)
        except AnswerLostError:
            raise  # the intent stays: the audio asset is looked for before anything is submitted again
        except CloudError:
            self._ledger.forget(asset)
            if self._claims:
                self._claims.register.forget(asset)
            raise
        return self.accepted(asset, submission.audio_asset_id)

    def _send(self, asset: str, about_to_send: Callable[[], None]) -> Submission:
        return self._hook.client.extract_audio(
            asset, self._audio_format, paced=self._pace is None, before=about_to_send
        )

    def _refused(
        self, source: Asset, error: CloudError, postponed: Mapping[str, PostponedExtraction]
    ) -> Record:
        """What becomes of an asset that VOD did not accept."""
        asset = source.asset_id
        if error.retryable:
            not_ready = isinstance(error, SourceNotReadyError)
            later = self.postponed(
                asset,
                error,
                postponed,
                watch=not_ready and source.readiness is Readiness.TRANSIENT,
                # As long as there is no URL, no other engine can read the original either.
                other_engine=error.other_engine and bool(source.url),
            )
            if self._pace and isinstance(error, ThrottledError):  # for all of them, and no longer each time
                return replace(later, again=time.time() + PAUSE)
            return later
        # A key that could read is refused for a while only; a permission may never have been there.
        if isinstance(error, AuthenticationError) or (
            isinstance(error, ForbiddenError) and self._ledger.audio_assets()
        ):
            return self.held_up([asset], error, postponed)[asset]
        if isinstance(error, CONCERNS_THE_ACCOUNT):  # may be in order at the next try
            return AssetFailure.from_error(asset, error)
        return self.failed(asset, error)
