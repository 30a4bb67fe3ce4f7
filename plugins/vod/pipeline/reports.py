"""What became of a run: the last task of a DAG whose operators report failures instead of failing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException

from vod.locations import public_name
from vod.logs import get_logger
from vod.records import AssetFailure, Record, parse_record
from vod.text import Lines, printable

log = get_logger(__name__)

_MAX_ROWS = 100
_MAX_REASONS = 20

NO_RESULT = "no_result"
"""Outcome of an asset whose batch failed as a whole."""


def report(
    planned: Any,
    returned: Any,
    *,
    summarize: Callable[..., tuple[list[Record], int]] | None = None,
    **options: Any,
) -> Any:
    """The last task of a DAG: says what was done, and fails if an asset did.

    :param planned: What the task that plans returned.
    :param returned: What the mapped tasks returned.
    :param summarize: Makes the records of the run, and the number of assets that were done before it, out of
        the run's params, *planned* and *returned*.
    :param options: Further arguments of the task.
    """

    @task(task_id="report", trigger_rule="all_done", retries=0, **options)
    def summary(planned: Any, returned: Any, params: dict[str, Any], ti: Any) -> None:
        if summarize:
            records, before = summarize(params, planned, returned)
        else:
            records, before = collect(assets_of(planned), returned), 0
        conclude(ti, records, skipped=before)

    return summary(planned, returned)  # type: ignore[call-arg,misc]  # Airflow gives the others


def assets_of(planned: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """The assets of the batches that were planned (:mod:`vod.pipeline.planning`), by the names that their
    records show.

    :raises AirflowFailException: there is no plan. The last task runs whatever became of those before it, and
        a run without a plan must not look green.
    """
    if planned is None:
        raise AirflowFailException("Nothing was started because the task `plan` failed. Its log says why.")
    return [
        public_name(asset) if isinstance(asset, str) else asset["asset"]
        for batch in planned
        for asset in batch.get("assets") or batch["audio"]
    ]


def collect(assets: Iterable[str], returned: Sequence[Any] | None) -> list[Record]:
    """Give each asset its record, in order.

    :param assets: Assets that were planned.
    :param returned: What the mapped tasks returned; a batch that failed as a whole returned nothing. Of a
        task group that was mapped once, Airflow gives the list of that batch, not a list of batches.
    """
    records: dict[str, Record] = {}
    for batch in () if returned is None else returned[:]:  # at once: one by one, Airflow asks for each
        for record in [batch] if isinstance(batch, Mapping) else batch or ():
            records[record["asset"]] = parse_record(dict(record))
    return [records.get(asset) or _lost(asset) for asset in assets]


def conclude(ti: Any, records: Sequence[Record], *, skipped: int = 0) -> None:
    """Say in a Markdown table what was done, skipped and failed: in the log, and as the XCom ``report``.

    :param skipped: Assets that had been done before this run.
    :raises AirflowFailException: an asset failed: a run that left something undone must not look green.
    """
    text = table(records, skipped)
    failures = [record for record in records if isinstance(record, AssetFailure)]
    done = f"{len(records) - len(failures)} of {len(records)} videos done" if records else "Nothing to do"
    before = f"; {skipped} were done before" if skipped else ""
    log.info("%s%s.\n%s", done, before, Lines(text.split("\n")))
    ti.xcom_push("report", text)
    if failures:
        reasons = [f"  {failure}" for failure in failures[:_MAX_REASONS]]
        if len(failures) > _MAX_REASONS:
            reasons.append(f"  … and {len(failures) - _MAX_REASONS} more, see the report.")
        raise AirflowFailException(f"{len(failures)} of {len(records)} assets failed:\n{Lines(reasons)}")


def table(records: Sequence[Record], skipped: int = 0) -> str:
    """Counts by outcome, then the assets themselves, failures first."""
    counts = Counter(record.outcome for record in records)
    if skipped:
        counts["done before"] = skipped
    failed_first = sorted(records, key=lambda record: not isinstance(record, AssetFailure))
    rows = [
        f"| {_cell(record.asset)} | {record.outcome} | {_cell(summary_of(record))} |"
        for record in failed_first[:_MAX_ROWS]
    ]
    if len(records) > _MAX_ROWS:
        rows.append(f"| … | | and {len(records) - _MAX_ROWS} more |")
    return "\n".join(
        [
            *("| outcome | assets |", "|---|---:|"),
            *(f"| {outcome} | {count} |" for outcome, count in counts.most_common()),
            *("", "| asset | outcome | |", "|---|---|---|", *rows),
        ]
    )


def _lost(asset: str) -> AssetFailure:
    return AssetFailure(
        asset=asset,
        outcome=NO_RESULT,
        message="Its batch failed as a whole.",
        remedy="The log of the batch says why. Clear the batch to go on; what is done is not done again.",
        retryable=True,
    )


def summary_of(record: Record) -> str:
    """One line on an asset: why it failed, its text, or where its audio is."""
    if isinstance(record, AssetFailure):
        return f"{record.message} {record.remedy}".strip()
    return getattr(record, "text", "") or getattr(record, "uri", "")


def _cell(text: str, longest: int = 120) -> str:
    line = printable(" ".join(text.split())).replace("|", "\\|")
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
