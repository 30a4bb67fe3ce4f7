"""The videos of a run: what its tasks have returned of them, and what was planned and has no result yet."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.xcom import XComModel
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from vod.batch.outcomes import FAILURE_KEY
from vod.locations import public_name
from vod.pipeline.parts import REFUSED
from vod.pipeline.reports import AGAIN
from vod.records import AssetFailure, ExtractedAudio, Record, Transcript, parse_record
from vod.ui.entries import Entry, name_of

MOST_READ = 5_000
"""Assets of a run whose records are read: of more, the first."""
MOST_SHOWN = 500

Place = tuple[str, int]
"""A step of a DAG, which is a group of tasks or a task without one, and the map index in it."""

_RETURNED = "return_value"
_PART = "part_"
_ORDER = ("failed", "doubtful", "transcribing", "extracting", "waiting", "stopped", "ready", "done")


@dataclass(kw_only=True)
class Video:
    """A video of a run.

    :param state: One of :data:`vod.ui.entries.STATES`.
    :param reason: Why it failed, in words.
    :param entry: Key of its audio in the register.
    :param failures: By the place of the work: an asset may have several audios, in as many batches.
    :param redone: Whose work a place of the group ``again`` does anew.
    """

    asset: str = field(repr=False)
    state: str = "waiting"
    title: str = ""
    reason: str = ""
    outcome: str = ""
    entry: str = ""
    language: str = ""
    duration: float | None = None
    failures: dict[Place, AssetFailure] = field(default_factory=dict, repr=False)
    redone: dict[Place, Place] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.title or name_of(self.asset)

    def redo(self, place: Place) -> None:
        """Note that the next of its failures is done again there: both are in the order of the batches."""
        left = self.failures.keys() - self.redone.values()
        if left:
            self.redone[place] = min(left)

    def take(self, record: Record, place: Place) -> None:
        """Note what a task has returned of it. What failed in other batches of the step has failed still."""
        place = self.redone.get(place, place)
        others = {at: why for at, why in self.failures.items() if at[0] == place[0] and at != place}
        self.failures = others | ({place: record} if isinstance(record, AssetFailure) else {})
        self._show(record)
        if self.failures:
            self._show([*self.failures.values()][-1])

    def _show(self, record: Record) -> None:
        self.reason = self.outcome = ""
        if isinstance(record, AssetFailure):
            self.state, self.outcome = "failed", record.outcome
            self.reason = f"{record.message} {record.remedy}".strip()
        elif isinstance(record, Transcript):
            self.state = "doubtful" if record.outcome == "doubtful" else "done"
            self.reason = " ".join(map(str, record.warnings))
            self.language, self.duration = record.language, record.duration
            self.entry = record.entry or self.entry
        elif isinstance(record, ExtractedAudio):
            self.state = "ready"
            self.title, self.entry = record.title or self.title, record.entry or self.entry
            self.language, self.duration = record.language or "", record.duration
        else:
            self.state = "extracting"


@dataclass(frozen=True)
class Trouble:
    """A task of a run that failed as a whole, and why."""

    task_id: str
    map_index: int
    reason: str


@dataclass
class RunVideos:
    """The videos of a run, what failed first.

    :param whole: Whether all records of the run were read.
    """

    videos: list[Video] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    whole: bool = True

    @property
    def counts(self) -> Counter[str]:
        """How many are in which state."""
        return Counter(video.state for video in self.videos)


def videos_of(
    session: Session, run: DagRun, entries: Iterable[Entry], task: tuple[str, int] | None = None
) -> RunVideos:
    """Read what the tasks of a run have left: plans, results, reasons.

    :param entries: Of the register, those that a task of the run wrote last: how far an asset is that has no
        result yet.
    :param task: Only the videos of this task instance, by its id and map index.
    """
    found, result = dict[str, Video](), RunVideos()
    parts: dict[tuple[bool, int], list[str]] = {}
    rows = session.execute(
        select(XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value)
        .where(
            XComModel.dag_id == run.dag_id,
            XComModel.run_id == run.run_id,
            or_(
                XComModel.key.in_([_RETURNED, FAILURE_KEY, REFUSED]),
                XComModel.key.startswith(_PART, autoescape=True),
            ),
        )
        .order_by(XComModel.timestamp, XComModel.map_index)
        .execution_options(yield_per=10)
    )
    for task_id, map_index, key, stored in rows:
        if task and not _concerns(task, task_id, map_index, key):
            continue
        value = _loaded(stored)
        place = (task_id.rpartition(".")[0] or task_id, map_index)
        if len(found) >= MOST_READ and key != FAILURE_KEY:
            result.whole = False
            continue
        if key.startswith(_PART):
            names = list(_planned(value))
            parts[task_id == "failed", _number(key)] = names
            for name in names:
                video = found.setdefault(name, Video(asset=name))
                if task_id == "failed":
                    video.redo((AGAIN, _number(key)))
        elif key == FAILURE_KEY:
            failure = _record(value)
            if isinstance(failure, AssetFailure):
                reason = f"{failure.asset}: " if failure.asset else ""
                reason += f"{failure.message} {failure.remedy}".strip()
                result.troubles.append(Trouble(task_id, map_index, reason))
                lost = parts.get((task_id.startswith(f"{AGAIN}."), map_index), [])
                for name in lost:
                    failed = AssetFailure(asset=name, outcome=failure.outcome, message=reason)
                    found[name].take(failed, place)
                _take(found, value.get("records"), place)
        else:
            _take(found, value, place)
    _take_over(found, entries)
    result.videos = sorted(found.values(), key=lambda video: _ORDER.index(video.state))
    return result


def _concerns(task: tuple[str, int], writer: str, map_index: int, key: str) -> bool:
    """Whether an XCom says something of the batch of a task instance: its part of the plan, or its result."""
    if not key.startswith(_PART):
        return (writer, map_index) == task
    return _number(key) == task[1] and (writer == "failed") == task[0].startswith(f"{AGAIN}.")


def _take(found: dict[str, Video], value: Any, place: Place) -> None:
    for element in value if isinstance(value, list) else [value]:
        record = _record(element)
        if record is not None and record.asset:
            video = found.setdefault(record.asset, Video(asset=record.asset))
            is_older = isinstance(record, ExtractedAudio) and video.state in ("done", "doubtful")
            if not is_older:
                video.take(record, place)


def _take_over(found: Mapping[str, Video], entries: Iterable[Entry]) -> None:
    """How far those are that have no result, and where each is in the register."""
    for entry in entries:
        video = found.get(entry.asset)
        if video is None:
            continue
        video.entry = video.entry or entry.key
        video.title = video.title or str(entry.record.get("title") or "")
        if video.state == "waiting":
            video.state = entry.state
            failure = entry.failure
            video.reason = f"{failure.get('message', '')} {failure.get('remedy', '')}".strip()


def _planned(value: Any) -> Iterator[str]:
    """The names of the assets of a part of a plan."""
    if not isinstance(value, Mapping):
        return
    for asset in value.get("assets") or ():
        if isinstance(asset, str):
            yield public_name(asset)
    for record in value.get("audio") or ():
        if isinstance(record, Mapping) and isinstance(record.get("asset"), str):
            yield record["asset"]


def _record(element: Any) -> Record | None:
    """A record of this package; ``None`` for whatever else a task may return."""
    try:
        record = parse_record(dict(element)) if isinstance(element, Mapping) else None
        return record if record and isinstance(record.asset, str) else None
    except (KeyError, TypeError, ValueError):
        return None


def _loaded(value: Any) -> Any:
    """An XCom as it was pushed. What ``airflow dags test`` and older versions wrote is JSON within JSON."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _number(key: str) -> int:
    digits = key.removeprefix(_PART)
    return int(digits) if digits.isdecimal() and len(digits) < 10 else -1
