"""The ways to get audio out of videos, behind one protocol: Huawei Cloud VOD, and ffmpeg on the worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from vod import metrics
from vod.errors import VodError
from vod.records import AssetFailure, ExtractedAudio, PostponedExtraction, Record, SubmittedExtraction

Outcomes = dict[str, Record]
"""What has become of each asset so far, by the name that the caller gave it."""


class SubmissionStoppedError(VodError):
    """The task was ended while it submitted, or copied what was ready."""

    outcome = "cancelled"
    retryable = True
    remedy = "Clear the task to go on: what was submitted and not cancelled is not submitted again."


class QuotaUsedUpError(VodError):
    """VOD takes so many extractions a minute, and this one's turn had not come when the time was up."""

    outcome = "quota_used_up"
    retryable = True
    remedy = "Raise the task's timeout, or run fewer batches at a time."


class ClaimedElsewhereError(VodError):
    """Another task was still extracting the same audio when this task's time was up."""

    outcome = "claimed_elsewhere"
    retryable = True
    remedy = "Look at that task, or run this one again: what is there by then is not extracted twice."

    def __init__(self, holder: str, asset: str | None = None) -> None:
        super().__init__(f"The task {holder} is extracting this audio and has not finished.", asset=asset)


STANDSTILL_PAUSE = 60.0
"""Seconds that a task waits which was resumed and could do nothing, since VOD refused it or could not be
reached: the triggerer may reach VOD all the same, and would resume the task at once."""


class Engine(Protocol):
    """Extracts the audio of a batch of assets.

    An engine that is done at once returns from :meth:`start` what has become of each asset. One that has to
    wait returns open outcomes (:func:`is_open`); hand them to :meth:`advance` until none is left.
    """

    def start(self, assets: Sequence[str]) -> Outcomes:
        """Begin with each asset that no earlier try of the task began with.

        :raises vod.errors.VodError: something that concerns all assets, found before anything was begun.
        """

    def advance(self, outcomes: Mapping[str, Record], *, time_is_up: bool) -> Outcomes:
        """Take over what is ready, and go on with what is not.

        :param outcomes: Those that are still open.
        :param time_is_up: Give up on what is not ready: the result holds no open outcome.
        :returns: an outcome for each of them.
        :raises vod.errors.VodError: something that concerns all assets and will not pass.
        """

    def release(self, failures: Mapping[str, AssetFailure]) -> None:
        """Let other tasks go on with assets that this one has given up.

        :param failures: Why, by asset.
        """

    def cancel(self) -> None:
        """Stop, from any thread and at any time. What is under way is ended where that is possible."""


def count_extracted(record: ExtractedAudio) -> None:
    """Count audio that was made just now."""
    metrics.count("vod.extractions.finished", engine=record.engine)
    metrics.count("vod.extractions.audio_seconds", record.duration or 0, engine=record.engine)
    metrics.count("vod.extractions.fetched_bytes", record.fetched or 0)
    if record.seconds is not None:
        metrics.timing("vod.extractions.duration", record.seconds, engine=record.engine)


def has_turn(outcome: Record) -> bool:
    """Whether an asset only waits for its turn in the quota, or for another task."""
    if not isinstance(outcome, PostponedExtraction):
        return False
    return outcome.failure["outcome"] in (QuotaUsedUpError.outcome, ClaimedElsewhereError.outcome)


def is_open(outcome: Record) -> bool:
    """Whether this says that an asset is still being worked on."""
    return isinstance(outcome, (SubmittedExtraction, PostponedExtraction))
