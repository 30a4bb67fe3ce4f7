"""What became of a run: its last tasks, in a DAG whose operators report failures instead of failing.

The mapped tasks of a DAG succeed with failures among their records, so that what is good goes on. For Airflow
to see what failed, each failed asset gets a task of its own, mapped over :func:`failed`: it fails with the
asset's reason, and does the asset again once a person clears it (:func:`only_when_cleared`)::

    planned = plan()
    done = batch.expand_kwargs(planned.map(parts.read))
    not_done = reports.failed(planned, done)
    again = batch.override(group_id="again").expand_kwargs(not_done.map(parts.read))
    reports.report(planned, done, not_done, again)
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException

from vod.batch.outcomes import FAILURE_KEY
from vod.batch.progress import name_batch
from vod.library.register import REGISTER
from vod.locations import public_name
from vod.logs import get_logger
from vod.pipeline import parts
from vod.records import AssetFailure, Record, parse_record
from vod.text import Lines, printable

log = get_logger(__name__)

_MAX_ROWS = 100
_MAX_TASKS = 50
"""Failed assets that get a task each. Of more, several share one: a task costs Airflow about a second."""
_MAX_REASONS = 20

NO_RESULT = "no_result"
"""Outcome of an asset whose batch failed as a whole, for a reason that nobody knows."""

AGAIN = "again"
"""The group of the tasks that do again what failed."""

_FAILED = "failed"


@dataclass
class Tally:
    """What is kept of the records of a run: counts, and the first of them for the table."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[AssetFailure] = field(default_factory=list)
    others: list[Record] = field(default_factory=list)
    failed: int = 0

    def counting(self, records: Iterable[Record]) -> Iterator[Record]:
        """The same records, counted as they pass."""
        for record in records:
            self.counts[record.outcome] += 1
            if isinstance(record, AssetFailure):
                self.failed += 1
                if len(self.failures) < _MAX_ROWS:
                    self.failures.append(record)
            elif len(self.others) < _MAX_ROWS:
                self.others.append(record)
            yield record

    @property
    def total(self) -> int:
        """How many there were."""
        return self.counts.total()


