"""``python -m vod cleanup``: removes what Airflow's metadata database no longer has to keep of audio."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from vod.connection import DEFAULT_CONNECTION
from vod.errors import VodError
from vod.library.texts import text_key
from vod.logs import get_logger

if TYPE_CHECKING:
    from vod.hooks import VodHook
    from vod.library.register import Entry

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
    return 0


class NoDatabaseError(VodError):
    """Airflow's metadata database cannot be reached from here."""

    outcome = "no_database"
    remedy = "Run this where the scheduler runs, with its configuration."


class Cleanup:
    """Removes old state of this package from Airflow's metadata database, a page at a time.

    An entry of the register that holds audio is never removed by its age: its asset would be extracted, and
    billed, again.

    :param vod_conn_id: Connection that knows the audio.
    :param age: What was changed since is kept.
    :param dry_run: Only count.
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
        return sum(self._remove([key for key, _ in rows]) for rows in found)

    def entries_without_audio(self) -> int:
        """Claims and failures that nobody has touched for so long."""
        return sum(
            self._remove([key for key, entry in self._entries(rows) if not _has_audio(entry)])
            for rows in self._rows("audio_", before=self._before)
        )

    def entries_of_vanished_audio(self) -> int:
        """Those whose audio VOD calls gone twice, or whose file is not there any more."""
        removed = 0
        for rows in self._rows("audio_", before=self._before):
            entries = [(key, entry) for key, entry in self._entries(rows) if entry and _has_audio(entry)]
            gone = self._gone_in_vod({key: entry.audio for key, entry in entries if _in_vod(entry)})
            gone |= {key for key, entry in entries if not _in_vod(entry) and self._file_is_gone(entry)}
            beside = [f"owner_{entry.audio}" for key, entry in entries if key in gone and entry.audio]
            beside += map(text_key, gone)
            removed += self._remove(list(gone), also=beside)
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

    @property
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
            yield [(key, value) for key, value in rows]

    @staticmethod
    def _entries(rows: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Entry | None]]:
        import json

        from vod.library.register import Entry

        for key, value in rows:
            yield key, Entry.parse(json.loads(value))

    def _gone_in_vod(self, audio: dict[str, str | None]) -> set[str]:
        """Keys of the entries whose audio VOD calls gone, and calls it so again a little later."""
        left = {key: one for key, one in audio.items() if one}
        try:
            client = self._hook.client
            for pause in (0.0, _SECOND_LOOK):
                if left:
                    time.sleep(pause)
                    states = client.asset_info(left.values())
                    left = {
                        key: one
                        for key, one in left.items()
                        if states[one].is_gone and not states[one].is_missing
                    }
        except VodError as error:
            log.warning("VOD does not say which audio is gone; nothing of it is removed. %s", error)
            return set()
        return set(left)

    @staticmethod
    def _file_is_gone(entry: Entry) -> bool:
        from vod.storage.destination import Destination

        folder, _, name = str((entry.record or {}).get("uri", "")).rpartition("/")
        try:
            return bool(folder) and Destination(folder).size(name) is None
        except VodError as error:
            log.warning("%s: %s", entry.asset, error)
            return False

    def _remove(self, keys: Sequence[str], *, also: Sequence[str] = ()) -> int:
        from airflow.models.asset_state_store import AssetStateStoreModel as State
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        if keys and not self._dry_run:
            with create_session() as session:
                session.execute(
                    delete(State).where(State.asset_id == self._register, State.key.in_([*keys, *also]))
                )
        return len(keys)


def _has_audio(entry: Entry | None) -> bool:
    return entry is not None and bool(entry.audio or entry.record)


def _in_vod(entry: Entry) -> bool:
    uri = str((entry.record or {}).get("uri", "vod://"))
    return uri.startswith("vod://")
