"""Fixtures of all tests. What is real here runs for real: the stand-in is the only thing that stands in."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports Airflow: no test reads or writes the home of whoever runs it.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="vod-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
    del os.environ[name]

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


@pytest.fixture
def connection(standin: Standin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The connection ``vod_default`` to the stand-in; its default destination is the folder ``audio``."""
    value = connection_json(standin, destination=str(tmp_path / "audio"))
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", value)
    return "vod_default"


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


def connection_json(standin: Standin, **extra: object) -> str:
    """A connection to the stand-in, as the value of an environment variable."""
    settings = standin.settings
    return json.dumps(
        {
            "conn_type": "vod",
            "host": standin.url,
            "login": settings.access_key,
            "password": settings.secret_key,
            "extra": {"region": settings.region, "project_id": settings.project_id, **extra},
        }
    )


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
