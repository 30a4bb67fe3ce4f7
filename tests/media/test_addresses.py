"""A web address leads to a private network only if it is allowed by name, also after a redirect."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from vod.locations import ANYWHERE, AllowedLocations, LocationNotAllowedError, parse_location
from vod.media import DownloadError, Limits
from vod.media.addresses import AddressNotAllowedError, _address
from vod.media.download import download


class Canary(ThreadingHTTPServer):
    """Answers every request, or redirects it, and counts."""

    requests = 0
    redirect = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/a.mp4"


class Handler(BaseHTTPRequestHandler):
    server: Canary

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(302 if self.server.redirect else 200)
        self.send_header("Content-Length", "0" if self.server.redirect else "5")
        if self.server.redirect:
            self.send_header("Location", self.server.redirect)
        self.end_headers()
        if not self.server.redirect and self.command == "GET":
            self.wfile.write(b"media")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def serving() -> Iterator[Canary]:
    server = Canary(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def canary() -> Iterator[Canary]:
    with serving() as server:
        yield server


def fetch(url: str, target: Path, allowed: AllowedLocations) -> int:
    return download(parse_location(url), target, max_bytes=1000, limits=Limits(30), allowed=allowed).bytes


@pytest.mark.parametrize(
    "host",
    [
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1"),
        *("[fe80::1]", "[fc00::1]", "[::ffff:10.0.0.1]", "[2002:a00:1::]", "[64:ff9b:1::1]"),
    ],
)
def test_other_networks_that_are_not_public_are_refused(host: str) -> None:
    """Without a client: not even a broken check may send something there."""
    with pytest.raises(AddressNotAllowedError):
        _address(parse_location(f"http://{host}/latest/meta-data"), may_be_private=False)


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]"])
def test_public_addresses_are_not(host: str) -> None:
    assert _address(parse_location(f"http://{host}/"), may_be_private=False) == host.strip("[]")


def test_an_open_port_looks_like_a_closed_one(canary: Canary, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ports = [canary.server_port, closed.getsockname()[1]]
    said = []
    for port in ports:
        with pytest.raises(AddressNotAllowedError) as caught:
            fetch(f"http://127.0.0.1:{port}/a", tmp_path / "a", AllowedLocations())
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_what_is_allowed_by_name_is_read(canary: Canary, tmp_path: Path) -> None:
    allowed = AllowedLocations.from_text(f"{tmp_path}, http://127.0.0.1:{canary.server_port}/")
    assert fetch(canary.url, tmp_path / "a", allowed) == 5
    assert (tmp_path / "a").read_bytes() == b"media"
    with pytest.raises(LocationNotAllowedError):
        fetch(canary.url.replace("127.0.0.1", "localhost"), tmp_path / "a", allowed)


def test_a_redirect_is_checked_like_the_first_address(canary: Canary, tmp_path: Path) -> None:
    with serving() as inner:
        canary.redirect = inner.url
        only_outer = AllowedLocations.from_text(f"http://127.0.0.1:{canary.server_port}/")
        with pytest.raises(LocationNotAllowedError):
            fetch(canary.url, tmp_path / "a", only_outer)
        assert (canary.requests, inner.requests) == (1, 0)
        both = AllowedLocations.from_text(f"http://127.0.0.1:{canary.server_port}/\n{inner.url}")
        assert fetch(canary.url, tmp_path / "a", both) == 5


@pytest.mark.parametrize(
    "target", ["https://127.0.0.1/a", "file:///etc/passwd", "ftp://127.0.0.1/a", "http://"]
)
def test_a_redirect_changes_no_scheme(target: str, canary: Canary, tmp_path: Path) -> None:
    canary.redirect = target
    with pytest.raises(DownloadError) as caught:
        fetch(canary.url, tmp_path / "a", ANYWHERE)
    assert not caught.value.retryable


def test_redirects_end(canary: Canary, tmp_path: Path) -> None:
    canary.redirect = canary.url
    with pytest.raises(DownloadError, match="redirects too often"):
        fetch(canary.url, tmp_path / "a", ANYWHERE)
    assert canary.requests == 11


def test_no_proxy_of_the_environment_is_used(
    canary: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(canary.url, tmp_path / "a", ANYWHERE) == 5
