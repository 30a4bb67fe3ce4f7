"""Whether a folder is the same one on all machines that write to it.

With Celery or Kubernetes tasks run on several machines. A path such as ``/audio`` may be a disk that all of
them share, or each machine's own; then what one has extracted is not there for the other. A mark in the
folder tells: the register knows which mark the last task saw under that path.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable
from typing import Any

from airflow.sdk.configuration import conf

from vod.errors import InvalidInputError
from vod.library.register import SETTLING, Store
from vod.storage.destination import MARK, Destination

MEMORY = 3600.0
"""Seconds after which another machine may have a new folder under that path: somebody has changed it."""
_RENEWED = 600.0


class FolderNotSharedError(InvalidInputError):
    """A local folder is the destination of tasks on several machines that do not share it."""

    outcome = "folder_not_shared"
    remedy = (
        "Mount one shared folder there on all workers, or use a destination on object storage, for example "
        "s3://bucket/audio."
    )


def check_shared(destination: Destination, store: Store) -> None:
    """See that a local folder is the one that other machines write to under the same path.

    A folder on object storage always is, and where the executor runs tasks only on its own machine there is
    no other one.

    :param store: That of the register.
    :raises FolderNotSharedError: a task on another machine has written to another folder.
    :raises vod.media.DestinationError: the folder cannot be made or written to.
    """
    if on_one_machine() or (mark := destination.mark()) is None:
        return
    uri, host, key = destination.uri(""), platform.node(), _key(destination)
    while True:
        known, now = _known(store.get(key)), time.time()
        is_recent = now - known["at"] < MEMORY
        if known["mark"] != mark and known["host"] != host and is_recent:
            raise FolderNotSharedError(
                f"The folder {uri} is not the same on all machines: {host} does not see what "
                f"{known['host']} writes there."
            )
        if known["mark"] == mark and now - known["at"] < _RENEWED:
            return
        store.set(key, {"mark": mark, "host": host, "at": round(now, 3)})
        if known["mark"] == mark:
            return
        # Of several machines that come at once the last one to write wins, as in the register: whoever still
        # finds its own mark after the longest time that a write may take.
        time.sleep(SETTLING)


def is_another(destination: Destination, get: Callable[[str], Any]) -> bool:
    """Whether a folder is another one on this machine than where tasks have written to under that path.

    :param get: Gives the value of a key of the register, ``None`` when there is none.
    :raises vod.media.DestinationError: the folder cannot be read.
    """
    known = _known(get(_key(destination)))["mark"]
    return bool(known) and (destination.read(MARK) or b"").decode(errors="replace") != known


def _key(destination: Destination) -> str:
    return f"folder_{hashlib.sha256(destination.uri('').encode()).hexdigest()[:32]}"


def _known(known: Any) -> dict[str, Any]:
    """What the register says of a folder."""
    if isinstance(known, dict) and {"mark", "host", "at"} <= set(known):
        return known
    return {"mark": "", "host": "", "at": 0.0}


def on_one_machine() -> bool:
    """Whether all executors run tasks beside the scheduler."""
    names = conf.get("core", "executor", fallback="LocalExecutor").split(",")
    return all(name.strip().rpartition(":")[2].rpartition(".")[2] == "LocalExecutor" for name in names)
