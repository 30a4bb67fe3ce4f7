"""Whatever VOD, IAM or the storage answer: a result or a typed error, soon, and never a secret in it."""

from __future__ import annotations

import io
import json
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from tests.conftest import service
from vod.cloud import transfer
from vod.cloud.assets import PullRequest
from vod.cloud.client import AsyncVodClient, VodClient
from vod.cloud.identity import Login
from vod.cloud.runtime import BlockingRuntime
from vod.cloud.signing import Credentials
from vod.errors import VodError

KEYS = Credentials(ak="EXAMPLEAK", sk="EXAMPLESK")
LOGIN = Login(account="company", user="me", password="hush-hush")
NOW = datetime(2024, 1, 2, 3, 4, tzinfo=timezone.utc)
URL = "http://vod.invalid/bucket/key?Signature=hush"
MAX_REQUESTS = 1000
"""Of one call: more means that it does not end."""

Call = Callable[[VodClient, Path], Any]

CALLS: dict[str, tuple[int, Call]] = {
    # How many requests it makes when all goes well, and the call.
    "extract_audio": (1, lambda client, _: client.extract_audio("a", "MP3")),
    "cancel": (1, lambda client, _: client.cancel_extraction("a", "b")),
    "info": (1, lambda client, _: client.asset_info(["a", "b"])),
    "details": (1, lambda client, _: client.asset_details("a")),
    "list": (1, lambda client, _: [*client.list_assets(since=NOW, until=NOW + timedelta(seconds=9))]),
    "find": (1, lambda client, _: client.find_by_title("t")),
    "upload": (3, lambda client, folder: client.upload(folder / "small.mp4")),
    "upload in parts": (10, lambda client, folder: client.upload(folder / "large.mp4")),
    "pull": (1, lambda client, _: client.pull([PullRequest(url="http://a/b.mp4", title="t")])),
    "publish": (1, lambda client, _: client.publish(["a"])),
    "delete": (1, lambda client, _: client.delete(["a", "b"])),
    "download": (2, lambda client, _: client.download("a", io.BytesIO())),
    "token": (2, lambda client, _: client.asset_info(["a"])),
    "token's project": (2, lambda client, _: client.asset_info(["a"])),
    "projects": (2, lambda client, _: client.asset_info(["a"])),
}

ASSET = {
    "asset_id": "a",
    "status": "CREATED",
    "description": "",
    "base_info": {
        "title": "t",
        "video_type": "MP3",
        "create_time": "20240102030405",
        "last_modified": "20240102030405",
        "video_url": "http://vod.invalid/cdn",
        "sign_url": URL,
        "meta_data": {"codec": "MP3", "duration": 60, "duration_ms": 60480, "video_size": 4},
    },
}
SUMMARY = {"asset_id": "a", "title": "t", "create_time": "20240102030405", "media_type": "MP3"}
TOKEN = {"token": {"expires_at": "2999-01-03T03:04:05.000000Z", "project": {"id": "p"}}}


def good_answer(request: httpx.Request) -> tuple[int, Any, dict[str, str]]:
    path, method = request.url.path, request.method
    if path == "/bucket/key":
        if method == "GET":
            return 200, b"file", {}
        return 200, b"<R><UploadId>1</UploadId></R>", {"ETag": '"e"'}
    answers: dict[str, Any] = {
        "/extract_audio": {"asset_id": "a", "audio_asset_id": "b"},
        "/info": {"asset_info_array": [ASSET], "is_truncated": 0, "total": 1},
        "/details": ASSET,
        "/list": {"total": 1, "assets": [SUMMARY]},
        "/authority": {"sign_str": URL},
        "/uploaded": {"asset_id": "a"},
        "/upload_by_url": {"upload_assets": [{"url": "u", "asset_id": "a", "error_code": None}]},
        "/publish": {"asset_info_array": [ASSET]},
        "/tokens": TOKEN,
        "/projects": {"projects": [{"id": "p"}]},
        "/asset": {"asset_id": "a", "video_upload_url": URL, "target": {"bucket": "b", "object": "o"}}
        if method == "POST"
        else {"delete_result_array": [{"asset_id": "a", "status": "DELETED"}]},
    }
    found = answers.get(path[path.rfind("/") :])
    return (200 if found else 404), found, {"X-Subject-Token": "hush-token"}


def respond(status: int, content: bytes, headers: dict[str, str]) -> httpx.Response:
    """As it comes from a connection: not read yet."""
    headers = {"Content-Length": str(len(content)), **headers}
    return httpx.Response(status, stream=httpx.ByteStream(content), headers=headers)


