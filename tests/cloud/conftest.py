from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.cloud.scripted import Script
from vod.standin import Standin


@dataclass(frozen=True)
class Sent:
    """A request as it was on the wire; names of headers in lower case."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    body: bytes


class Wire:
    """A proxy that writes down every request on its way to the stand-in."""

    def __init__(self, standin: Standin) -> None:
        self.sent: list[Sent] = []
        wire, upstream = self, urlsplit(standin.url).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                url = urlsplit(self.path)
                names = [name.lower() for name in self.headers]
                assert len(set(names)) == len(names), f"a header came twice: {names}"
                headers = {name.lower(): value for name, value in self.headers.items()}
                query = parse_qsl(url.query, keep_blank_values=True)
                wire.sent.append(Sent(self.command, url.path, query, headers, body))
                connection = http.client.HTTPConnection(upstream)
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                content = answer.read()
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)
                connection.close()

            do_POST = do_DELETE = do_PUT = do_GET  # noqa: N815 - names of http.server

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def wire(standin: Standin) -> Iterator[Wire]:
    proxy = Wire(standin)
    yield proxy
    proxy.close()


@pytest.fixture
def script() -> Iterator[Script]:
    server = Script()
    yield server
    server.close()
