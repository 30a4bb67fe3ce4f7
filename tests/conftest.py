"""Fixtures of all tests. What is real here runs for real: the stand-in is the only thing that stands in."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec
import httpx
import hypothesis
import psutil
import pytest
import sqlalchemy
from rapidfuzz.distance import Levenshtein

# Before anything imports Airflow: no test reads or writes the home of whoever runs it.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="vod-tests-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE"] = "True"
# Airflow keeps what signs and what checks logins: both must have been made with the same secret.
os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = "of the tests " * 6
for name in [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]:
    del os.environ[name]
# What a shell starts in the background ignores Ctrl-C, and so would those that the tests end by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

from airflow.sdk import Asset
from airflow.sdk.io import attach, fs

from vod.cloud.client import VodClient
from vod.cloud.identity import Login
from vod.cloud.settings import ServiceSettings
from vod.cloud.signing import Credentials, SignatureAuth
from vod.library import pace
from vod.standin import Standin, StandinSettings, running

SAMPLES = Path(__file__).parent.parent / "samples"

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: half of the time the tests wait for servers and processes."""
    return min(2 * (os.cpu_count() or 1), 16)


@pytest.hookimpl(tryfirst=True)  # before what is not asked for is left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make slow what is beyond the marker ``quick``, and begin with what takes minutes on one core.

    At the end it would keep that core alone.
    """
    members = defaultdict[tuple[Path, str], list[pytest.Item]](list)
    for item in items:
        if item.get_closest_marker("quick") and not item.get_closest_marker("slow"):
            members[item.path, item.name.partition("[")[0]].append(item)
    for each in members.values():
        mark = each[0].get_closest_marker("quick")
        assert mark
        [count] = mark.args
        last = len(each) - 1
        chosen = {round(number * last / max(count - 1, 1)) for number in range(count)}
        for number, item in enumerate(each):
            if number not in chosen:
                item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _quick_reservations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared quota is written into a dictionary at once."""
    monkeypatch.setattr(pace, "SETTLING", 0.01)


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[Standin]:
    with running(StandinSettings(data=tmp_path / "standin")) as server:
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


@pytest.fixture
def context() -> dict[str, Any]:
    """What a task's context holds that the operators read."""
    return context_of(DictStore())


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


def word_error_rate(recognised: str, spoken: str) -> float:
    """Words that are wrong, missing or too many, for each word spoken. Encoders and recognisers differ from
    machine to machine: no test may ask for the same words."""
    said, meant = (re.findall(r"[\w']+", text.lower()) for text in (recognised, spoken))
    return Levenshtein.distance(said, meant) / len(meant)


def attach_memory(storage: Any = None) -> None:
    """Let ``memory://`` be object storage, as a provider of Airflow would register it."""
    storage = storage or fsspec.filesystem("memory")
    fs._BUILTIN_SCHEME_TO_FS["memory"] = lambda *_: storage
    fs._register_filesystems.cache_clear()
    attach("memory", fs=storage)


def auth_of(standin: Standin) -> SignatureAuth:
    """Signs raw requests with the stand-in's keys."""
    settings = standin.settings
    return SignatureAuth(Credentials(ak=settings.access_key, sk=settings.secret_key), settings.project_id)


