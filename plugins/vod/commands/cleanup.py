"""``python -m vod cleanup``: removes what Airflow's metadata database no longer has to keep of audio."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import cached_property
from typing import TYPE_CHECKING, Any

from vod.connection import DEFAULT_CONNECTION
from vod.errors import VodError
from vod.library.texts import text_key
from vod.locations import parse_location
from vod.logs import get_logger
from vod.storage.errors import FolderNotSeenError

if TYPE_CHECKING:
    from vod.hooks import VodHook
    from vod.library.register import Entry
    from vod.storage.destination import Destination

log = get_logger(__name__)

_PAGE = 500
"""Rows that are read and removed together."""
_SECOND_LOOK = 5.0
"""Seconds until VOD is asked again for audio that it calls gone."""
_OURS = ("vod_ledger_%", "vod_settled_%", "batch_%")
"""Keys of what tasks keep of their batches."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a (sub)command."""
    parser.add_argument(
        "--older-than", type=int, default=90, metavar="DAYS", help="keep what was changed since (default: 90)"
    )
    parser.add_argument(
        "--vod-conn-id", default=DEFAULT_CONNECTION, metavar="ID", help="connection that knows the audio"
    )
    parser.add_argument("--dry-run", action="store_true", help="remove nothing, only count")


def run(options: argparse.Namespace) -> int:
    """Removes, and says what; returns 0, or 2 if it cannot begin."""
    try:
        cleanup = Cleanup(options.vod_conn_id, timedelta(days=options.older_than), dry_run=options.dry_run)
    except VodError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    verb = "would be removed" if options.dry_run else "removed"
    for what, count in (
        ("signs of life of tasks", cleanup.signs_of_life()),
        ("entries without audio", cleanup.entries_without_audio()),
        ("entries whose audio is gone", cleanup.entries_of_vanished_audio()),
        ("pages of what finished runs did", cleanup.task_states()),
        ("unfinished files", cleanup.partials()),
    ):
        sys.stdout.write(f"{what}: {count} {verb}\n")
    for why, count in cleanup.left.items():
        sys.stdout.write(f"entries left as they are: {count}. {why}\n")
    return 0


class NoDatabaseError(VodError):
    """Airflow's metadata database cannot be reached from here."""

    outcome = "no_database"
    remedy = "Run this where the scheduler runs, with its configuration."


