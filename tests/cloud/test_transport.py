"""Requests run blocking or on an event loop with the same result, and no log shows their secrets."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from tests.cloud.scripted import Script, say
from tests.cloud.test_client import INFO, KEYS
from tests.conftest import service
from vod.cloud.client import AsyncVodClient, VodClient
from vod.cloud.errors import AnswerLostError, NotSentError

ELSEWHERE = "http://vod.invalid"


@pytest.fixture(autouse=True)
def no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_the_proxies_of_the_environment_are_those_of_both_clients(
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    scheme: str,
) -> None:
    monkeypatch.setenv(variable, scheme + script.url.removeprefix("http://"))
    script.answers = [say(200, INFO)] * 2
    client = AsyncVodClient(service(ELSEWHERE, "p", KEYS))
    assert await client.asset_info(["a"]) == VodClient(service(ELSEWHERE, "p", KEYS)).asset_info(["a"])
    await client.aclose()
    assert script.asked == ["GET info"] * 2
    monkeypatch.setenv("no_proxy", "vod.invalid")
    with pytest.raises(NotSentError):
        VodClient(service(ELSEWHERE, "p", KEYS), retry_seconds=0.0).asset_info(["a"])


gone = Event()
"""Never set: a wait that nobody has to sleep for."""


class Flood(BaseHTTPRequestHandler):
    """Answers with more than anybody wants, packed or not."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        packed = "packed" in self.path
        if "drops" in self.path:
            self.drip()
            return
        for packing, window in (("gzip", 31), ("deflate", 15)):
            if packing in self.path:
                self.answer(packing, window)
                return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        if packed:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        blanks = b" " * (1 << 20)
        with suppress(OSError):  # the client has heard enough
            if packed:
                packer = zlib.compressobj(9, wbits=31)
                for _ in range(1024):
                    self.wfile.write(packer.compress(blanks))
                self.wfile.write(packer.flush())
            else:
                for _ in range(1024):
                    self.wfile.write(blanks)
        self.close_connection = True

    def do_POST(self) -> None:
        self.do_GET()

    def drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with suppress(OSError):
            for _ in range(400):
                self.wfile.write(b" ")
                gone.wait(0.05)
        self.close_connection = True

    def answer(self, packing: str, window: int) -> None:
        packer = zlib.compressobj(wbits=window)
        data = packer.compress(b'{"fine": true}') + packer.flush()
        if "broken" in self.path:
            data = b"no" + data
        self.send_response(200)
        self.send_header("Content-Encoding", packing)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def flood() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Flood)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("path", ["packed", "plain"])
async def test_an_answer_without_end_is_not_read_to_its_end(flood: str, path: str) -> None:
    """A packed answer of some hundred kilobytes may hold gigabytes."""
    tracemalloc.start()
    try:
        client = AsyncVodClient(service(f"{flood}/{path}", "p", KEYS), retry_seconds=0.0)
        with pytest.raises(AnswerLostError, match="more than 16 MB"):
            await client.asset_info(["a"])
        await client.aclose()
        with pytest.raises(AnswerLostError, match="more than 16 MB"):
            VodClient(service(f"{flood}/{path}", "p", KEYS), retry_seconds=0.0).extract_audio("a")
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.hostile
@pytest.mark.parametrize("path", ["packed", "plain"])
def test_memory_does_not_grow_with_an_answer(flood: str, path: str) -> None:
    """By what the system counts, in a process of its own."""
    code = (
        "import resource, sys; from vod.cloud.client import VodClient; from vod.cloud.errors import *; "
        "from tests.cloud.test_client import KEYS; from tests.conftest import service\n"
        "client = VodClient(service(sys.argv[1], 'p', KEYS), retry_seconds=0.0)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: client.asset_info(['a'])\n"
        "except AnswerLostError: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", code, f"{flood}/{path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000  # kilobytes


def test_an_answer_in_drops_has_an_end(flood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vod.cloud.transport.ANSWER_SECONDS", 0.3)
    client = VodClient(service(f"{flood}/drops", "p", KEYS), retry_seconds=0.0)
    with pytest.raises(AnswerLostError, match="took more than 0 s"):
        client.extract_audio("a")


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_packed_answers_are_read(flood: str, packing: str) -> None:
    client = VodClient(service(f"{flood}/{packing}", "p", KEYS), retry_seconds=0.0)
    assert client.request("GET", "/x").json() == {"fine": True}
    with pytest.raises(AnswerLostError, match="DecodingError"):
        client.request("GET", f"/broken-{packing}")
