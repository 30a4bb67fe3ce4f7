"""The assets, on disk: records in SQLite, contents as files beside them. Survives kill -9."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vod.errors import VodError
from vod.logs import get_logger
from vod.standin.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

log = get_logger(__name__)

QUEUED = "WAITING_TRANSCODE"
RUNNING = "TRANSCODING"
GONE = ("CANCELLED", "DELETED")
READY = ("CREATED", "TRANSCODE_SUCCEED", "PUBLISHED")
"""States of an asset that has contents to show."""

SPLIT_STATUS = {
    "CREATING": ("CREATING", "UN_TRANSCODE"),
    QUEUED: ("CREATED", QUEUED),
    RUNNING: ("CREATED", RUNNING),
    "CREATED": ("CREATED", "UN_TRANSCODE"),
    "TRANSCODE_SUCCEED": ("CREATED", "TRANSCODE_SUCCEED"),
    "TRANSCODE_FAILED": ("CREATED", "TRANSCODE_FAILED"),
    "PUBLISHED": ("PUBLISHED", "UN_TRANSCODE"),
    "UPLOAD_FAILED": ("FAILED", "UN_TRANSCODE"),
    "SERVER_ERROR": ("FAILED", "UN_TRANSCODE"),
    "CANCELLED": ("DELETED", "UN_TRANSCODE"),
    "DELETED": ("DELETED", "UN_TRANSCODE"),
}
"""Section 11: the one status of asset/info is two in asset/list, of the asset and of its transcoding."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS assets (
    number INTEGER PRIMARY KEY,       -- order of creation
    asset_id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',  -- why it failed
    title TEXT NOT NULL,
    video_name TEXT NOT NULL,
    video_type TEXT NOT NULL,
    description TEXT,
    category_id INTEGER NOT NULL DEFAULT -1,
    tags TEXT,
    auto_publish INTEGER NOT NULL DEFAULT 1,
    source TEXT,                      -- the video that this audio was extracted from
    object TEXT NOT NULL,             -- file name of the contents
    meta_data TEXT,                   -- JSON, once the contents were read
    created INTEGER NOT NULL,         -- seconds since the epoch
    modified INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS pulls (       -- downloads that are not over
    asset_id TEXT PRIMARY KEY,
    url TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS assets_by_source ON assets (source);
CREATE INDEX IF NOT EXISTS assets_by_status ON assets (status);
CREATE INDEX IF NOT EXISTS assets_by_age ON assets (created, number);
"""


class LibraryInUseError(VodError):
    """Another stand-in works on the same folder."""

    outcome = "library_in_use"
    remedy = "Stop the other stand-in, or give this one its own --data folder."


@dataclass(frozen=True, kw_only=True)
class Asset:
    number: int
    asset_id: str
    status: str
    reason: str
    title: str
    video_name: str
    video_type: str
    description: str | None
    category_id: int
    tags: str | None
    auto_publish: int
    source: str | None
    object: str
    meta_data: dict[str, Any] | None
    created: int
    modified: int

    @property
    def virtual(self) -> bool:
        """Whether there are no contents behind the metadata (:mod:`vod.standin.virtual`)."""
        return bool(self.meta_data and self.meta_data.get("virtual"))

    @property
    def ready(self) -> bool:
        return self.status in READY

    def names(self) -> tuple[str, ...]:
        """What a fault may call the asset."""
        return (self.asset_id, self.title, self.source or "")


class Library:
    """All assets under one folder. To be used from one thread only: that makes every change of state atomic.

    :param clock: Seconds since the epoch.
    :raises LibraryInUseError: the folder belongs to a running stand-in.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._objects = folder / "objects"
        self._objects.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(
            folder / "library.sqlite3", isolation_level=None, timeout=1, check_same_thread=False
        )
        self._database.row_factory = sqlite3.Row
        try:
            # The exclusive lock lasts as long as the process, however that ends.
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_SCHEMA)
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("COMMIT")
        except sqlite3.OperationalError as error:
            self._database.close()
            raise LibraryInUseError(f"the library {folder} cannot be opened ({error}).") from error

    def close(self) -> None:
        self._database.close()

    def create(self, *, status: str, extension: str, **columns: Any) -> Asset:
        """A new asset under a new id. Its contents get a generated name: no caller's reaches the disk."""
        [asset_id] = self.create_all([{**columns, "status": status}], extension)
        log.info("asset %s: new -> %s", asset_id, status)
        asset = self.get(asset_id)
        assert asset is not None
        return asset

    def create_all(self, rows: Sequence[dict[str, Any]], extension: str) -> list[str]:
        """Many new assets with the same columns at once; returns their ids."""
        now = int(self.clock())
        full = [
            {
                "created": now,
                **row,
                "asset_id": uuid.uuid4().hex,
                "object": f"{uuid.uuid4().hex[:8]}{extension}",
                "meta_data": json.dumps(row["meta_data"]) if row.get("meta_data") else None,
                "modified": now,
            }
            for row in rows
        ]
        names = list(full[0])
        marks = ", ".join(f":{name}" for name in names)
        with self._database:
            self._database.execute("BEGIN")
            self._database.executemany(
                f"INSERT INTO assets ({', '.join(names)}) VALUES ({marks})",  # noqa: S608
                full,
            )
        return [row["asset_id"] for row in full]

    def update(self, asset: Asset, *, status: str, **columns: Any) -> None:
        """Moves the asset to a state; one line of log for each change."""
        if columns.get("meta_data") is not None:
            columns["meta_data"] = json.dumps(columns["meta_data"])
        row = {"status": status, "modified": int(self.clock()), **columns}
        changes = ", ".join(f"{name} = ?" for name in row)
        self._database.execute(
            f"UPDATE assets SET {changes} WHERE asset_id = ?",  # noqa: S608
            (*row.values(), asset.asset_id),
        )
        if status != asset.status:
            reason = f" ({columns['reason']})" if columns.get("reason") else ""
            log.info("asset %s: %s -> %s%s", asset.asset_id, asset.status, status, reason)

    def discard(self, asset: Asset, status: str) -> None:
        """Moves the asset to a state without contents."""
        shutil.rmtree(self.path(asset).parent, ignore_errors=True)
        self.update(asset, status=status)

    def path(self, asset: Asset) -> Path:
        """Where the contents are."""
        return self._objects / asset.asset_id / asset.object

    def place(self, asset: Asset) -> Path:
        """Where the contents are to be written, in a folder of their own."""
        path = self.path(asset)
        path.parent.mkdir(exist_ok=True)
        return path

    def get(self, asset_id: str) -> Asset | None:
        found = self._select("asset_id = ?", (asset_id,))
        return found[0] if found else None

    def require(self, asset_id: str) -> Asset:
        """:raises RefusedError: VOD.10062, there is no such asset."""
        asset = self.get(asset_id)
        if asset is None or asset.status == "DELETED":
            raise RefusedError("VOD.10062")
        return asset

    def pull(self, asset: Asset, url: str) -> None:
        """Notes that the contents of the asset are to come from a URL."""
        self._database.execute("INSERT INTO pulls VALUES (?, ?)", (asset.asset_id, url))

    def pulled(self, asset: Asset) -> None:
        """Notes that the download is over."""
        self._database.execute("DELETE FROM pulls WHERE asset_id = ?", (asset.asset_id,))

    def pulling(self, asset: Asset) -> bool:
        query = "SELECT 1 FROM pulls WHERE asset_id = ?"
        return self._database.execute(query, (asset.asset_id,)).fetchone() is not None

    def pulls(self) -> list[tuple[Asset, str]]:
        """Downloads that are not over, in the order of their creation."""
        urls = dict(self._database.execute("SELECT asset_id, url FROM pulls").fetchall())
        assets = self._select(f"status = 'CREATING' AND asset_id IN ({_marks(urls)})", [*urls])
        return [(asset, urls[asset.asset_id]) for asset in assets]

    def extractions(self, *statuses: str, source: str | None = None) -> list[Asset]:
        """Audio assets in these states, in the order of their submission."""
        where = f"source IS NOT NULL AND status IN ({_marks(statuses)})"
        values: list[Any] = [*statuses]
        if source is not None:
            where += " AND source = ?"
            values.append(source)
        return self._select(where, values, order="number")

    def search(
        self,
        *,
        asset_ids: Sequence[str] = (),
        statuses: Iterable[str] | None = None,
        media_types: Sequence[str] = (),
        created_from: int | None = None,
        created_to: int | None = None,
        listed_until: float | None = None,
        category_id: int | None = None,
        tags: Sequence[str] = (),
        text: str | None = None,
        oldest_first: bool = False,
        offset: int = 0,
        limit: int = 10,
    ) -> tuple[int, list[Asset]]:
        """Number of matching assets, and one page of them. Deleted and cancelled ones need their id."""
        where: list[str] = []
        values: list[Any] = []

        def condition(sql: str, *arguments: Any) -> None:
            where.append(sql)
            values.extend(arguments)

        if asset_ids:
            condition(f"asset_id IN ({_marks(asset_ids)})", *asset_ids)
        else:
            condition(f"status NOT IN ({_marks(GONE)})", *GONE)
        if statuses is not None:
            chosen = list(statuses)
            condition(f"status IN ({_marks(chosen)})", *chosen)
        if media_types:
            condition(f"video_type IN ({_marks(media_types)})", *media_types)
        if created_from is not None:
            condition("created >= ?", created_from)
        if created_to is not None:
            condition("created <= ?", created_to)
        if listed_until is not None:
            condition("created <= ?", listed_until)
        if category_id is not None:
            condition("category_id = ?", category_id)
        for tag in tags:
            condition("instr(',' || tags || ',', ?)", f",{tag},")
        if text:
            condition("(instr(lower(title), lower(?)) OR instr(lower(description), lower(?)))", text, text)
        sql = " AND ".join(where)
        [total] = self._database.execute(f"SELECT count(*) FROM assets WHERE {sql}", values).fetchone()  # noqa: S608
        order = "created, number" if oldest_first else "created DESC, number DESC"
        return total, self._select(sql, [*values, limit, offset], order=f"{order} LIMIT ? OFFSET ?")

    def submissions(self) -> dict[str, int]:
        """Accepted extractions of each source, since the library exists."""
        rows = self._database.execute(
            "SELECT source, count(*) FROM assets WHERE source IS NOT NULL GROUP BY source"
        )
        return dict(rows.fetchall())

    def census(self) -> dict[str, int]:
        """Number of assets in each state."""
        return dict(self._database.execute("SELECT status, count(*) FROM assets GROUP BY status").fetchall())

    def _select(self, where: str, values: Sequence[Any], *, order: str = "number") -> list[Asset]:
        rows = self._database.execute(f"SELECT * FROM assets WHERE {where} ORDER BY {order}", values)  # noqa: S608
        return [
            Asset(**{**row, "meta_data": json.loads(row["meta_data"]) if row["meta_data"] else None})
            for row in map(dict, rows)
        ]


def _marks(values: Collection[Any]) -> str:
    return ", ".join("?" * len(values))
