"""How many cores this process may use, and how the tasks of a machine share them."""

from __future__ import annotations

import errno
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # no such locks on this system: nothing is shared
    fcntl = None  # type: ignore[assignment]

_LOOK_EVERY = 0.05


@contextmanager
def one_core(check: Callable[[], None], *, among: int | None = None) -> Iterator[float]:
    """Hold one of the cores that this user's extractions on this machine share; wait until one is free.

    The kernel gives it back when the process ends, however it ends. Nobody waits where cores cannot be
    shared.

    :param among: How many may be held at once; :func:`cores` when omitted.
    :param check: Called while waiting; what it raises ends that.
    :returns: Seconds waited.
    """
    began = time.monotonic()
    held = _wait_for_core(check, among or cores())
    try:
        yield time.monotonic() - began
    finally:
        if held is not None:
            os.close(held)


def _wait_for_core(check: Callable[[], None], among: int) -> int | None:
    while True:
        try:
            folder = places("cores")
            locks = (lock_place(folder / str(number)) for number in range(among))
            held = next((lock for lock in locks if lock is not None), None)
        except OSError:
            return None
        if held is not None:
            return held
        check()
        time.sleep(_LOOK_EVERY)


def places(name: str) -> Path:
    """The folder of the places that this user's processes on this machine share, each a file to lock.

    :raises OSError: there can be none.
    """
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    folder = Path(tempfile.gettempdir(), f"vod-{name}-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():  # somebody else's, or their link
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(folder))
    return folder


def lock_place(place: Path) -> int | None:
    """Take a place; the kernel gives it back when the descriptor is closed or the process ends.

    :returns: A descriptor; ``None`` when somebody has it.
    :raises OSError: it cannot be locked.
    """
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


def cores(*, process: Path = Path("/proc/self"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores by CPU affinity and by the CPU limits of all control groups around this process; 1 at least.

    :param process: Where the system describes this process.
    :param cgroups: Where control groups are mounted, of version 1 or 2.
    """
    try:
        allowed = float(len(os.sched_getaffinity(0)))
    except AttributeError:  # not on this system
        allowed = float(os.cpu_count() or 1)
    # A limit of 1.5 cores is used up by two processes, and would leave half a core idle with one.
    return max(math.ceil(min([allowed, *_quotas(process, cgroups)])), 1)


def _quotas(process: Path, cgroups: Path) -> Iterator[float]:
    """Cores of each limit that holds."""
    for line in _text(process / "cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number == "0" and not controllers:
            for folder in _around(cgroups, name):
                quota, _, period = _text(folder / "cpu.max").partition(" ")
                yield from _quota(quota, period)
        elif "cpu" in controllers.split(","):
            for mount in (cgroups / controllers, cgroups / "cpu"):
                for folder in _around(mount, name):
                    yield from _quota(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))


def _around(mount: Path, name: str) -> list[Path]:
    """A group's folder and those around it. In a container its own group may be the root of the mount."""
    parts = [part for part in name.split("/") if part not in ("", "..")]
    return [mount.joinpath(*parts[:count]) for count in range(len(parts) + 1)]


def _quota(quota: str, period: str) -> Iterator[float]:
    quota, period = quota.strip(), period.strip()
    if quota.isdecimal() and period.isdecimal() and int(period):  # else "max", or -1
        yield int(quota) / int(period)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