def settle(client: VodClient, *audio_asset_ids: str) -> None:
    """Wait until audio assets are ready or have failed."""
    deadline = time.monotonic() + 20
    while not all(asset.settled(grace=False) for asset in client.asset_info(audio_asset_ids).values()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stats(standin: Standin) -> dict[str, Any]:
    """What the stand-in counted: calls by endpoint, submissions by source, assets by status."""
    counted: dict[str, Any] = httpx.get(f"{standin.url}/admin/stats").json()
    return counted


def has_ended(process: psutil.Process | int) -> bool:
    """Whether a process runs no more. It may go away between any two questions about it."""
    try:
        found = psutil.Process(process) if isinstance(process, int) else process
        return found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def first_event(trigger: Any) -> dict[str, Any]:
    """What a trigger says to the task that deferred to it."""
    async for event in trigger.run():
        return event.payload
    raise AssertionError("the trigger gave no event")


def context_of(store: DictStore, register: DictStore | None = None, **of_instance: Any) -> dict[str, Any]:
    """The context of one try of a task, whose state store is given, and the store of the register."""
    of_register = {} if register is None else {"asset_state_store": AssetStores(register)}
    return {
        **of_register,
        "task_state_store": store,
        "ti": TaskInstance(**of_instance),
        "outlet_events": defaultdict(SimpleNamespace),
    }


@dataclass
class TaskInstance:
    """What the operators read of a task instance. Its state is what the API server would say."""

    try_number: int = 1
    max_tries: int = 0
    state: str = "running"
    dag_id: str = "dag"
    run_id: str = "run"
    task_id: str = "extract"
    map_index: int = -1
    siblings: dict[int, str] = field(default_factory=dict)
    """States of the other instances of a mapped task."""
    start_date: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    def get_task_states(self, *, map_index: int | None = None, **_: Any) -> dict[str, dict[str, str]]:
        states = {**self.siblings, self.map_index: self.state}
        return {
            self.run_id: {
                self.task_id if index < 0 else f"{self.task_id}_{index}": state
                for index, state in states.items()
                if map_index in (None, index)
            }
        }


class DictStore:
    """A task's state store without a task: the same methods, values as JSON, and a count of reads."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.reads = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.reads += 1
        return self.values.get(key, default)

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        self.values[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


class AssetStores:
    """What a task's context has under ``asset_state_store`` when the register is among its inlets."""

    def __init__(self, register: DictStore) -> None:
        self._register = register

    def __getitem__(self, asset: Asset) -> DictStore:
        if asset.uri != "vod://register":
            raise KeyError(asset)
        return self._register


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


def client_of(standin: Standin, **options: Any) -> VodClient:
    """A client with the stand-in's keys; options of :class:`VodClient` may replace them.

    It does not pace itself: forty extractions would take 23 s, and the stand-in counts for itself.
    """
    settings = standin.settings
    of_client = {name: options.pop(name) for name in ("retry_seconds",) if name in options}
    of_service: dict[str, Any] = {
        "endpoint": standin.url,
        "project_id": settings.project_id,
        "credentials": Credentials(ak=settings.access_key, sk=settings.secret_key),
        "quota_share": 100.0,
        **options,
    }
    return VodClient(ServiceSettings(**of_service), **of_client)


def service(
    endpoint: str, project_id: str | None, credentials: Credentials | Login, **options: Any
) -> ServiceSettings:
    """How a service is called; *options* are further fields of :class:`ServiceSettings`."""
    return ServiceSettings(endpoint=endpoint, project_id=project_id, credentials=credentials, **options)


@contextmanager
def held_at_xcom(database: str, run_id: str, task_id: str, key: str) -> Iterator[Callable[[], bool]]:
    """Hold a task where it leaves an XCom, however fast it is; gives what says whether it has come there.

    A transaction that does not end has written the same row: PostgreSQL lets the other one wait for it.

    :param database: URL of Airflow's database.
    """
    engine = sqlalchemy.create_engine(database)
    with (
        engine.connect() as holder,
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other,
    ):
        # The check of its foreign key would lock the task itself, and nothing would start it.
        holder.execute(sqlalchemy.text("SET LOCAL session_replication_role = replica"))
        holder.execute(
            sqlalchemy.text(
                "INSERT INTO xcom (dag_run_id, dag_id, run_id, task_id, key, timestamp)"
                " SELECT id, dag_id, run_id, :task_id, :key, now() FROM dag_run WHERE run_id = :run_id"
            ),
            {"task_id": task_id, "key": key, "run_id": run_id},
        )
        waits = sqlalchemy.text(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE :holder = ANY(pg_blocking_pids(pid))"
        )
        pid = holder.scalar(sqlalchemy.text("SELECT pg_backend_pid()"))
        yield lambda: bool(other.scalar(waits, {"holder": pid}))
    engine.dispose()