class Fuzz:
    """Wrong answers without end, the same in each run."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        choose = self._random
        if depth < 3 and choose.random() < 0.4:
            size = choose.randrange(4)
            if choose.random() < 0.5:
                return [self.value(depth + 1) for _ in range(size)]
            return {choose.choice(self.NAMES): self.value(depth + 1) for _ in range(size)}
        return choose.choice(self.SCALARS)

    NAMES = ("asset_id", "status", "error", "error_code", "code", "message", "total", "token", "", "\ud800")
    SCALARS = (
        *(None, True, False, 0, -1, 1, 20_000, 10**30, -(10**400), 0.5, 1e308, float("nan"), float("inf")),
        *("", " ", "a", "CREATED", "20240102030405", "99999999999999", "0001-01-01T00:00:00", "x" * 5000),
        *(
            "\ud800",
            "\x00",
            "http://[",
            "http://a:b/",
            "file:///etc/passwd",
            "//",
            "http://vod.invalid/\n",
            "é",
        ),
    )

    def mutated(self, value: Any) -> Any:
        """A good answer with one thing wrong, anywhere in it."""
        choose = self._random
        if isinstance(value, dict) and value and choose.random() < 0.85:
            name = choose.choice([*value])
            if choose.random() < 0.15:
                return {key: item for key, item in value.items() if key != name}
            return {**value, name: self.mutated(value[name])}
        if isinstance(value, list) and value and choose.random() < 0.6:
            return [self.mutated(value[0]), *value[1:]]
        return self.value()

    def answer(self, good: tuple[int, Any, dict[str, str]]) -> httpx.Response:
        choose = self._random
        status, body, headers = good
        content = body if isinstance(body, bytes) else json.dumps(self.mutated(body)).encode()
        kind = choose.random()
        if kind < 0.1:
            content = content[: choose.randrange(len(content) + 1)]
        elif kind < 0.15:
            content = choose.randbytes(choose.randrange(100))
        elif kind < 0.2:
            content = json.dumps(self.value()).encode()
        elif kind < 0.22:
            content = choose.choice((b"[", b'{"a":', b'{"asset_info_array":[')) * choose.choice((9, 99_999))
        elif kind < 0.222:
            content = json.dumps({"assets": [SUMMARY] * 20_000, "asset_info_array": [ASSET] * 5_000}).encode()
        if choose.random() < 0.3:
            status = choose.choice(
                (201, 202, 204, 206, 301, 304, 400, 401, 403, 404, 408, 416, 429, 500, 502, 599)
            )
        headers = {name: value for name, value in headers.items() if choose.random() < 0.8}
        for name, values in self.HEADERS.items():
            if choose.random() < 0.1:
                headers[name] = choose.choice(values)
        return respond(status, content, headers)

    HEADERS: ClassVar = {
        "Retry-After": (
            "0",
            "-1",
            "9" * 400,
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            f"Wed, 21 Oct {'9' * 20} 07:28:00 GMT",
        ),
        "Date": (
            "",
            "yesterday",
            "Mon, 01 Jan 0001 00:00:00 GMT",
            "Mon, 01 Jan 2024 00:00:00 +9999",
            f"Mon, 01 Jan {'9' * 20} 00:00:00 GMT",
        ),
        "Content-Range": ("bytes 0-3/4", "bytes */4", "bytes 9-8/7"),
        "Content-Type": ("text/html", "application/json; charset=nonsense"),
        "X-Request-Id": ("", "r" * 10_000),
        "Location": ("http://vod.invalid/elsewhere",),
    }


class Canned(BlockingRuntime):
    """httpx from its answers on; no socket, no pause."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self._answer = answer

    def transport(self) -> httpx.AsyncBaseTransport:
        return httpx.MockTransport(self._answer)

    async def sleep(self, seconds: float) -> None:
        assert 0 <= seconds < 1000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "small.mp4").write_bytes(b"x")
    (folder / "large.mp4").write_bytes(b"x" * 20)
    return folder


