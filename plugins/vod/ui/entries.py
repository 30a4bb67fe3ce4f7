"""The register as the page of all assets reads it: in pages, from the metadata database.

The register's values are JSON text. Each begins with its state and with what can be searched
(:func:`vod.library.register.searchable`), so that the database filters by comparing text: it never parses
JSON, which what people write could make invalid for it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, TypeVar
from urllib.parse import unquote

from airflow.models.asset import AssetModel
from airflow.models.asset_state_store import AssetStateStoreModel as Stored
from sqlalchemy import ColumnElement, Integer, and_, case, cast, func, or_, select
from sqlalchemy.orm import Session, aliased
from sqlalchemy.sql.selectable import GenerativeSelect

from vod.library import texts
from vod.library.register import REGISTER, SECONDS_DIGITS
from vod.locations import is_asset_id

STATES = ("waiting", "extracting", "ready", "transcribing", "done", "doubtful", "failed", "stopped")
"""Of an asset, as people see it: that of its audio, and of the text once the audio is ready."""
MOVING = ("waiting", "extracting", "transcribing")
PAGE = 50
"""Assets a page."""
DAYS = 30
"""That the chart shows."""

S = TypeVar("S", bound=GenerativeSelect)

_OF_AUDIO = ("waiting", "extracting", "stopped")
_OF_TEXT = ("transcribing", "done", "doubtful")
_ESCAPE = "!"
_BEFORE_STATE = len('{"state": "')
_READY_FOR = '{"state": "ready", "seconds": "'
_LETTERS = 4
"""Of a state, which tell it from all others."""


@dataclass(frozen=True)
class Writer:
    """The task that wrote an entry last."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """An asset of the register.

    :param key: Of its audio in the register.
    :param audio: What is stored of the audio.
    :param text: What is stored of its text; empty when nothing is.
    :param written: When and by whom the audio's entry was written last.
    """

    key: str
    audio: Mapping[str, Any]
    updated: datetime
    written: Writer
    text: Mapping[str, Any] = field(default_factory=dict)
    text_written: Writer | None = None
    text_updated: datetime | None = None

    @property
    def record(self) -> Mapping[str, Any]:
        """:class:`vod.records.ExtractedAudio` as JSON; empty while there is none."""
        return _mapping(self.audio.get("record"))

    @property
    def transcript(self) -> Mapping[str, Any]:
        """:class:`vod.records.Transcript` as JSON, of this audio; empty while there is none."""
        return _mapping(self.text.get("record")) if self._text_is_of_this_audio else {}

    @property
    def _text_is_of_this_audio(self) -> bool:
        return bool(self.record) and self.text.get("audio") == self.record.get("uri")

    @property
    def state(self) -> str:
        """One of :data:`STATES`."""
        state = str(self.audio.get("state"))
        if state == "ready" and self._text_is_of_this_audio and self.text.get("state") in texts.STATES:
            return str(self.text["state"])
        return state if state in STATES else "waiting"

    @property
    def failure(self) -> Mapping[str, Any]:
        """:class:`vod.records.AssetFailure` as JSON; empty unless the asset has failed."""
        if self.state != "failed":
            return {}
        own = self.audio.get("failure") or self.audio.get("reason")
        return _mapping(self.text.get("failure") if self.record else own)

    @property
    def warnings(self) -> list[str]:
        """What was odd about the audio and the text, one sentence each."""
        found = (self.record.get("warnings"), self.transcript.get("warnings"))
        return [str(warning) for each in found if isinstance(each, list) for warning in each]

    @property
    def files(self) -> Mapping[str, Any]:
        """URIs of the files of the text, by caption format."""
        return _mapping(self.transcript.get("uris"))

    @property
    def asset(self) -> str:
        """The source as the records name it."""
        return str(self.audio.get("asset", ""))

    @property
    def title(self) -> str:
        """What people call it: its title in VOD, or the name of its file."""
        return str(self.record.get("title") or name_of(self.asset))

    @property
    def engine(self) -> str:
        """What extracts or has extracted the audio."""
        return str(self.record.get("engine") or self.audio.get("engine", ""))

    @property
    def language(self) -> str:
        """Language of the text, or of the audio track."""
        return str(self.transcript.get("language") or self.record.get("language") or "")

    @property
    def duration(self) -> float | None:
        """Seconds of audio."""
        duration = self.record.get("duration")
        return float(duration) if isinstance(duration, (int, float)) else None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a page of the library shows.

    :param state: One of :data:`STATES`; all when empty.
    :param text: Part of a title, a name or an id, or of how the transcript begins.
    :param language: Code of the language of the text, or of the track while there is no text.
    :param dag_id: Only what this DAG wrote last.
    :param run_id: Only what this run wrote last.
    :param since: Only what was changed on this day or later, in UTC.
    :param until: Only what was changed on this day or before.
    """

    state: str = ""
    text: str = field(default="", repr=False)
    language: str = ""
    dag_id: str = ""
    run_id: str = ""
    since: date | None = None
    until: date | None = None


