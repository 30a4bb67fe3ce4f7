"""How many cores one recognition gets: several on a machine share them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import IO

from vod.cores import cores

try:
    import fcntl
except ImportError:  # no such locks on this system: nobody is counted
    fcntl = None  # type: ignore[assignment]

_MOST = 64
"""Recognitions that are counted."""

_held: list[IO[bytes]] = []


def share() -> int:
    """Threads for one more recognition on this machine, at least one. It counts until this process ends."""
    return max(1, cores() // (1 + _others()))


def _others() -> int:
    """How many processes hold a place, and take one: the kernel gives it back when the process ends."""
    if fcntl is None:
        return 0
    folder = Path(tempfile.gettempdir(), f"vod-recognisers-{os.getuid()}")
    others, mine = 0, False
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        for number in range(_MOST):
            place = folder / str(number)
            if mine and not place.exists():
                break
            file = place.open("wb")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                others += 1
                continue
            if mine:
                file.close()
            else:
                _held.append(file)
                mine = True
    return others
