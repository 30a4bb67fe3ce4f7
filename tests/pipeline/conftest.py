"""A run of a DAG without Airflow: what its tasks leave for each other."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from airflow.sdk.execution_time.context import set_current_context


class Run:
    """The XComs of a run, as JSON, and how many bytes of them were read."""

    def __init__(self) -> None:
        self.run_id = uuid4().hex
        self.values: dict[tuple[str, int, str], str] = {}
        self.bytes_read: list[int] = []

    def task(self, task_id: str, map_index: int = -1, **more: Any) -> Any:
        """A task instance, with the methods that the pipeline calls."""

        def push(key: str, value: Any) -> None:
            self.values[task_id, map_index, key] = json.dumps(value)

        def pull(
            task_ids: str, key: str = "return_value", *, map_indexes: int | None = None, **_: Any
        ) -> Any:
            found = self.values.get((task_ids, -1 if map_indexes is None else map_indexes, key))
            self.bytes_read.append(len(found or ""))
            return None if found is None else json.loads(found)

        others = {"plan", "batch.extract", "batch.transcribe", "failed", "again.extract", "again.transcribe"}
        return SimpleNamespace(
            dag_id="dag",
            run_id=self.run_id,
            task_id=task_id,
            map_index=map_index,
            xcom_push=push,
            xcom_pull=pull,
            task=SimpleNamespace(get_flat_relative_ids=lambda upstream: others),
            **more,
        )

    def plan(self, batches: Iterable[Mapping[str, Any]]) -> list[dict[str, int]]:
        from vod.pipeline import parts

        return parts.publish(self.task("plan"), batches)

    def returns(self, task_id: str, *records: Any) -> None:
        """Let the mapped instances of a task return these; ``None`` is an instance that failed."""
        for number, returned in enumerate(records):
            if returned is not None:
                self.task(task_id, number).xcom_push("return_value", returned)


@pytest.fixture
def run() -> Iterator[Run]:
    """A run whose last task is at work."""
    made = Run()
    with set_current_context({"ti": made.task("report")}):  # type: ignore[arg-type,typeddict-item]
        yield made
