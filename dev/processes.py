"""Child processes that never outlive the command that started them."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

GRACE = 10.0
"""Seconds between SIGTERM and SIGKILL."""


class Processes:
    """A set of processes, each in a session of its own, that all end with the ``with`` block.

    Ctrl-C reaches only this process, which then ends the others in reverse order. If this process itself is
    killed, the kernel ends its children (Linux).
    """

    def __init__(self) -> None:
        self._started: list[tuple[str, subprocess.Popen[str]]] = []

    def __enter__(self) -> Processes:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A second Ctrl-C must not leave half of them behind.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.stop()
        finally:
            signal.signal(signal.SIGINT, previous)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        on_line: Callable[[str], None] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a process; its output goes to a file, and line by line to ``on_line``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        self._started.append((name, process))
        threading.Thread(
            target=_pump, args=(process, log, on_line), name=f"log of {name}", daemon=True
        ).start()
        return process

    def stop(self) -> None:
        """End all, and whatever they started."""
        running = []
        for _, process in self._started:
            with suppress(psutil.NoSuchProcess):
                running.append(psutil.Process(process.pid))
        end(running)
        for _, process in self._started:
            process.wait()
        self._started.clear()

    def dead(self) -> str | None:
        """Name of a process that ended by itself, if one did."""
        return next((name for name, process in self._started if process.poll() is not None), None)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def end(processes: Sequence[psutil.Process], grace: float = GRACE) -> None:
    """End processes with SIGTERM; what is left of them or of their descendants after a grace gets SIGKILL."""
    family = list(processes)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            family += process.children(recursive=True)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in _wait(family, grace):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(family, grace)


def _wait(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until they have ended; returns those that have not. A zombie that nobody collects has ended."""
    deadline = time.monotonic() + seconds
    while True:
        left = [process for process in processes if _runs(process)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _pump(process: subprocess.Popen[str], log: Path, on_line: Callable[[str], None] | None) -> None:
    assert process.stdout is not None
    with log.open("a", encoding="utf-8") as file:
        for line in process.stdout:
            file.write(line)
            file.flush()
            if on_line:
                on_line(line.rstrip("\n"))
