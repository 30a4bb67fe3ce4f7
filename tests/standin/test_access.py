"""Who may talk to the stand-in, under which names, and whom it calls itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from vod.standin import Standin, StandinSettings, running
from vod.standin.access import Targets

PATHS = ("/admin/stats", "/admin/openapi.json", "/v3/projects", "/cdn/asset/a/b", "/nothing", "/")


class Target(ThreadingHTTPServer):
    """Redirects where its path says, and counts what it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), TargetHandler)
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class TargetHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        there = self.path.partition("?to=")[2]
        self.send_response(302 if there else 200)
        if there:
            self.send_header("Location", there)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"text")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def target() -> Iterator[Target]:
    with Target() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "[",
        "",
        "0x7f.1",
    ],
)
def test_a_page_of_another_name_gets_nothing(standin: Standin, host: str) -> None:
    for path in PATHS:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
            answer = httpx.request(method, standin.url + path, headers={"Host": host})
            assert answer.status_code in (421, 400), (method, path)
            assert "submissions" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "127.0.0.9:1", "[::1]:8600"])
def test_this_machine_may_be_called_by_any_of_its_names(standin: Standin, host: str) -> None:
    assert httpx.get(f"{standin.url}/admin/stats", headers={"Host": host}).status_code == 200


def test_other_names_are_configured(settings: StandinSettings) -> None:
    settings.names = ["standin"]
    settings.public_url = "http://Public.example:1"
    with running(settings) as standin:
        for host, status in (("standin:8600", 200), ("public.example", 200), ("other", 421)):
            assert httpx.get(f"{standin.url}/admin/stats", headers={"Host": host}).status_code == status


def local(standin: Standin) -> str:
    return standin.url.replace("0.0.0.0", "127.0.0.1")


def test_on_a_network_the_controls_need_the_token(settings: StandinSettings) -> None:
    settings.host = "0.0.0.0"
    with running(settings) as standin:
        token = standin.admin_token
        assert token
        assert len(token) >= 32
        assert token not in repr(settings)
        url = f"{local(standin)}/admin/stats"
        for headers in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": token},
            {"Authorization": "Bearer"},
        ):
            assert httpx.get(url, headers=headers).status_code == 403
        headers = {"Authorization": f"Bearer {token}"}
        assert httpx.get(url, headers=headers).status_code == 200
        assert httpx.get(url, headers={**headers, "Origin": "http://evil.example"}).status_code == 403


def test_on_this_machine_they_need_none_unless_it_is_given(
    standin: Standin, settings: StandinSettings
) -> None:
    assert standin.admin_token is None
    settings.data = settings.data / "other"
    settings.admin_token = "mine"
    with running(settings) as other:
        assert httpx.get(f"{other.url}/admin/stats").status_code == 403
        headers = {"Authorization": "Bearer mine"}
        assert httpx.get(f"{other.url}/admin/stats", headers=headers).status_code == 200


