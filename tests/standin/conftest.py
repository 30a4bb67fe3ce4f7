from __future__ import annotations

import contextlib
import subprocess
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from vod.media import find_ffmpeg
from vod.standin import Standin, StandinSettings, running
from vod.standin.notifications import Certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class VendorSignature(httpx.Auth):
    """Signs with the vendor's own signer, so that the stand-in's reading is checked against another one."""

    requires_request_body = True

    def __init__(self, settings: StandinSettings) -> None:
        self._signer = Signer(BasicCredentials(settings.access_key, settings.secret_key))

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:
        headers = {
            name: value
            for name, value in request.headers.items()
            if name in ("content-type", "host") or "x-" in name
        }
        signed = SdkRequest(
            method=request.method,
            host=request.url.netloc.decode(),
            resource_path=request.url.path,
            query_params=parse_qsl(request.url.query.decode(), keep_blank_values=True),
            header_params={name.title(): value for name, value in headers.items()},
            body=request.content,
        )
        self._signer.sign(signed)
        request.headers.update(signed.header_params)
        request.url = request.url.copy_with(raw_path=signed.uri.encode())
        yield request


class Vod:
    """A small client: the calls as one line each, answers as they came."""

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        self.project = standin.settings.project_id
        self.root = f"{standin.url}/v1.0/{self.project}/asset"
        self.http = httpx.Client(
            auth=VendorSignature(standin.settings),
            headers={"Content-Type": "application/json"},
        )

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(self.root + path, params=query)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.http.post(self.root + path, json=body)

    def delete(self, path: str, **query: Any) -> httpx.Response:
        return self.http.delete(self.root + path, params=query)

    def extract(self, asset_id: str, audio_format: str = "MP3") -> str:
        answer = self.post("/extract_audio", {"asset_id": asset_id, "parameter": {"format": audio_format}})
        assert answer.status_code == 202, answer.text
        return answer.json()["audio_asset_id"]

    def info(self, *asset_ids: str) -> list[dict[str, Any]]:
        answer = self.get("/info", asset_id=list(asset_ids))
        assert answer.status_code == 200, answer.text
        return answer.json()["asset_info_array"]

    def status(self, asset_id: str) -> str:
        return self.info(asset_id)[0]["status"]

    def wait(self, asset_id: str, *statuses: str) -> dict[str, Any]:
        """The element of the asset once it is in one of the states."""
        elements: list[dict[str, Any]] = []

        def reached() -> bool:
            elements[:] = self.info(asset_id)
            return elements[0]["status"] in statuses

        wait_until(reached)
        return elements[0]

    def details(self, asset_id: str) -> dict[str, Any]:
        answer = self.get("/details", asset_id=asset_id)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def create(self, **fields: Any) -> dict[str, Any]:
        answer = self.post("", {"title": "clip", "video_name": "clip.mp4", "video_type": "MP4", **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def stats(self) -> dict[str, Any]:
        return httpx.get(f"{self.standin.url}/admin/stats").json()


def wait_until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture(scope="session", autouse=True)
def no_certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing here speaks TLS, but each ``httpx.get`` would load the certificates of the world: 20 ms."""
    file = tmp_path_factory.mktemp("certificates") / "one.pem"
    file.write_bytes(Certificate("nowhere").pem)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture(name="wait_until")
def wait_until_fixture():
    return wait_until


@pytest.fixture
def connect() -> Callable[..., contextlib.AbstractContextManager[Vod]]:
    """``with connect(standin) as vod:`` for a stand-in that the test starts itself."""

    @contextlib.contextmanager
    def connect(standin: Standin) -> Iterator[Vod]:
        vod = Vod(standin)
        with vod.http:
            yield vod

    return connect


@pytest.fixture
def settings(tmp_path: Path) -> StandinSettings:
    """Settings of a stand-in that keeps nothing but what the test does."""
    settings = StandinSettings(data=tmp_path / "library")
    settings.behaviour.quota_scale = 0
    return settings


@pytest.fixture
def standin(settings: StandinSettings) -> Iterator[Standin]:
    with running(settings) as standin:
        yield standin


@pytest.fixture
def vod(standin: Standin, connect) -> Iterator[Vod]:
    with connect(standin) as vod:
        yield vod


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vod]:
    """One stand-in for the tests of a module that only ask and leave its settings alone."""
    settings = StandinSettings(data=tmp_path_factory.mktemp("library"))
    settings.behaviour.quota_scale = 0
    with running(settings) as standin:
        vod = Vod(standin)
        with vod.http:
            yield vod


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ``clip.mp4`` (one second, a tone), ``silent.mp4`` (no audio track) and ``garbage.mp4``."""
    folder = tmp_path_factory.mktemp("media")
    picture = ("-f", "lavfi", "-i", "testsrc=duration=1:size=64x48:rate=5")
    tone = ("-f", "lavfi", "-i", "sine=duration=1:sample_rate=44100")
    run_ffmpeg(*picture, *tone, "-c:v", "mpeg4", "-c:a", "aac", folder / "clip.mp4")
    run_ffmpeg(*picture, "-c:v", "mpeg4", folder / "silent.mp4")
    (folder / "garbage.mp4").write_text("This is a text file called .mp4. " * 100)
    return folder


@pytest.fixture(scope="session")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quarter of an hour of silence: ffmpeg works on it for most of a second."""
    file = tmp_path_factory.mktemp("media") / "long.mkv"
    run_ffmpeg("-f", "lavfi", "-i", "anullsrc=r=16000:cl=mono", "-t", 900, "-c:a", "pcm_u8", file)
    return file


def run_ffmpeg(*arguments: object) -> None:
    subprocess.run([find_ffmpeg(), "-v", "error", "-y", *map(str, arguments)], check=True)
