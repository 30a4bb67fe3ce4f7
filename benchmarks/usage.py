"""What whole processes take, from their start to their end, with all their children."""

from __future__ import annotations

import os
import select
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vod import media

LOOK = 0.01
"""Seconds between two looks at the memory."""
TOLERANCE = 0.3
"""Seconds that a written file may differ from its source; more, and a contender did not do the job."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What one command took.

    :param wall: Seconds.
    :param cpu: Seconds, user and system.
    :param memory: Bytes at the peak: resident, all its processes together, pages they share counted for each.
    :param read: Bytes that were asked of the system by reading: files, also cached ones, and pipes.
    """

    wall: float
    cpu: float
    memory: int
    read: int


def measure(command: Sequence[str]) -> Usage:
    """Run *command* to its end.

    :raises SystemExit: it failed.
    """
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        ended = os.pidfd_open(process.pid)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        memory = 0
        try:
            while not poll.poll(LOOK * 1000):
                memory = max(memory, _resident(process.pid))
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        wall = time.monotonic() - began
        os.close(ended)
        # Not waited for yet, it still has its figures, and those of the children that it waited for.
        counters = Path(f"/proc/{process.pid}/io").read_text()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{said.read().decode(errors='replace')}")
    return Usage(
        wall=wall,
        cpu=used.ru_utime + used.ru_stime,
        memory=memory,
        read=int(counters.split()[1]),
    )


def race(
    contenders: Mapping[str, Sequence[str]], folder: Path, rounds: int, *, seconds: float
) -> dict[str, Any]:
    """Run all *contenders* in turn, again and again, and take the medians.

    :param folder: What they write to; emptied before each.
    :param seconds: How long all that each of them writes there plays.
    :returns: For each contender its medians, all that was measured, and ``to_first``: how many times the wall
        and CPU of the first contender it took in the same round.
    :raises SystemExit: one failed, or what it wrote is not what it should be.
    """
    runs: dict[str, list[Usage]] = {name: [] for name in contenders}
    for number in range(rounds):
        names = list(contenders)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            runs[name].append(measure(contenders[name]))
            _check(name, folder, seconds)
    shutil.rmtree(folder)
    first = runs[next(iter(runs))]
    return {
        name: {
            **{key: statistics.median(getattr(run, key) for run in taken) for key in Usage.__annotations__},
            "to_first": {
                key: statistics.median(
                    getattr(run, key) / getattr(base, key) for run, base in zip(taken, first, strict=True)
                )
                for key in ("wall", "cpu")
            },
            "runs": [asdict(run) for run in taken],
        }
        for name, taken in runs.items()
    }


def _check(name: str, folder: Path, seconds: float) -> None:
    written = list(folder.iterdir())
    found = sum(media.probe(path).duration or 0.0 for path in written)
    if abs(found - seconds) > TOLERANCE * max(len(written), 1):
        raise SystemExit(f"{name} wrote {found:.1f} s of audio instead of {seconds:.1f} s.")


def _resident(pid: int, parent: str = "") -> int:
    """Bytes in memory, of a process and all below it. ``ru_maxrss`` would also count what its parent had."""
    total = 0
    with suppress(OSError):
        found = Path(f"/proc/{pid}/statm").read_text()
        if found == parent:
            return 0  # not yet a program of its own, it still shares all
        total += int(found.split()[1]) * _PAGE
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children = (thread / "children").read_text().split()
            total += sum(_resident(int(child), found) for child in children)
    return total