def test_the_command_prints_the_token_that_it_made_up_and_takes_one_of_the_environment(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "vod", "standin", "--port", "0", "--host", "0.0.0.0", "--data"]
    for environment in ({}, {"VOD_STANDIN_ADMIN_TOKEN": "mine"}):
        process = subprocess.Popen(
            [*command, str(tmp_path / str(len(environment)))],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        try:
            assert process.stdout
            first = process.stdout.readline()
            token = (
                environment.get("VOD_STANDIN_ADMIN_TOKEN") or first.removeprefix("Token for /admin: ").strip()
            )
            ready = first if environment else process.stdout.readline()
            url = ready.removeprefix("VOD stand-in ready: ").strip().replace("0.0.0.0", "127.0.0.1")
            assert "mine" not in ready
            headers = {"Authorization": f"Bearer {token}"}
            assert httpx.get(f"{url}/admin/stats").status_code == 403
            assert httpx.get(f"{url}/admin/stats", headers=headers).status_code == 200
        finally:
            process.terminate()
            process.communicate(timeout=20)


@pytest.mark.parametrize(
    ("prefixes", "loopback", "url", "allowed"),
    [
        (None, True, "http://127.0.0.1:9000/a.mp4", True),
        (None, True, "https://localhost/a.mp4", True),
        (None, True, "http://[::1]:9000/a.mp4", True),
        (None, True, "http://10.0.0.1/a.mp4", False),
        (None, True, "http://localhost.evil.example/a.mp4", False),
        (None, True, "http://127.0.0.1@evil.example/a.mp4", False),
        (None, True, "file:///etc/passwd", False),
        (None, True, "ftp://127.0.0.1/a.mp4", False),
        (None, False, "http://127.0.0.1/a.mp4", False),
        (["http://media.example/videos"], True, "http://127.0.0.1/a.mp4", False),
        (["http://media.example/videos"], False, "http://media.example/videos/a.mp4", True),
        (["http://media.example/videos"], False, "http://media.example/other/a.mp4", False),
        (["http://media.example/videos"], False, "http://media.example/videos/../other/a.mp4", False),
        (["http://media.example/videos"], False, "http://media.example:8080/videos/a.mp4", False),
        (["http://media.example/videos"], False, "https://media.example/videos/a.mp4", False),
        (["http://media.example/videos"], False, "HTTP://MEDIA.example/videos/a.mp4", True),
    ],
)
def test_whom_it_may_call(prefixes: list[str] | None, loopback: bool, url: str, allowed: bool) -> None:
    assert Targets(prefixes, loopback=loopback).allow(url) is allowed


def pulled(vod: Any, url: str) -> dict[str, Any]:
    body = json.dumps({"upload_metadatas": [{"url": url, "title": "pulled", "video_type": "MP4"}]})
    [answer] = vod.http.post(f"{vod.root}/upload_by_url", content=body).json()["upload_assets"]
    found: dict[str, Any] = vod.wait(answer["asset_id"], "CREATED", "PUBLISHED", "UPLOAD_FAILED")
    return found


def test_it_pulls_only_what_it_may(settings: StandinSettings, target: Target, connect: Any) -> None:
    settings.pull_from = [f"{target.url}/videos"]
    with running(settings) as standin, connect(standin) as vod:
        assert pulled(vod, f"{target.url}/videos/a.mp4")["status"] == "PUBLISHED"
        refused = pulled(vod, f"{target.url}/secret.mp4")
        assert refused["status"] == "UPLOAD_FAILED"
        assert "--pull-from" in refused["description"]
        redirected = pulled(vod, f"{target.url}/videos/b.mp4?to=/secret.mp4")
        assert redirected["status"] == "UPLOAD_FAILED"
    assert target.asked == ["/videos/a.mp4", "/videos/b.mp4?to=/secret.mp4"]


def test_on_a_network_it_calls_nobody_unless_it_is_told(
    settings: StandinSettings, target: Target, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.host = "0.0.0.0"
    with running(settings) as standin:
        monkeypatch.setattr(standin, "url", local(standin))
        headers = {"Authorization": f"Bearer {standin.admin_token}"}
        body = {"url": f"{target.url}/hook"}
        answer = httpx.post(f"{standin.url}/admin/subscriptions", json=body, headers=headers)
        assert (answer.status_code, "--notify" in answer.text) == (400, True)
        with connect(standin) as vod:
            assert pulled(vod, f"{target.url}/a.mp4")["status"] == "UPLOAD_FAILED"
    assert target.asked == []


def test_subscribers_are_those_that_were_named(
    settings: StandinSettings, target: Target, wait_until: Any
) -> None:
    settings.subscribers = [f"{target.url}/mine"]
    settings.notify = [f"{target.url}/hooks"]
    with running(settings) as standin:
        url = f"{standin.url}/admin/subscriptions"
        assert httpx.post(url, json={"url": f"{target.url}/other"}).status_code == 400
        assert httpx.post(url, json={"url": f"{target.url}/hooks/a"}).status_code == 200
        wait_until(lambda: len(target.asked) == 2)
    assert sorted(target.asked) == ["/hooks/a", "/mine"]
