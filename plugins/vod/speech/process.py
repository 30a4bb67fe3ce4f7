"""The caller's side of the process that recognises speech: starts it, watches it, ends it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

from vod import sandbox
from vod.logs import get_logger
from vod.speech.errors import (
    CancelledError,
    OutOfMemoryError,
    RecogniserCrashedError,
    RecognitionFailedError,
    RecognitionTimeoutError,
)

_TICK = 0.2
"""Seconds between two looks at the clock, and at whether the work was cancelled."""

_CHUNK = 1 << 16

_OF_GPUS = ("CUDA_VISIBLE_DEVICES", "CUDA_HOME", "CUDA_PATH", "NVIDIA_VISIBLE_DEVICES")

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from vod.speech.child import serve; serve(int(sys.argv[1]))"
)

log = get_logger(__name__)


class Child:
    """A process that recognises speech. It ends with :meth:`kill`, or with this process."""

    def __init__(self) -> None:
        here, there = socket.socketpair()
        self._said: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._socket = here
        self._buffer = bytearray()
        here.setblocking(False)
        kept = {name: os.environ[name] for name in _OF_GPUS if name in os.environ}
        with there:
            self._process = subprocess.Popen(  # noqa: S603 - this Python
                [sys.executable, "-c", _BOOT, str(there.fileno()), json.dumps(sys.path)],
                env={**sandbox.kept_environment(), **kept},
                cwd="/",
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=self._said,
                start_new_session=True,  # Ctrl-C is for the caller, which ends this
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def kill(self) -> None:
        """End it at once, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._socket.close()
        self._said.close()

    def ask(
        self,
        request: dict[str, Any],
        payload: bytes | memoryview = b"",
        *,
        deadline: float,
        cancelled: Callable[[], bool],
    ) -> Iterator[dict[str, Any]]:
        """Send a request, and give its answers; the caller stops at the last.

        :param deadline: By :func:`time.monotonic`.
        :raises CancelledError, RecognitionTimeoutError, RecogniserCrashedError, OutOfMemoryError:
            the process is of no more use: :meth:`kill` it.
        :raises RecognitionFailedError: the library failed.
        """

        def check() -> None:
            if cancelled():
                raise CancelledError("The recognition was cancelled.")
            if time.monotonic() > deadline:
                raise RecognitionTimeoutError("The recognition took longer than its time limit.")

        head = json.dumps({**request, "bytes": len(payload)}).encode() + b"\n"
        try:
            for part in (memoryview(head), memoryview(payload)):
                self._send(part, check)
            while True:
                yield self._checked(json.loads(self._line(check)))
        except (ConnectionError, EOFError) as error:
            raise self._death() from error

    def _send(self, data: memoryview, check: Callable[[], None]) -> None:
        sent = 0
        while sent < len(data):
            check()
            if select.select([], [self._socket], [], _TICK)[1]:
                sent += self._socket.send(data[sent : sent + _CHUNK])

    def _line(self, check: Callable[[], None]) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            check()
            if select.select([self._socket], [], [], _TICK)[0]:
                data = self._socket.recv(_CHUNK)
                if not data:
                    raise EOFError
                self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    @staticmethod
    def _checked(answer: dict[str, Any]) -> dict[str, Any]:
        if answer.get("error") == "memory":
            raise OutOfMemoryError("The recognition needs more memory than there is, or than it may have.")
        if answer.get("error") == "failed":
            raise RecognitionFailedError(f"faster-whisper failed: {answer['message']}.")
        return answer

    def _death(self) -> RecogniserCrashedError | OutOfMemoryError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - 2_000))
        said = self._said.read().decode(errors="replace").strip()
        if said:
            log.warning("The last words of the process that recognises speech: %s", said)
        if "bad_alloc" in said or "MemoryError" in said:
            return OutOfMemoryError("The recognition needs more memory than it may have.")
        code = self._process.returncode
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            why = (
                f"was killed ({name}), most likely for lack of memory" if name == "SIGKILL" else f"got {name}"
            )
        else:
            why = f"ended with exit code {code}"
        return RecogniserCrashedError(f"The process that recognises speech {why}.")
