"""Fetching a web address: broken connections, changed files, limits, refusals."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from vod.locations import ANYWHERE, parse_location
from vod.media import (
    DownloadError,
    ExtractionCancelledError,
    ExtractionTimeoutError,
    Limits,
    TooLargeError,
)
from vod.media.download import download, head

CONTENT = random.Random(1).randbytes(3_000_000)


class Server(ThreadingHTTPServer):
    """Sends CONTENT; breaks off, refuses, lies and changes it as a test wants."""

    breaks_after = 0
    """Bytes after which a connection ends; 0 for never."""
    knows_range = True
    statuses: list[int]
    content = CONTENT
    tag = '"1"'
    becomes = b""
    """What the file is once it was sent, or a part of it."""
    states_length = True
    drip = 0.0
    """Seconds between two bytes; 0 sends all at once."""
    requests: list[dict[str, str]]

    def handle_error(self, *arguments: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client may leave
            super().handle_error(*arguments)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/folder/a.mp4?signature=secret"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        server = self.server
        server.requests.append({key.lower(): value for key, value in self.headers.items()})
        if server.statuses:
            self.send_response(server.statuses.pop(0))
            self.send_header("Location", "file:///etc/passwd")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        unchanged = self.headers.get("If-Range", server.tag) == server.tag
        if server.knows_range and "Range" in self.headers and unchanged:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
            )
        if server.states_length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.tag)
        self.send_header("Connection", "close")
        self.end_headers()
        if with_body:
            for byte in body if server.drip else b"":
                try:
                    self.wfile.write(bytes([byte]))
                except OSError:  # the client has given up
                    return
                time.sleep(server.drip)
            self.wfile.write(body[: server.breaks_after or None])
            if server.becomes:
                server.content, server.tag, server.becomes = server.becomes, '"2"', b""
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    server.statuses, server.requests = [], []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as it:
        yield it


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "wait", lambda self, _: self.check())


def fetch(server: Server, target: Path, most: int = 1 << 30, restarts: int = 0) -> int:
    address, limits = parse_location(server.url), Limits(30)
    fetched = download(address, target, max_bytes=most, limits=limits, allowed=ANYWHERE)
    assert (fetched.size, fetched.restarts) == (fetched.bytes, restarts)
    return fetched.bytes


def test_a_file_in_one_go(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path / "a") == len(CONTENT)
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert server.requests[0]["accept-encoding"] == "identity"
    assert head(parse_location(server.url), limits=Limits(30), allowed=ANYWHERE) == (len(CONTENT), '"1"')


@pytest.mark.parametrize("knows_range", [True, False])
def test_a_connection_that_breaks_is_taken_up(knows_range: bool, server: Server, tmp_path: Path) -> None:
    server.breaks_after, server.knows_range = 800_000, knows_range
    if knows_range:
        assert fetch(server, tmp_path / "a") == len(CONTENT)
        assert (tmp_path / "a").read_bytes() == CONTENT
        assert len(server.requests) == 4
        assert all(request["if-range"] == '"1"' for request in server.requests[1:])
    else:
        with pytest.raises(DownloadError, match="broke off"):
            fetch(server, tmp_path / "a")


def test_a_file_that_changes_in_between_begins_anew(server: Server, tmp_path: Path) -> None:
    server.breaks_after = 2_000_000
    server.becomes = other = CONTENT[1_500_000:]
    assert fetch(server, tmp_path / "a", restarts=1) == len(other)
    assert (tmp_path / "a").read_bytes() == other
    assert len(server.requests) == 2


@pytest.mark.parametrize("states_length", [True, False])
def test_more_than_is_allowed(states_length: bool, server: Server, tmp_path: Path) -> None:
    server.states_length = states_length
    with pytest.raises(TooLargeError, match="limit for downloads"):
        fetch(server, tmp_path / "a", most=1_000_000)
    assert (tmp_path / "a").stat().st_size <= 1_100_000
    assert len(server.requests) == 1


@pytest.mark.parametrize(("statuses", "requests"), [([503, 429, 500], 4), ([404], 1), ([403], 1)])
def test_answers_that_pass_and_answers_that_stay(
    statuses: list[int], requests: int, server: Server, tmp_path: Path
) -> None:
    server.statuses = list(statuses)
    if requests > 1:
        assert fetch(server, tmp_path / "a") == len(CONTENT)
    else:
        with pytest.raises(DownloadError, match=f"HTTP {statuses[0]}") as caught:
            fetch(server, tmp_path / "a")
        assert not caught.value.retryable
        assert "secret" not in str(caught.value)
    assert len(server.requests) == requests


def test_it_gives_up_in_the_end_and_may_be_tried_later(server: Server, tmp_path: Path) -> None:
    server.statuses = [503] * 50
    with pytest.raises(DownloadError) as caught:
        fetch(server, tmp_path / "a")
    assert caught.value.retryable
    assert len(server.requests) == 5


def test_a_redirect_leads_to_no_file_of_this_machine(server: Server, tmp_path: Path) -> None:
    server.statuses = [302] * 50
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b""


def test_nobody_there(tmp_path: Path) -> None:
    with serving() as gone:
        url = gone.url
    with pytest.raises(DownloadError, match="ConnectError") as caught:
        download(parse_location(url), tmp_path / "a", max_bytes=1, limits=Limits(30), allowed=ANYWHERE)
    assert "secret" not in str(caught.value)
    with pytest.raises(DownloadError):
        head(parse_location(url), limits=Limits(30), allowed=ANYWHERE)


def test_limits(server: Server, tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(ExtractionCancelledError):
        download(
            parse_location(server.url),
            tmp_path / "a",
            max_bytes=1 << 30,
            limits=Limits(30, cancelled),
            allowed=ANYWHERE,
        )
    with pytest.raises(ExtractionTimeoutError):
        download(
            parse_location(server.url),
            tmp_path / "a",
            max_bytes=1 << 30,
            limits=Limits(0.0),
            allowed=ANYWHERE,
        )


def test_a_download_in_drops_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could go on for weeks: a byte now and then is no progress."""
    monkeypatch.setattr("vod.media.download._PACE_SECONDS", 0.2)
    monkeypatch.setattr("vod.media.download._MAX_FRUITLESS_TRIES", 1)
    server.drip = 0.05
    with pytest.raises(DownloadError, match="less than 1000 bytes a second") as caught:
        download(
            parse_location(server.url), tmp_path / "a", max_bytes=1 << 30, limits=Limits(30), allowed=ANYWHERE
        )
    assert caught.value.retryable
