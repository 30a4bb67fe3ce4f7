"""A server of OpenAI's protocol for speech recognition that answers what a test tells it."""

from __future__ import annotations

import email.parser
import email.policy
import json
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

MODELS = {"object": "list", "data": [{"id": "whisper-1", "object": "model"}, {"id": "tiny.en"}]}
HELLO = {
    "task": "transcribe",
    "language": "german",
    "duration": 3.0,
    "text": " Guten Tag, Welt. (Ja!)",
    "words": [
        {"word": "Guten", "start": 0.5, "end": 0.8},
        {"word": "Tag", "start": 0.8, "end": 1.0},
        {"word": "Welt", "start": 1.2, "end": 1.5},
        {"word": "Ja", "start": 2.0, "end": 2.2},
    ],
    "segments": [
        {
            "id": 0,
            "start": 0.5,
            "end": 2.5,
            "text": " Guten Tag, Welt. (Ja!)",
            "avg_logprob": -0.1,
            "no_speech_prob": 0.01,
        }
    ],
}


@dataclass
class Upload:
    path: str
    headers: dict[str, str]
    fields: dict[str, list[str]]
    seconds: float


@dataclass
class Scripted:
    """Answers what it is told: ``(status, headers, body)`` in turn, the last one for ever."""

    answers: list[tuple[int, dict[str, str], Any]] = field(default_factory=lambda: [(200, {}, HELLO)])
    models: tuple[int, dict[str, str], Any] = (200, {}, MODELS)
    uploads: list[Upload] = field(default_factory=list)
    hold: threading.Event | None = None
    hears: Callable[[Upload, bytes], Any] | None = None
    address: str = ""


def _parsed(handler: BaseHTTPRequestHandler) -> tuple[Upload, bytes]:
    body = handler.rfile.read(int(handler.headers["Content-Length"]))
    head = f"Content-Type: {handler.headers['Content-Type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
    fields: dict[str, list[str]] = {}
    audio = b""
    for part in message.iter_parts():
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        name = part.get_param("name", header="content-disposition")
        if name == "file":
            audio = payload
        else:
            fields.setdefault(str(name), []).append(payload.decode())
    with wave.open(BytesIO(audio)) as file:
        seconds = file.getnframes() / file.getframerate()
    return Upload(handler.path, dict(handler.headers), fields, seconds), audio


@contextmanager
def running(script: Scripted) -> Iterator[None]:
    """Serve on a free port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer(*script.models)

        def do_POST(self) -> None:
            upload, audio = _parsed(self)
            script.uploads.append(upload)
            if script.hold:
                script.hold.wait(30)
            if script.hears:
                self._answer(200, {}, script.hears(upload, audio))
                return
            answers = script.answers
            self._answer(*(answers.pop(0) if len(answers) > 1 else answers[0]))

        def _answer(self, status: int, headers: dict[str, str], body: Any) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            try:
                self.wfile.write(data)
            except OSError:  # the client had enough
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    script.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        if script.hold:
            script.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()
