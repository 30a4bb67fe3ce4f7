"""How the outcomes of a batch become the outcome of a task."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from airflow.sdk import get_current_context
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowNotFoundException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)

from vod import metrics
from vod.errors import VodError
from vod.logs import get_logger
from vod.records import AssetFailure, Record, shortened
from vod.text import Lines, printable

log = get_logger(__name__)

FAILURE_KEY = "failure"
"""XCom of a failed task: why, as :class:`vod.records.AssetFailure`, and ``records`` of its
assets, if it came that far."""

FailedAssets = Literal["raise", "return"]


class AssetsFailedError(VodError):
    """Some assets of a batch failed; what could be finished is finished, and a retry will not do it again."""

    outcome = "assets_failed"

    def __init__(self, records: Sequence[Record]) -> None:
        failures = [record for record in records if isinstance(record, AssetFailure)]
        super().__init__(f"{len(failures)} of {len(records)} assets failed:")
        self.message = Lines([self.message, *(f"  {failure}" for failure in failures)])
        self.failures = failures
        self.records = list(records)
        self.retryable = any(failure.retryable for failure in failures)


def conclude(
    records: Sequence[Record], failed_assets: FailedAssets, *, may_retry: bool = False
) -> list[dict[str, Any]]:
    """Turn the outcomes of a batch into what the task returns.

    :param failed_assets: ``raise`` raises if any asset failed, ``return`` returns failures among the others.
    :param may_retry: Whether another try follows a failure of the task: then also ``return`` raises for what
        may succeed on it.
    :raises AssetsFailedError: an asset failed, and it is not only to be reported.
    """
    failures = [record for record in records if isinstance(record, AssetFailure)]
    for failure in failures:
        log.warning("%s", failure)
    error = AssetsFailedError(records)
    if failures and (failed_assets == "raise" or (may_retry and error.retryable)):
        raise error
    return [record.to_json() for record in records]


@contextmanager
def fail_at_once(task: str = "", size: Callable[[], int] | None = None) -> Iterator[None]:
    """Spare Airflow the retries of a failure that no retry can change, and note why a task failed.

    The reason is pushed as the XCom :data:`FAILURE_KEY`, which Airflow keeps when the task fails, until its
    next try. A batch that fails as a whole has all its assets counted as failed; what a person has ended does
    not, nor do failures that have a record each, which their task counts.

    :param task: As what they count, ``audio`` or ``transcripts``; without it they do not.
    :param size: How many assets the batch has. A batch that cannot be read counts as one.
    """

    def count(outcome: str) -> None:
        if task and outcome != "cancelled":
            metrics.count("vod.assets.failed", _size(size), task=task, outcome=outcome)

    try:
        yield
    except VodError as error:
        records = [record.to_json() for record in getattr(error, "records", ())]
        _note_failure(AssetFailure.from_error(error.asset or "", error), records)
        if not isinstance(error, AssetsFailedError):
            count(error.outcome)
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error
    except (AirflowSkipException, AirflowRescheduleException):
        raise
    except (AirflowFailException, AirflowNotFoundException, AirflowSensorTimeout) as error:
        _note_failure(AssetFailure(asset="", outcome="error", message=shortened(printable(str(error)))))
        count("error")
        raise
    except (AirflowTaskTimeout, Exception) as error:
        # What others say in their exceptions may hold anything, also signed URLs.
        message = f"Its batch failed with {type(error).__name__}."
        remedy = "The log of the batch has the details."
        _note_failure(AssetFailure(asset="", outcome="error", message=message, remedy=remedy, retryable=True))
        count("error")
        raise


def _size(size: Callable[[], int] | None) -> int:
    try:
        return max(size() if size else 1, 1)
    except Exception:  # noqa: BLE001 - the task fails for another reason, often for this one
        return 1


def _note_failure(failure: AssetFailure, records: Sequence[dict[str, Any]] = ()) -> None:
    try:
        context = get_current_context()
    except RuntimeError:  # no task of Airflow
        return
    try:
        context["ti"].xcom_push(FAILURE_KEY, {**failure.to_json(), "records": [*records]})
    except Exception as error:  # noqa: BLE001 - the task fails for another reason
        log.warning("The reason could not be noted for the report (%s).", type(error).__name__)
