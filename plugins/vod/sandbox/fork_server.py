"""The inside of the sandbox: loads the libraries once, and forks a child for each call.

This process reads no media. Its children read one file each, with limits that they cannot take back.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import struct
from typing import Any, NoReturn

try:
    import resource
except ImportError:  # no such limits on this system
    resource = None  # type: ignore[assignment]

_HEAD = struct.Struct(">cI")
_CPU_SECONDS = 6 * 3600
"""Seconds of computing; the caller's own limit comes first."""
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A function's word that it will not have the file.

    :param kind: A short name of the reason.
    """

    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(message)
        self.kind = kind


def serve(control: int, names: list[str]) -> None:
    """Fork for each request on the socket *control*, until it is closed.

    :param names: Modules with what is called. A child cannot load them any more.
    """
    modules = {name: importlib.import_module(name) for name in names}
    _load_all("av")  # it loads the rest of itself with the first track of a kind
    _kernel(_PR_SET_NO_NEW_PRIVS, 1)
    gc.collect()
    gc.freeze()
    children: dict[int, int] = {}
    with socket.socket(fileno=control) as asking:
        asking.sendall(b"!")
        while True:
            ready = select.select([asking], [], [], 1.0 if children else None)[0]
            _reap(children)
            if not ready:
                continue
            try:
                request, descriptors = _request(asking)
            except OSError:
                break
            if request is None:
                break
            if "kill" in request:
                pid = children.get(request["kill"])
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)
                continue
            pid = os.fork()
            if pid == 0:
                asking.close()
                _child(modules, request, descriptors)
            children[request["run"]] = pid
            for descriptor in descriptors:
                os.close(descriptor)
    for pid in children.values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _load_all(package: str) -> None:
    loaded = importlib.import_module(package)
    for found in pkgutil.walk_packages(loaded.__path__, f"{package}."):
        if not found.name.endswith("__main__"):
            with contextlib.suppress(ImportError):  # it wants a library that is not here
                importlib.import_module(found.name)


def _reap(children: dict[int, int]) -> None:
    for number, pid in [*children.items()]:
        if os.waitpid(pid, os.WNOHANG)[0]:
            del children[number]


def _request(asking: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    head, descriptors, _, _ = socket.recv_fds(asking, 4, 2)
    if len(head) < 4:
        return None, []
    (left,) = struct.unpack(">I", head)
    payload = bytearray()
    while len(payload) < left:
        piece = asking.recv(left - len(payload))
        if not piece:
            return None, []
        payload += piece
    return json.loads(payload), descriptors


def _child(modules: dict[str, Any], request: dict[str, Any], descriptors: list[int]) -> NoReturn:
    try:
        _kernel(_PR_SET_PDEATHSIG, signal.SIGKILL)
        channel, source = descriptors
        with socket.socket(fileno=channel) as answer, os.fdopen(source, "rb", buffering=0) as file:
            _limit(request["memory"])
            kind, value = _answer(modules[request["module"]], request, file, answer)
            _send(answer, kind, json.dumps(value, allow_nan=False).encode())
    finally:
        os._exit(0)


def _answer(module: Any, request: dict[str, Any], file: Any, answer: socket.socket) -> tuple[bytes, Any]:
    try:
        result = getattr(module, request["function"])(file, **request["arguments"])
        while hasattr(result, "send"):  # it yields bytes before it returns
            try:
                _send(answer, b"B", next(result))
            except StopIteration as end:
                result = end.value
    except Refusal as error:
        return b"E", [error.kind, str(error)]
    except MemoryError:
        return b"M", None
    return b"R", result


def _send(answer: socket.socket, kind: bytes, payload: bytes) -> None:
    answer.sendall(_HEAD.pack(kind, len(payload)) + payload)


def _limit(memory: int) -> None:
    if resource is None:
        return
    limits = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CPU, _CPU_SECONDS)]
    # The last one: no file, pipe or socket can be opened from now on.
    for which, most in (*limits, (resource.RLIMIT_AS, memory), (resource.RLIMIT_NOFILE, 0)):
        with contextlib.suppress(OSError, ValueError):  # it has less already, or the system lacks it
            resource.setrlimit(which, (most, most))


def _kernel(option: int, value: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # another system
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
