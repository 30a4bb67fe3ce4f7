"""How many cores this process may use: a container or `taskset` may leave it fewer than there are."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path


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