@pytest.mark.quick(4)
@pytest.mark.parametrize("name", CALLS)
def test_answers_of_any_shape(name: str, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """700 wrong answers to each of the 15 calls: more than 10,000."""
    monkeypatch.setattr(transfer, "PUT_LIMIT", 10)
    monkeypatch.setattr(transfer, "PART_SIZE", 10)
    monkeypatch.setattr("vod.cloud.identity._private_folder", lambda: None)
    steps, call = CALLS[name]
    outcomes: set[str] = set()
    for case in range(700):
        fuzz, position, requests = Fuzz(f"{name} {case}"), case % steps, 0

        def answer(request: httpx.Request) -> httpx.Response:
            nonlocal requests
            requests += 1
            assert requests < MAX_REQUESTS, f"{name} does not end"
            good = good_answer(request)
            if requests - 1 == position:  # noqa: B023 - called within this turn
                return fuzz.answer(good)  # noqa: B023
            status, body, headers = good
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return respond(status, content, headers)

        client = VodClient.__new__(VodClient)
        client._coroutines = AsyncVodClient(
            service(
                "http://vod.invalid",
                None if "project" in name else "p",
                LOGIN if "token" in name else KEYS,
                iam_endpoint="http://vod.invalid",
                quota_share=1e6,
            ),
            retry_seconds=0.0,
            runtime=Canned(answer),
        )
        started = time.monotonic()
        try:
            call(client, files)
            outcomes.add("fine")
        except VodError as error:
            outcomes.add(type(error).__name__)
            _is_for_people(error)
        except BaseException as error:
            raise AssertionError(f"{name} {case}: {error!r}") from error
        assert time.monotonic() - started < 10
        client.close()
    assert {"fine"} < outcomes, "some answers are good enough, and some are not"


def _is_for_people(error: BaseException | None) -> None:
    """Short, and without a secret."""
    assert len(str(error)) < 2000
    assert "[None" not in str(error)
    while error is not None:
        assert "hush" not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# --- below HTTP ------------------------------------------------------------------------------------


@pytest.fixture
def garbage() -> Iterator[tuple[str, list[bytes]]]:
    """A server that sends bytes as they are, and closes."""
    answers: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answers[0])

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}", answers
    server.shutdown(socket.SHUT_RDWR)
    server.close()


BODY = json.dumps({"asset_info_array": [ASSET]}).encode()
WIRE = [
    b"",
    b"\x00" * 100,
    b"SSH-2.0-OpenSSH_9.0\r\n",
    b"HTTP/1.1 200",
    b"HTTP/1.1 999 What\r\n\r\n",
    b"HTTP/1.1 -1 What\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 50,
    b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + BODY,
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=nonsense\r\n\r\n" + b"\xff\xfe" * 9,
    b"HTTP/1.1 200 OK\r\nA: \xff\x00\r\n\r\n" + BODY,
    b"HTTP/1.1 401 No\r\nDate: \xe4\r\n\r\n{}",
    *(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY[:cut] for cut in range(0, 400, 80)),
]


@pytest.mark.parametrize("content", WIRE, ids=range(len(WIRE)))
def test_answers_that_are_hardly_http(garbage: tuple[str, list[bytes]], content: bytes) -> None:
    url, answers = garbage
    answers.append(content)
    with pytest.raises(VodError) as caught:
        VodClient(service(url, "p", KEYS, timeout=5.0), retry_seconds=0.0).asset_info(["a"])
    _is_for_people(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("content", WIRE, ids=range(len(WIRE)))
async def test_the_same_on_an_event_loop(garbage: tuple[str, list[bytes]], content: bytes) -> None:
    url, answers = garbage
    answers.append(content)
    client = AsyncVodClient(service(url, "p", KEYS, timeout=5.0), retry_seconds=0.0)
    with pytest.raises(VodError):
        await client.asset_info(["a"])
    await client.aclose()


@pytest.mark.parametrize(
    ("endpoint", "project"),
    [
        ("http://[::1", "p"),
        ("http://host:abc", "p"),
        ("nonsense", "p"),
        ("http://a", "p\x00"),
        ("http://a", "\ud800"),
    ],
)
def test_an_endpoint_or_a_project_that_is_none(endpoint: str, project: str) -> None:
    with pytest.raises(VodError):
        VodClient(service(endpoint, project, KEYS), retry_seconds=0.0).asset_info(["a"])


@pytest.mark.parametrize("asset_id", ["", "\ud800", "\x00", "a b,c&d=e", "../..", "é" * 1000])
def test_an_id_that_is_none(asset_id: str) -> None:
    refused = Canned(lambda _: httpx.Response(400, json={"error_code": "VOD.10053"}))
    client = AsyncVodClient(service("http://vod.invalid", "p", KEYS), runtime=refused)
    with pytest.raises(VodError):
        client.asset_info([asset_id]).send(None)
