"""A plan in parts: each mapped task reads its own, not all of it.

Airflow hands the whole value that a task group is mapped over to each of its tasks: with 100,000 assets,
3.6 MB a task. So the task that plans returns references, ``[{"plan": 0}, {"plan": 1}, ...]``, and leaves each
part under a key of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from airflow.sdk import get_current_context

from vod.errors import InvalidInputError
from vod.records import AssetFailure

REFUSED = "refused"
"""XCom key of what a plan could not take: :class:`vod.records.AssetFailure` as JSON, one a line."""


@dataclass(frozen=True)
class Plan:
    """What a run works on.

    :param batches: Keyword arguments of mapped tasks.
    :param refused: Lines of the form or list that cannot be worked on, and why.
    """

    batches: list[dict[str, Any]]
    refused: list[AssetFailure] = field(default_factory=list)


def publish_plan(ti: Any, plan: Plan) -> list[dict[str, int]]:
    """:func:`publish` the batches of a plan, and leave for the report what was refused."""
    if plan.refused:
        ti.xcom_push(REFUSED, [failure.to_json() for failure in plan.refused])
    return publish(ti, plan.batches)


def publish(ti: Any, batches: Iterable[Mapping[str, Any]]) -> list[dict[str, int]]:
    """Leave each batch where the task that works on it finds it (:func:`read`).

    :param ti: The task instance that plans.
    :param batches: Keyword arguments of mapped tasks.
    :returns: a reference to each, in order: what the task returns.
    """
    count = 0
    for count, batch in enumerate(batches, 1):
        ti.xcom_push(_key(count - 1), dict(batch))
    return [{ti.task_id: number} for number in range(count)]


def read(reference: Mapping[str, int]) -> Mapping[str, Any]:
    """The batch that a reference stands for: ``group.expand_kwargs(plan().map(parts.read))``.

    Airflow calls it in the mapped task, for its own element only.

    :raises InvalidInputError: the task that planned has left nothing there.
    """
    [(task_id, number)] = reference.items()
    ti = get_current_context()["ti"]
    return _read(ti.dag_id, ti.run_id, task_id, number)


@lru_cache(maxsize=1)  # Airflow resolves each argument of a task for itself
def _read(dag_id: str, run_id: str, task_id: str, number: int) -> Mapping[str, Any]:
    ti: Any = get_current_context()["ti"]
    batch = ti.xcom_pull(dag_id=dag_id, run_id=run_id, task_ids=task_id, key=_key(number), map_indexes=-1)
    if not isinstance(batch, Mapping):
        raise InvalidInputError(
            f"The task `{task_id}` has left no part {number}.", remedy="Clear it and what comes after it."
        )
    return batch


def _key(number: int) -> str:
    return f"part_{number}"
