"""Fixtures of all tests. What is real here runs for real: the stand-in is the only thing that stands in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from vod.cloud.client import VodClient
from vod.cloud.signing import Credentials
from vod.standin import Settings, Standin, running

SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Standin]:
    with running(Settings(data=tmp_path / "standin")) as server:
        yield server


@pytest.fixture
def client(standin: Standin) -> Iterator[VodClient]:
    vod = client_of(standin)
    yield vod
    vod.close()


@pytest.fixture(scope="session")
def samples() -> dict[str, str]:
    """What is said in each sample video, in its default track."""
    return {
        sample["file"]: next(track["text"] for track in sample["audio"] if track["default"])
        for sample in json.loads((SAMPLES / "samples.json").read_text())
    }


@pytest.fixture(scope="session")
def video() -> Path:
    return SAMPLES / "library.mp4"


def client_of(standin: Standin, **options: object) -> VodClient:
    """A client with the stand-in's keys; options of :class:`VodClient` may replace them."""
    settings = standin.settings
    arguments = {
        "endpoint": standin.url,
        "project_id": settings.project_id,
        "credentials": Credentials(ak=settings.access_key, sk=settings.secret_key),
        **options,
    }
    return VodClient(**arguments)  # type: ignore[arg-type]