class Cleanup:
    """Removes old state of this package from Airflow's metadata database, a page at a time.

    An entry of the register that holds audio is never removed by its age: its asset would be extracted, and
    billed, again. It goes when VOD and the place of its file say that the audio is gone; what does not
    answer, or is not seen from here, says nothing.

    :param vod_conn_id: Connection that knows the audio. Entries of other projects of VOD stay.
    :param age: What was changed since is kept.
    :param dry_run: Only count.
    :ivar left: How many entries that hold audio were not judged, by the reason.
    :raises NoDatabaseError: the database cannot be reached.
    """

    def __init__(self, vod_conn_id: str, age: timedelta, *, dry_run: bool = False) -> None:
        from airflow.models.asset import AssetModel
        from airflow.utils.session import create_session
        from sqlalchemy import select
        from sqlalchemy.exc import SQLAlchemyError

        from vod.library.register import REGISTER

        self._vod_conn_id = vod_conn_id
        self._before = datetime.now(timezone.utc) - age
        self._dry_run = dry_run
        self.left: Counter[str] = Counter()
        self._silent = ""
        self._folders: dict[str, Destination] = {}
        self._unseen: dict[str, str] = {}
        try:
            with create_session() as session:
                self._register = session.scalar(select(AssetModel.id).where(AssetModel.name == REGISTER.name))
        except SQLAlchemyError as error:
            raise NoDatabaseError(
                f"Airflow's metadata database cannot be read ({type(error).__name__})."
            ) from None

    def signs_of_life(self) -> int:
        """Those of tasks that have ended, and their claims of orders: older than a day."""
        day = datetime.now(timezone.utc) - timedelta(days=1)
        found = (rows for prefix in ("alive_", "order_") for rows in self._rows(prefix, before=day))
        return sum(self._remove([key for key, _ in rows], before=day) for rows in found)

    def entries_without_audio(self) -> int:
        """Claims and failures that nobody has touched for so long.

        A submission that VOD may have accepted stays: the next task looks for its audio first.
        """
        from vod.library.register import Entry

        removed = 0
        for rows in self._rows("audio_", before=self._before):
            entries = {key: Entry.parse(value) for key, value in rows}
            old = [
                key for key, entry in entries.items() if not (entry and (_has_audio(entry) or entry.intended))
            ]
            removed += self._remove(old, before=self._before)
        return removed

    def entries_of_vanished_audio(self) -> int:
        """Those whose audio VOD does not have, by two answers, and whose file is not there any more."""
        from vod.library.register import Entry

        removed = 0
        for rows in self._rows("audio_", before=self._before):
            entries = {
                key: entry for key, value in rows if (entry := Entry.parse(value)) and _has_audio(entry)
            }
            audio = {key: entry.audio for key, entry in entries.items() if entry.audio}
            projects = {key: value.get("project") for key, value in rows if key in audio}
            gone = (entries.keys() - audio.keys()) | self._gone_in_vod(audio, projects)
            gone = {key for key in gone if self._files_are_gone(entries[key])}
            beside = {
                key: [text_key(key), *([f"owner_{audio[key]}"] if key in audio else [])] for key in gone
            }
            removed += self._remove([*gone], before=self._before, beside=beside)
        return removed

    def task_states(self) -> int:
        """What the tasks of finished runs keep of their batches."""
        from airflow.models.dagrun import DagRun
        from airflow.models.task_state_store import TaskStateStoreModel as State
        from airflow.utils.session import create_session
        from airflow.utils.state import DagRunState
        from sqlalchemy import delete, or_, select

        removed, last = 0, 0
        while True:
            with create_session() as session:
                ids = session.scalars(
                    select(State.id)
                    .join(DagRun, DagRun.id == State.dag_run_id)
                    .where(
                        State.id > last,
                        State.updated_at < self._before,
                        DagRun.state.in_([DagRunState.SUCCESS, DagRunState.FAILED]),
                        or_(*(State.key.like(key.replace("_", r"\_"), escape="\\") for key in _OURS)),
                    )
                    .order_by(State.id)
                    .limit(_PAGE)
                ).all()
                if ids and not self._dry_run:
                    session.execute(delete(State).where(State.id.in_(ids)))
            if not ids:
                return removed
            removed, last = removed + len(ids), ids[-1]

    def partials(self) -> int:
        """What processes that died have left in the connection's destination."""
        from vod.storage.destination import Destination

        try:
            location = self._hook.settings.destination
            return 0 if self._dry_run or not location else Destination(location).sweep()
        except VodError as error:
            log.warning("The destination was not looked at: %s", error)
            return 0

    @cached_property
    def _hook(self) -> VodHook:
        from vod.hooks import VodHook

        return VodHook(self._vod_conn_id)

    def _rows(self, prefix: str, *, before: datetime) -> Iterator[list[tuple[str, Any]]]:
        from airflow.models.asset_state_store import AssetStateStoreModel as State
        from airflow.utils.session import create_session
        from sqlalchemy import select

        last = prefix
        while self._register is not None:
            with create_session() as session:
                rows = session.execute(
                    select(State.key, State.value)
                    .where(
                        State.asset_id == self._register,
                        State.key > last,
                        State.key < prefix[:-1] + chr(ord(prefix[-1]) + 1),
                        State.updated_at < before,
                    )
                    .order_by(State.key)
                    .limit(_PAGE)
                ).all()
            if not rows:
                return
            last = rows[-1][0]
            yield [(key, json.loads(value)) for key, value in rows]

    def _gone_in_vod(self, audio: Mapping[str, str], projects: Mapping[str, str | None]) -> set[str]:
        """Keys of the entries whose audio VOD calls gone, and calls it so again a little later.

        :param audio: VOD's audio assets, by key.
        :param projects: Whose they are, by key: the connection knows those of its own project only.
        """
        if audio and not self._silent:
            try:
                project = self._hook.client.project_id()
                left = {key: one for key, one in audio.items() if projects[key] == project}
                others = len(audio) - len(left)
                for pause in (0.0, _SECOND_LOOK):
                    if left:
                        time.sleep(pause)
                        states = self._hook.client.asset_info(left.values())
                        left = {
                            key: one
                            for key, one in left.items()
                            if states[one].is_gone and not states[one].is_missing
                        }
                self._leave(
                    f"Their audio is in another project of VOD than that of the connection "
                    f"{self._vod_conn_id}: run this with --vod-conn-id and a connection to it.",
                    others,
                )
                return set(left)
            except VodError as error:
                self._silent = f"VOD does not say which audio is gone. {error}"
        self._leave(self._silent, len(audio))
        return set()

    def _files_are_gone(self, entry: Entry) -> bool:
        """Whether all files of audio are gone, for certain; also when there is none: all was in VOD."""
        uris = [str(record.get("uri", "")) for record in entry.records]
        files = [uri for uri in uris if uri and not uri.startswith("vod://")]
        return all(map(self._file_is_gone, files)) if files else bool(entry.audio)

    def _file_is_gone(self, uri: str) -> bool:
        from vod.library.folders import is_another
        from vod.storage.destination import Destination

        folder = ""
        try:
            folder, name = _folder_and_name(uri)
            if folder not in self._unseen:
                if folder not in self._folders:
                    self._folders[folder] = destination = Destination(folder)
                    if is_another(destination, self._value):
                        raise FolderNotSeenError("Tasks wrote to another folder of that path.", asset=folder)
                return self._folders[folder].lacks(name)
        except VodError as error:
            self._unseen[folder] = str(error)
        self._leave(self._unseen[folder], 1)
        return False

    def _leave(self, why: str, count: int) -> None:
        if count:
            self.left[why] += count

    def _value(self, key: str) -> Any:
        from airflow.models.asset_state_store import AssetStateStoreModel as State
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            value = session.scalar(
                select(State.value).where(State.asset_id == self._register, State.key == key)
            )
        return None if value is None else json.loads(value)

    def _remove(
        self, keys: Sequence[str], *, before: datetime, beside: Mapping[str, Sequence[str]] | None = None
    ) -> int:
        """Remove those that nobody has changed meanwhile, and what lies beside each; returns how many."""
        from airflow.models.asset_state_store import AssetStateStoreModel as State
        from airflow.utils.session import create_session
        from sqlalchemy import delete, select

        ours = State.asset_id == self._register
        with create_session() as session:
            unchanged = session.scalars(
                select(State.key)
                .where(ours, State.key.in_(keys), State.updated_at < before)
                .with_for_update()
            ).all()
            also = [other for key in unchanged for other in (beside or {}).get(key, ())]
            if unchanged and not self._dry_run:
                session.execute(delete(State).where(ours, State.key.in_([*unchanged, *also])))
        return len(unchanged)


def _has_audio(entry: Entry) -> bool:
    return bool(entry.audio or entry.record)


def _folder_and_name(uri: str) -> tuple[str, str]:
    """Where a file lies, and its name as the file system has it.

    :raises InvalidInputError: this is no URI of a file.
    """
    path = parse_location(uri).path
    if path is not None:
        return str(path.parent), path.name
    folder, _, name = uri.rpartition("/")
    return folder, name
