"""An incoming webhook, as chats have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Event, Thread
from time import sleep
from typing import Any

SECRET_PATH = "/services/T0/B0/very-secret"


class Webhook(HTTPServer):
    """Keeps what was posted: path, body, and who says to be posting."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.status = 200
        self.silent = Event()
        """When set, it takes what is posted and sends one byte of an answer at a time."""
        self.posts: list[tuple[str, dict[str, Any], str | None]] = []

    def connection(self, url: str = "", **extra: str) -> str:
        """The Airflow connection to it, as JSON."""
        host = url or f"http://127.0.0.1:{self.server_port}{SECRET_PATH}"
        return json.dumps({"conn_type": "http", "host": host, "extra": extra})


class _Answer(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posts.append((self.path, json.loads(body), self.headers.get("X-Team")))
        while self.server.silent.is_set():
            self.wfile.write(b"H")
            sleep(0.02)
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def listening() -> Iterator[Webhook]:
    with Webhook() as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