@dataclass
class Day:
    """What the DAGs did on a day.

    :param assets: Whose audio became ready.
    :param failed: For which there was no audio.
    :param seconds: Of audio, all together.
    """

    date: date
    assets: int = 0
    failed: int = 0
    seconds: int = 0


class Library:
    """The register, as far as a user may see it.

    :param session: Of the metadata database.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asset = session.scalar(select(AssetModel.id).where(AssetModel.name == REGISTER.name))

    def counts(self) -> dict[str, Counter[str]]:
        """How many assets are in which state, by the DAG that wrote them last: one look at all entries."""
        letters = func.substr(Stored.value, _BEFORE_STATE + 1, _LETTERS)
        states = {state[:_LETTERS]: state for state in STATES}
        found: dict[str, Counter[str]] = {}
        for prefix in ("audio", "text"):
            counted = (
                select(Stored.last_updated_by_dag_id, letters, func.count())
                .where(self._kind(prefix))
                .group_by(Stored.last_updated_by_dag_id, letters)
            )
            for dag_id, text, count in self._session.execute(counted):
                found.setdefault(dag_id or "", Counter())[f"{prefix} {states.get(text, '')}"] += count
        return found

    def page(self, wanted: Wanted, dag_ids: Sequence[str], offset: int, limit: int = PAGE) -> list[Entry]:
        """Assets, newest first.

        :param dag_ids: The DAGs whose results the user may see.
        """
        rows = _newest(select(Stored).where(self._wanted(wanted, dag_ids)), offset, limit)
        return self._entries(self._session.scalars(rows).all(), dag_ids)

    def page_and_count(
        self, wanted: Wanted, dag_ids: Sequence[str], offset: int, limit: int = PAGE
    ) -> tuple[list[Entry], int]:
        """:meth:`page`, and how many assets there are to show: one look at all entries for both."""
        conditions = self._wanted(wanted, dag_ids)
        found = _newest(select(Stored.key, func.count().over()).where(conditions), offset, limit)
        told = self._session.execute(found).all()
        if not told:
            counted = select(func.count()).select_from(Stored).where(conditions)
            return [], (self._session.scalar(counted) or 0) if offset else 0
        keys = [each.key for each in told]
        rows = select(Stored).where(Stored.asset_id == self._asset, Stored.key.in_(keys))
        by_key = {row.key: row for row in self._session.scalars(rows)}
        return self._entries([by_key[key] for key in keys if key in by_key], dag_ids), int(told[0][1])

    def days(self, dag_ids: Sequence[str], count: int = DAYS) -> list[Day]:
        """What was written on each of the last days, in UTC, today last."""
        since = datetime.now(timezone.utc).date() - timedelta(days=count - 1)
        letters = func.substr(Stored.value, _BEFORE_STATE + 1, _LETTERS)
        seconds = func.substr(Stored.value, len(_READY_FOR) + 1, SECONDS_DIGITS)
        known = case((Stored.value.like(f"{_READY_FOR}%"), cast(seconds, Integer)), else_=0)
        written = func.date(Stored.updated_at)
        rows = self._session.execute(
            select(written, letters, func.count(), func.sum(known))
            .where(
                self._kind("audio"),
                Stored.last_updated_by_dag_id.in_(dag_ids),
                Stored.updated_at >= _midnight(since),
            )
            .group_by(written, letters)
        )
        days = {day: Day(day) for day in (since + timedelta(days=number) for number in range(count))}
        for when, state, count, length in rows:
            found = days.get(when if isinstance(when, date) else date.fromisoformat(str(when)[:10]))
            if found:
                found.assets += count if state == "ready"[:_LETTERS] else 0
                found.failed += count if state == "failed"[:_LETTERS] else 0
                found.seconds += int(length or 0)
        return list(days.values())

    def titles(self, keys: Iterable[str], dag_id: str) -> dict[str, str]:
        """The titles of assets that the DAG wrote last, by the keys of their audio, where there are any."""
        rows = select(Stored).where(
            self._kind("audio"), Stored.key.in_(list(keys)), Stored.last_updated_by_dag_id == dag_id
        )
        entries = [_entry(row, None) for row in self._session.scalars(rows)]
        return {entry.key: str(title) for entry in entries if (title := entry.record.get("title"))}

    def find(self, key: str) -> Entry | None:
        """The asset whose audio has this key. Its rights are still to be looked at."""
        row = select(Stored).where(self._kind("audio"), Stored.key == key)
        found = self._entries(self._session.scalars(row).all(), None)
        return found[0] if found else None

    def _entries(self, rows: Sequence[Stored], dag_ids: Sequence[str] | None) -> list[Entry]:
        keys = [texts.text_key(row.key) for row in rows]
        beside = select(Stored).where(Stored.asset_id == self._asset, Stored.key.in_(keys))
        if dag_ids is not None:
            beside = beside.where(Stored.last_updated_by_dag_id.in_(dag_ids))
        found = {row.key: row for row in self._session.scalars(beside)} if keys else {}
        return [_entry(row, found.get(texts.text_key(row.key))) for row in rows]

    def _kind(self, prefix: str, stored: type[Stored] = Stored) -> ColumnElement[bool]:
        # Keys end in hex digits: whatever the collation, they lie between these two.
        return and_(stored.asset_id == self._asset, stored.key >= f"{prefix}_0", stored.key < f"{prefix}_g")

    def _wanted(self, wanted: Wanted, dag_ids: Sequence[str]) -> ColumnElement[bool]:
        conditions = [self._kind("audio"), Stored.last_updated_by_dag_id.in_(dag_ids)]
        if wanted.dag_id:
            conditions.append(Stored.last_updated_by_dag_id == wanted.dag_id)
        if wanted.run_id:
            conditions.append(Stored.last_updated_by_run_id == wanted.run_id)
        if wanted.since:
            conditions.append(Stored.updated_at >= _midnight(wanted.since))
        if wanted.until:
            conditions.append(Stored.updated_at < _midnight(wanted.until) + timedelta(days=1))
        if wanted.text:
            titled = Stored.value.like(_holds("audio", wanted.text), escape=_ESCAPE)
            conditions.append(or_(titled, self._has_text(_holds("text", wanted.text), dag_ids)))
        if wanted.language:
            of_track = Stored.value.like(_speaks("audio", wanted.language), escape=_ESCAPE)
            told = self._has_text(_speaks("text"), dag_ids)
            spoken = self._has_text(_speaks("text", wanted.language), dag_ids)
            conditions.append(or_(spoken, and_(of_track, ~told)))
        if wanted.state:
            conditions.append(self._in_state(wanted.state))
        return and_(*conditions)

    def _in_state(self, state: str) -> ColumnElement[bool]:
        if state in _OF_AUDIO:
            return _begins(state)
        if state == "ready":
            return and_(_begins("ready"), ~self._has_text())
        with_text = and_(_begins("ready"), self._has_text(f'{{"state": "{state}"%'))
        return or_(_begins("failed"), with_text) if state == "failed" else with_text

    def _has_text(self, pattern: str = "", dag_ids: Sequence[str] | None = None) -> ColumnElement[bool]:
        """Whether an audio has a text.

        :param pattern: Only one that looks like this.
        :param dag_ids: Only a text that one of these DAGs wrote.
        """
        of_text = aliased(Stored)
        found = select(of_text.key).where(self._kind("text", of_text))
        if pattern:
            found = found.where(of_text.value.like(pattern, escape=_ESCAPE))
        if dag_ids is not None:
            found = found.where(of_text.last_updated_by_dag_id.in_(dag_ids))
        # CASE lets PostgreSQL look each key up in a hash table: joined, it would search the index for each.
        own_text = "text_" + func.substr(Stored.key, len("audio_") + 1)
        return case((own_text.in_(found), 1), else_=0) == 1


def shown_counts(counts: Mapping[str, Counter[str]], dag_ids: Iterable[str]) -> dict[str, int]:
    """How many assets are in which state, of those that a user may see."""
    total: Counter[str] = sum((counts.get(dag_id, Counter()) for dag_id in dag_ids), Counter())
    of_text = {state: total[f"text {state}"] for state in texts.STATES}
    found = {state: total[f"audio {state}"] for state in _OF_AUDIO}
    found |= {state: of_text[state] for state in _OF_TEXT}
    found["failed"] = total["audio failed"] + of_text["failed"]
    found["ready"] = max(total["audio ready"] - sum(of_text.values()), 0)
    return {state: found[state] for state in STATES}


def name_of(asset: str) -> str:
    """The name of a file, or the id of an asset."""
    if is_asset_id(asset):
        return asset
    return unquote(asset.partition("?")[0].rstrip("/").rpartition("/")[2]) or asset


def _newest(rows: S, offset: int, limit: int) -> S:
    return rows.order_by(Stored.updated_at.desc(), Stored.key).offset(offset).limit(limit)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), timezone.utc)


def _begins(state: str, stored: type[Stored] = Stored) -> ColumnElement[bool]:
    return stored.value.like(f'{{"state": "{state}"%')


def _holds(kind: str, text: str) -> str:
    """What a value looks like in whose words this text is. Quotes within JSON texts are escaped: the two that
    surround what is searched are those of the value itself."""
    return f'{{"state": "%", "find": "%{_inside(text)}%", "kind": "{kind}"%'


def _speaks(kind: str, language: str = "") -> str:
    """What a value looks like that is in a language; in any, without one."""
    wanted = f'{_inside(language)}"' if language else ""
    return f'{{"state": "%", "find": "%", "kind": "{kind}", "language": "{wanted}%'


def _inside(text: str) -> str:
    inside = json.dumps(text.casefold())[1:-1]
    for special in (_ESCAPE, "%", "_"):
        inside = inside.replace(special, _ESCAPE + special)
    return inside


def _entry(row: Stored, text: Stored | None) -> Entry:
    return Entry(
        key=row.key,
        audio=_value(row),
        updated=row.updated_at,
        written=_writer(row),
        text=_value(text) if text else {},
        text_written=_writer(text) if text else None,
        text_updated=text.updated_at if text else None,
    )


def _writer(row: Stored) -> Writer:
    index = row.last_updated_by_map_index
    return Writer(
        row.last_updated_by_dag_id or "",
        row.last_updated_by_run_id or "",
        row.last_updated_by_task_id or "",
        -1 if index is None else index,
    )


def _value(row: Stored) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(row.value))
    except ValueError:
        return {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