def failed(planned: Any, returned: Any, **options: Any) -> Any:
    """A task that gives each asset that failed a task of its own, which fails with its reason.

    When more than fifty assets failed, several share a task. The task fails itself when a whole batch has: a
    person who then clears what failed has this looked at again.

    :param planned: References to the batches (:func:`vod.pipeline.parts.publish`).
    :param returned: What the last mapped task of each batch returned.
    :param options: Further arguments of the task.
    """
    source = returned.operator.task_id

    @task(task_id=_FAILED, trigger_rule="all_done", show_return_value_in_logs=False, **options)
    def list_failed(planned: Any, ti: Any) -> list[dict[str, int]]:
        lost, found = 0, list[_Failed]()
        for number, reference in enumerate(_references(planned)):
            records = ti.xcom_pull(task_ids=source, map_indexes=number)
            if records is None:
                lost += 1
                continue
            failures = {
                record.asset: record for record in _parsed(records) if isinstance(record, AssetFailure)
            }
            if failures:
                for name, arguments in _apart(parts.read(reference)):
                    if name in failures:
                        found.append(_Failed([name], [str(failures[name])], arguments))
        if lost:
            raise AirflowFailException(
                f"{lost} batches failed as a whole. Clear the failed tasks of the run to do them again."
            )
        found = [*_together(found, -(-len(found) // _MAX_TASKS))]
        for number, group in enumerate(found):
            ti.xcom_push(_reason_key(number), {"assets": group.names, "reasons": group.reasons})
        return parts.publish(ti, (group.arguments for group in found))

    not_done: Any = list_failed(planned)  # type: ignore[call-arg,misc]  # Airflow gives the others
    not_done.operator.set_upstream(returned.operator)
    return not_done


def only_when_cleared(context: Any) -> None:
    """Let a task of the group ``again`` do its asset only once a person has cleared it; fail until then.

    The operators of a batch take it as ``pre_execute``. In other groups it does nothing.

    :raises AirflowFailException: with the reason why the asset failed in its batch.
    """
    ti, operator = context["ti"], context["task"]
    if not ti.task_id.startswith(f"{AGAIN}."):
        return
    operator.failed_assets = "raise"  # or this task would not be among those that a person clears
    is_first = not any(name.startswith(f"{AGAIN}.") for name in operator.upstream_task_ids)
    if is_first and ti.max_tries <= operator.retries:  # a clear raises max_tries, a retry does not
        known = ti.xcom_pull(task_ids=_FAILED, key=_reason_key(ti.map_index), map_indexes=-1)
        name_batch(context, known["assets"])
        raise AirflowFailException(
            str(Lines([*known["reasons"], "Clear this task to try again; what is done is not done again."]))
        )


def report(
    planned: Any,
    returned: Any,
    not_done: Any,
    again: Any,
    *,
    write: Callable[[Mapping[str, Any], Iterable[Record], Any], int] | None = None,
    **options: Any,
) -> Any:
    """The last task of a DAG: says what was done, and fails if an asset did.

    It reads the records batch by batch, and keeps the counts and the first hundred.

    :param planned: References to the batches (:func:`vod.pipeline.parts.publish`).
    :param returned: What the last mapped task of each batch returned.
    :param not_done: What :func:`failed` returned.
    :param again: What the last mapped task of each failed asset returned.
    :param write: Takes the run's params, its records as they come, and what finds the register. It returns
        how many assets had been done before the run.
    :param options: Further arguments of the task.
    """
    source, source_again = returned.operator.task_id, again.operator.task_id

    @task(task_id="report", trigger_rule="all_done", inlets=[REGISTER], **options)
    def summary(planned: Any, not_done: Any, params: dict[str, Any], ti: Any, asset_state_store: Any) -> None:
        tally = Tally()
        records = tally.counting(results(ti, planned, source, not_done, source_again))
        before = write(params, records, asset_state_store) if write else 0
        deque(records, maxlen=0)  # what nobody has taken
        conclude(ti, tally, skipped=before, refused=len(_refused(ti)))

    last: Any = summary(planned, not_done)  # type: ignore[call-arg,misc]  # Airflow gives the others
    last.operator.set_upstream([returned.operator, again.operator])
    return last


def results(ti: Any, planned: Any, source: str, not_done: Any = None, again: str = "") -> Iterator[Record]:
    """The record of each asset that was asked for: first what the plan refused, then batch by batch.

    :param planned: References to the batches, or ``None``.
    :param source: The task whose records count.
    :param not_done: References to the assets that failed and have a task of their own.
    :param again: The last of those tasks.
    :raises AirflowFailException: there is no plan. The last task runs whatever became of those before it, and
        a run without a plan must not look green.
    """
    if planned is None:
        reason = ti.xcom_pull(task_ids="plan", key=FAILURE_KEY, map_indexes=-1)
        why = summary_of(_lost("", reason)) if isinstance(reason, Mapping) else "Its log says why."
        raise AirflowFailException(f"Nothing was started because the task `plan` failed. {printable(why)}")
    yield from map(parse_record, _refused(ti))
    later: dict[str, deque[Record | None]] = {}  # an asset may have several audios, in as many batches
    for number, reference in enumerate(not_done or ()):
        records, reason = _returned(ti, again, number)
        for name, _ in _apart(parts.read(reference)):
            lost = _lost(name, reason) if reason and not records else None
            later.setdefault(name, deque()).append(records.get(name, lost))
    for number, reference in enumerate(planned):
        records, reason = _returned(ti, source, number)
        for name, _ in _apart(parts.read(reference)):
            record = records.get(name) or _lost(name, reason)
            if isinstance(record, AssetFailure) and later.get(name):
                record = later[name].popleft() or record
            yield record


def _refused(ti: Any) -> list[dict[str, Any]]:
    """What the plan could not take, as JSON."""
    return list(ti.xcom_pull(task_ids="plan", key=parts.REFUSED, map_indexes=-1) or ())


def conclude(ti: Any, tally: Tally, *, skipped: int = 0, refused: int = 0) -> None:
    """Say in a Markdown table what was done, skipped and failed: in the log, and as the XCom ``report``.

    :param skipped: Assets that had been done before this run.
    :param refused: Lines among those that failed that no task can do again.
    :raises AirflowFailException: an asset failed: a run that left something undone must not look green.
    """
    text = table(tally, skipped)
    done = f"{tally.total - tally.failed} of {tally.total} videos done" if tally.total else "Nothing to do"
    before = f"; {skipped} were done before" if skipped else ""
    log.info("%s%s.\n%s", done, before, Lines(text.split("\n")))
    ti.xcom_push("report", text)
    if tally.failed:
        reasons = [f"  {failure}" for failure in tally.failures[:_MAX_REASONS]]
        if tally.failed > _MAX_REASONS:
            reasons.append(f"  … and {tally.failed - _MAX_REASONS} more, see the report.")
        if refused:
            reasons.append(
                f"Lines that cannot be processed: {refused}. Correct them, and trigger the DAG again."
            )
        if refused < tally.failed:
            what = "the others" if refused else "them"
            reasons.append(
                f"To do {what} again, clear the failed tasks of the run: in Airflow's page of the run, or "
                f"with airflow dags clear {ti.dag_id} --run-id '{ti.run_id}' --only-failed --yes"
            )
        raise AirflowFailException(f"{tally.failed} of {tally.total} assets failed:\n{Lines(reasons)}")


def table(tally: Tally, skipped: int = 0) -> str:
    """Counts by outcome, then the assets themselves, failures first."""
    counts = Counter(tally.counts)
    if skipped:
        counts["done before"] = skipped
    rows = [
        f"| {_cell(record.asset)} | {record.outcome} | {_cell(summary_of(record))} |"
        for record in [*tally.failures, *tally.others][:_MAX_ROWS]
    ]
    if tally.total > _MAX_ROWS:
        rows.append(f"| … | | and {tally.total - _MAX_ROWS} more |")
    return "\n".join(
        [
            *("| outcome | assets |", "|---|---:|"),
            *(f"| {outcome} | {count} |" for outcome, count in counts.most_common()),
            *("", "| asset | outcome | |", "|---|---|---|", *rows),
        ]
    )


def summary_of(record: Record) -> str:
    """One line on an asset: why it failed, its text, or where its audio is."""
    if isinstance(record, AssetFailure):
        return f"{record.message} {record.remedy}".strip()
    return getattr(record, "text", "") or getattr(record, "uri", "")


@dataclass
class _Failed:
    """Assets that failed: their names and reasons, and the arguments of the task that does them again."""

    names: list[str]
    reasons: list[str]
    arguments: dict[str, Any]


def _together(found: Sequence[_Failed], size: int) -> Iterator[_Failed]:
    """Neighbours in groups of that size, if all else that is asked of them is the same."""
    group: _Failed | None = None
    for one in found:
        kind = "assets" if "assets" in one.arguments else "audio"
        alike = group and {**one.arguments, kind: 0} == {**group.arguments, kind: 0}
        if group and alike and len(group.names) < size and not {*one.names} & {*group.names}:
            group.names += one.names
            group.reasons += one.reasons
            group.arguments[kind] += one.arguments[kind]
            continue
        if group:
            yield group
        group = one
    if group:
        yield group


def _references(planned: Sequence[Mapping[str, int]] | None) -> Sequence[Mapping[str, int]]:
    if planned is None:
        raise AirflowFailException("There is no plan. The log of the task `plan` says why.")
    return planned


def _apart(batch: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each asset of a batch, by the name that its record shows, with the arguments to do it alone."""
    for asset in batch.get("assets", ()):
        yield public_name(asset), {**batch, "assets": [asset]}
    for record in batch.get("audio", ()):
        yield record["asset"], {**batch, "audio": [record]}


def _parsed(records: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    return (parse_record(dict(record)) for record in records)


def _returned(ti: Any, source: str, number: int) -> tuple[dict[str, Record], Mapping[str, Any] | None]:
    """The records of a batch, by asset. Without them why it failed, if one of its tasks could say so."""
    returned = ti.xcom_pull(task_ids=source, map_indexes=number)
    if returned is not None:
        return {record.asset: record for record in _parsed(returned)}, None
    group = source.rpartition(".")[0]
    for task_id in sorted(ti.task.get_flat_relative_ids(upstream=True)):
        if task_id.startswith(f"{group}."):
            reason = ti.xcom_pull(task_ids=task_id, key=FAILURE_KEY, map_indexes=number)
            if isinstance(reason, Mapping):
                return {record.asset: record for record in _parsed(reason.get("records", ()))}, reason
    return {}, None


def _lost(asset: str, reason: Mapping[str, Any] | None) -> AssetFailure:
    """The failure of an asset whose batch has returned nothing."""
    if reason is None:
        return AssetFailure(
            asset=asset,
            outcome=NO_RESULT,
            message="The worker of its batch died before it could say anything.",
            remedy="Clear the failed tasks of the run to go on; what is done is not done again.",
            retryable=True,
        )
    failure = parse_record({**reason, "asset": asset})
    return failure if isinstance(failure, AssetFailure) else _lost(asset, None)


def _reason_key(number: int) -> str:
    return f"reason_{number}"


def _cell(text: str, longest: int = 120) -> str:
    line = printable(" ".join(text.split())).replace("|", "\\|")
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
