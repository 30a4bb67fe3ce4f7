"""The process that recognises speech: takes windows of samples on a socket, and gives passages.

It has a bare environment and no secrets, and ends when its caller does, however that ends. Each message is a
line of JSON; behind the line of a window come its samples.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vod.speech.cores import share
from vod.speech.options import SpeechOptions
from vod.speech.recogniser import LanguageMismatch, Recogniser

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

try:
    import resource
except ImportError:  # no such limits on this system
    resource = None  # type: ignore[assignment]


def serve(number: int) -> None:
    """Answer what comes on the socket *number*, until it is closed."""
    with socket.socket(fileno=number) as sock:
        requests: queue.Queue[tuple[dict[str, Any], bytes]] = queue.Queue()
        threading.Thread(target=_read, args=(sock, requests), daemon=True).start()
        answers = _Answers(sock)
        recogniser: Recogniser | None = None
        while True:
            request, payload = requests.get()
            try:
                if "folder" in request:
                    recogniser = _load(request, answers)
                else:
                    assert recogniser is not None
                    samples = _samples(payload)
                    payload = b""  # megabytes
                    _hear(recogniser, request, samples, answers)
                    del samples
                    _give_back_memory()
            except LanguageMismatch as error:
                answers.give(error="mismatch", language=error.language, probability=error.probability)
            except MemoryError:
                answers.give(error="memory")
            except Exception as error:  # noqa: BLE001 - the caller says it to a person
                memory = "bad_alloc" in str(error) or "out of memory" in str(error).lower()
                text = f"{type(error).__name__}: {error}"
                answers.give(error="memory" if memory else "failed", message=text[:500])


class _Answers:
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def give(self, **answer: Any) -> None:
        self._sock.sendall(json.dumps(answer).encode() + b"\n")


def _read(sock: socket.socket, requests: queue.Queue[tuple[dict[str, Any], bytes]]) -> None:
    """Take requests. When the caller is gone nobody wants the answer: end, whatever is being computed."""
    with contextlib.suppress(OSError, ValueError), sock.makefile("rb") as stream:
        while line := stream.readline():
            request = json.loads(line)
            requests.put((request, stream.read(request.get("bytes", 0))))
    os._exit(0)


def _load(request: dict[str, Any], answers: _Answers) -> Recogniser:
    if resource is not None and request["memory"]:
        resource.setrlimit(resource.RLIMIT_DATA, (request["memory"], request["memory"]))
    device, compute_type, fallback = _device(request["device"], request["compute_type"])
    teller = Path(request["teller"]) if request["teller"] else None
    made = (request["threads"] or share(),)
    try:
        recogniser = Recogniser(Path(request["folder"]), device, compute_type, *made, teller=teller)
    except (RuntimeError, ValueError) as error:
        if request["device"] != "auto" or device == "cpu":
            raise
        # A GPU whose driver or libraries do not fit shows here only.
        fallback = str(error)[:300]
        device, compute_type = "cpu", "int8"
        recogniser = Recogniser(Path(request["folder"]), device, compute_type, *made, teller=teller)
    answers.give(loaded=device, compute_type=compute_type, languages=recogniser.languages, fallback=fallback)
    return recogniser


def _device(device: str, compute_type: str) -> tuple[str, str, str]:
    """Device and precision, and why there is no GPU if one could have been used."""
    import ctranslate2

    found = 0
    with contextlib.suppress(RuntimeError):  # built without CUDA, or no driver
        found = ctranslate2.get_cuda_device_count()
    chosen = ("cuda" if found else "cpu") if device == "auto" else device
    precision = {"cuda": "float16", "cpu": "int8"}.get(chosen, "default")
    return chosen, precision if compute_type == "auto" else compute_type, ""


def _give_back_memory() -> None:
    """Of a window: otherwise the C library keeps it, in holes that the next one does not fit."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _samples(payload: bytes) -> NDArray[np.float32]:
    import numpy as np

    samples = np.frombuffer(payload, dtype=np.int16).astype(np.float32)
    samples /= 32768
    return samples


def _hear(
    recogniser: Recogniser, request: dict[str, Any], samples: NDArray[np.float32], answers: _Answers
) -> None:
    passage = recogniser.passage(
        samples,
        request["start"],
        SpeechOptions.from_json(request["options"]),
        request["language"],
        lambda seconds: answers.give(heard=seconds),
    )
    answers.give(passage=passage.to_json())
