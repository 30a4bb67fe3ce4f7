"""How the outcomes of a batch become the outcome of a task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from airflow.sdk.exceptions import AirflowFailException

from vod.errors import VodError
from vod.logs import get_logger
from vod.records import AssetFailure, Record
from vod.text import Lines

log = get_logger(__name__)

FailedAssets = Literal["raise", "return"]


class AssetsFailedError(VodError):
    """Some assets of a batch failed; what could be finished is finished, and a retry will not do it again."""

    outcome = "assets_failed"

    def __init__(self, failures: Sequence[AssetFailure], total: int) -> None:
        super().__init__(f"{len(failures)} of {total} assets failed:")
        self.message = Lines([self.message, *(f"  {failure}" for failure in failures)])
        self.failures = list(failures)
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
    error = AssetsFailedError(failures, len(records))
    if failures and (failed_assets == "raise" or (may_retry and error.retryable)):
        raise error
    return [record.to_json() for record in records]


@contextmanager
def fail_at_once() -> Iterator[None]:
    """Spare Airflow the retries of a failure that no retry can change."""
    try:
        yield
    except VodError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error
