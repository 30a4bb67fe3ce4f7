"""How many cores one recognition gets: several on a machine share them."""

from __future__ import annotations

import contextlib
import os

from vod.cores import cores, lock_place, places

_MOST = 64
"""Recognitions that are counted."""

_held: list[int] = []


def share() -> int:
    """Threads for one more recognition on this machine, at least one. It counts until this process ends."""
    return max(1, cores() // (1 + _others()))


def _others() -> int:
    """How many processes hold a place, and take one: the kernel gives it back when the process ends."""
    others, mine = 0, False
    with contextlib.suppress(OSError):
        folder = places("recognisers")
        for number in range(_MOST):
            place = folder / str(number)
            if mine and not place.exists():
                break
            lock = lock_place(place)
            if lock is None:
                others += 1
            elif mine:
                os.close(lock)
            else:
                _held.append(lock)
                mine = True
    return others
