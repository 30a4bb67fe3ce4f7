"""Runs what parses strangers' files in a process of its own, which sees no secret and can open nothing.

A fork server (:mod:`vod.sandbox.fork_server`) loads the libraries once, in a bare environment. For each call
it forks a child that gets one open file and one socket, and from then on may open no other file and no
network connection. Whatever happens in there costs this one call. What comes back is JSON or plain bytes,
checked here before anybody believes it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import select
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import types
import typing
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

T = TypeVar("T")

MEMORY = 2 << 30
"""Bytes of address space that one call may use. Python and PyAV have 0.3 GB of it before they read a byte."""

MODULES = ("vod.media.sandboxed", "vod.speech.sandboxed")
"""What can be called."""

MAX_LENGTH_TEXT = 500
"""Characters of one text from a file: a title, a tag, a message."""

_TICK = 0.1
"""Seconds between two looks at the clock and at whether it was cancelled."""
_START = 60.0
"""Seconds that the fork server may take to start."""
_MAX_FRAME = 4 << 20
_HEAD = struct.Struct(">cI")

KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from vod.sandbox.fork_server import serve; serve(int(sys.argv[1]), json.loads(sys.argv[3]))"
)


class SandboxError(Exception):
    """A call in the sandbox has no result."""


class CrashedError(SandboxError):
    """The process of the call came to its end before the call did."""


class OutOfMemoryError(SandboxError):
    """The call wanted more than :data:`MEMORY`."""


class NotStartedError(SandboxError):
    """There is no sandbox: the system is out of processes, or a library is missing."""


class RefusedError(SandboxError):
    """What was called refuses the file.

    :param kind: A short name of the reason.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def kept_environment() -> dict[str, str]:
    """What a program that reads strangers' files needs of the environment, and nothing else."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    # Each thread's own heap would reserve 64 MB of address space.
    return {**kept, "MALLOC_ARENA_MAX": "2"}


def call(
    module: str, function: str, source: Path, *, check: Callable[[], None] | None = None, **arguments: Any
) -> Any:
    """Call ``function(file, **arguments)`` of *module* in the sandbox, with *source* opened for reading.

    :param check: Called ten times a second; what it raises ends the call.
    :param arguments: JSON-native.
    :returns: What it returned, as JSON gives it back: check it with :func:`build`.
    :raises RefusedError: as the function says.
    :raises SandboxError: it crashed, or wanted too much memory.
    :raises OSError: *source* cannot be opened, or is not a regular file.
    """
    for frame in frames(module, function, source, check=check, **arguments):
        if not isinstance(frame, bytes):
            return frame
    raise CrashedError("It sent bytes and no result.")


def frames(
    module: str, function: str, source: Path, *, check: Callable[[], None] | None = None, **arguments: Any
) -> Generator[bytes | Any, None, None]:
    """As :func:`call`, for a function that yields bytes: first these, one by one, then its result.

    It is called no faster than its bytes are taken. To stop it, close the iterator.
    """
    file = _open(source)
    with contextlib.ExitStack() as cleaning:
        cleaning.callback(os.close, file)
        server = _server()
        here, there = socket.socketpair()
        with there:
            cleaning.callback(here.close)
            number = server.run(
                [there.fileno(), file],
                {"module": module, "function": function, "arguments": arguments, "memory": MEMORY},
            )
        cleaning.callback(server.kill, number)
        while True:
            kind, payload = _frame(here, check)
            if kind == b"B":
                yield payload
                continue
            yield _result(kind, payload)
            return


def build(kind: type[T], value: Any) -> T:
    """Make a dataclass of what came out of the sandbox; whoever took it over may have sent anything.

    Texts are cut at :data:`MAX_LENGTH_TEXT`, and what cannot be printed is replaced.

    :raises CrashedError: it is not of this kind.
    """
    made = _built(kind, value)
    assert isinstance(made, kind)
    return made


def _built(kind: Any, value: Any) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _built(next(each for each in inner if each is not type(None)), value)
    if origin is tuple and isinstance(value, list):
        return tuple(_built(inner[0], each) for each in value)
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        with contextlib.suppress(TypeError):  # a field is missing
            return kind(
                **{
                    entry.name: _built(hints[entry.name], value[entry.name])
                    for entry in fields(kind)
                    if entry.name in value
                }
            )
    elif kind is str and isinstance(value, str):
        return plain(value)
    elif kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    elif kind in (int, bool) and type(value) is kind:
        return value
    raise CrashedError("It sent a result of another kind.")


def plain(text: str) -> str:
    """*text* of a file as it may be shown: bounded, and without control characters."""
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_LENGTH_TEXT])


def _open(source: Path) -> int:
    # A pipe does not block; whether it is one is asked of the open file.
    file = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(0, "it is not a regular file")
    return file


def _frame(here: socket.socket, check: Callable[[], None] | None) -> tuple[bytes, bytes]:
    kind, length = _HEAD.unpack(_receive(here, _HEAD.size, check))
    if length > _MAX_FRAME:
        raise CrashedError("It sent more than any result has.")
    return kind, _receive(here, length, check)


def _receive(here: socket.socket, length: int, check: Callable[[], None] | None) -> bytes:
    data = bytearray()
    while len(data) < length:
        if check is not None:
            check()
        if select.select([here], [], [], _TICK)[0]:
            try:
                piece = here.recv(length - len(data))
            except OSError:
                piece = b""
            if not piece:
                raise CrashedError("It crashed.")
            data += piece
    return bytes(data)


def _result(kind: bytes, payload: bytes) -> Any:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise CrashedError("It sent no JSON.") from error
    if kind == b"R":
        return value
    if kind == b"M":
        raise OutOfMemoryError(f"It needed more than {MEMORY / 1e9:.3g} GB of memory.")
    if kind == b"E" and isinstance(value, list) and len(value) == 2:
        raise RefusedError(plain(str(value[0])), plain(str(value[1])))
    raise CrashedError("It failed.")


class _Server:
    """The fork server, as seen from here. It ends when its socket is closed, so also with this process."""

    def __init__(self) -> None:
        self._control, there = socket.socketpair()
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self.owner = os.getpid()
        with there:
            try:
                self._process = subprocess.Popen(  # noqa: S603
                    [*_python(), "-c", _BOOT, str(there.fileno()), json.dumps(_path()), json.dumps(MODULES)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=kept_environment(),
                    pass_fds=(there.fileno(),),
                    start_new_session=True,
                )
            except OSError as error:
                self._control.close()
                raise NotStartedError(f"No process can be started ({error.strerror}).") from error
        until = time.monotonic() + _START

        def in_time() -> None:
            if time.monotonic() > until:
                raise CrashedError("It does not start.")

        try:
            _receive(self._control, 1, in_time)
        except CrashedError as error:
            self.close()
            raise NotStartedError("The process that reads media does not start.") from error

    def alive(self) -> bool:
        return self.owner == os.getpid() and self._process.poll() is None

    def run(self, descriptors: list[int], request: Mapping[str, Any]) -> int:
        number = next(self._numbers)
        self._send({**request, "run": number}, descriptors)
        return number

    def kill(self, number: int) -> None:
        with contextlib.suppress(NotStartedError):
            self._send({"kill": number}, [])

    def _send(self, message: Mapping[str, Any], descriptors: list[int]) -> None:
        payload = json.dumps(message).encode()
        try:
            with self._lock:
                socket.send_fds(self._control, [struct.pack(">I", len(payload))], descriptors)
                self._control.sendall(payload)
        except OSError as error:
            raise NotStartedError("The process that reads media is gone.") from error

    def close(self) -> None:
        self._control.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()


def _python() -> list[str]:
    # Isolated, and without site: what it may import is what this process may.
    return [sys.executable, "-I", "-S", "-B"]


def _path() -> list[str]:
    here = str(Path(__file__).parents[2])
    return [here, *(str(Path(entry).absolute()) for entry in sys.path if entry and entry != here)]


_running: _Server | None = None
_starting = threading.Lock()


def _server() -> _Server:
    global _running
    with _starting:
        if _running is None or not _running.alive():
            _running = _Server()
        return _running


def _forget() -> None:
    """In a fork of this process: the fork server is the other's, and must see when that one is gone."""
    global _running, _starting
    if _running is not None:
        _running._control.close()
    _running, _starting = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
