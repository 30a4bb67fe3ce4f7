"""How far a run is: what its tasks have reported of their batches, added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

_SOONEST = 10.0
"""Seconds of a run before which its pace says nothing."""

_ENDED = ("success", "failed", "upstream_failed", "skipped", "removed")
_TO_COME = (None, "scheduled", "queued")


@dataclass(frozen=True)
class Batch:
    """A task instance, and what it has reported.

    :param map_index: -1 when the task is not mapped.
    :param state: Airflow's word; none before it is scheduled.
    """

    task: str
    map_index: int
    state: str | None
    reported: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskProgress:
    """The assets of all batches of a task.

    :param assets: How many there are, as far as is known.
    :param batches: How many of its batches are in which state.
    """

    task: str
    assets: int
    done: int
    failed: int
    batches: dict[str, int]

    @property
    def percent(self) -> int:
        """What is settled, rounded down: 100 means all."""
        return 100 * self.settled // self.assets if self.assets else 0

    @property
    def settled(self) -> int:
        """Assets that need no more work."""
        return self.done + self.failed

    def pace(self, seconds: float) -> tuple[float, float] | None:
        """Assets a minute, and about how many seconds the rest takes; ``None``: too early to tell.

        :param seconds: Since the run began.
        """
        if seconds < _SOONEST or not 0 < self.settled < self.assets:
            return None
        return 60 * self.settled / seconds, (self.assets - self.settled) * seconds / self.settled


@dataclass(frozen=True)
class RunProgress:
    """How far a run is.

    :param before: Assets of its list that had been done before the run.
    :param planned: Assets that it works on; ``None`` when no task has noted them.
    :param at_work: Batches that are being worked on and have said something.
    """

    before: int
    planned: int | None
    tasks: list[TaskProgress]
    at_work: list[Batch]

    def to_json(self) -> dict[str, Any]:
        """The figures for ``/vod/progress.json``."""
        tasks = [{**asdict(task), "percent": task.percent} for task in self.tasks]
        return {
            "before": self.before,
            "planned": self.planned,
            "tasks": tasks,
            "at_work": [asdict(batch) for batch in self.at_work],
        }


def progress_of(batches: Iterable[Batch], plans: Iterable[Mapping[str, int]]) -> RunProgress:
    """Add up what the tasks of a run have reported.

    :param batches: All its task instances.
    :param plans: What :func:`vod.batch.progress.note_plan` noted in it; with more than one it is not known
        which task follows which.
    """
    noted = list(plans)
    planned = noted[0]["assets"] if len(noted) == 1 else None
    by_task: dict[str, list[Batch]] = {}
    for batch in batches:
        by_task.setdefault(batch.task, []).append(batch)
    tasks = [
        _task(name, members, planned)
        for name, members in by_task.items()
        if any(batch.reported for batch in members)
    ]
    at_work = [
        batch
        for members in by_task.values()
        for batch in members
        if batch.reported and batch.state not in (*_TO_COME, *_ENDED)
    ]
    return RunProgress(sum(note["before"] for note in noted), planned, tasks, at_work)


def _task(name: str, batches: list[Batch], planned: int | None) -> TaskProgress:
    sums: Counter[str] = Counter()
    for batch in batches:
        sums.update({figure: batch.reported.get(figure, 0) for figure in ("assets", "done", "failed")})
    states = Counter(batch.state or "to come" for batch in batches)
    return TaskProgress(name, max(sums["assets"], planned or 0), sums["done"], sums["failed"], dict(states))
