"""All parts of Airflow as real processes, and a stand-in that can be taken away."""

from __future__ import annotations

import random
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from dev import stack
from dev.airflow import Airflow, Api, postgres
from dev.processes import Processes
from tests.conftest import has_ended, stats
from vod.standin import Standin, StandinSettings, running

DAGS = Path(__file__).parent / "dags"


class Library:
    """The stand-in, which can be taken away for a while and comes back with all it knew."""

    def __init__(self, folder: Path) -> None:
        self._settings = StandinSettings(data=folder, workers=1000)
        self._running = running(self._settings)
        self.standin: Standin = self._running.__enter__()
        self._settings = replace(self._settings, port=int(self.standin.url.rpartition(":")[2]))

    def stop(self) -> None:
        self._running.__exit__(None, None, None)

    def start(self) -> None:
        self._running = running(self._settings)
        self.standin = self._running.__enter__()


@dataclass
class Cluster:
    airflow: Airflow
    library: Library
    locked: Library
    counted: Counted

    @property
    def api(self) -> Api:
        return self.airflow.api

    @property
    def standin(self) -> Standin:
        return self.library.standin

    def calm(self) -> None:
        """Let the stand-in do as it should, at once, without limits."""
        behaviour = self.standin.behaviour
        behaviour.faults, behaviour.queue_seconds, behaviour.running_seconds = [], 0, 0
        behaviour.quota_scale, behaviour.clock_ahead, behaviour.list_lag = 100, 0, 0

    def sources(self, count: int) -> list[str]:
        """New videos, each under a title of its own."""
        return self.standin.add_virtual(count, title=f"{random.getrandbits(64):x} {{number}}")

    def submissions(self, sources: list[str]) -> dict[str, int]:
        """How often each was accepted by VOD."""
        counted = stats(self.standin)["submissions"]
        return {source: counted[source] for source in sources if source in counted}

    def outcomes(self, dag: str, run: str) -> list[str]:
        return [record["outcome"] for record in self.api.returned(dag, run, "extract")]

    def task_process(self) -> psutil.Process | None:
        """The process in which a task runs: the youngest descendant of the scheduler's workers."""
        workers = self.airflow.process("scheduler").children()
        tasks = [child for worker in workers for child in _children(worker)]
        return next((task for task in tasks if not has_ended(task)), None)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


class Counted:
    """What Airflow sends to StatsD: names with their tags, as they come."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.names: set[str] = set()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def settings(self) -> dict[str, str]:
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self._socket.getsockname()[1]),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def _read(self) -> None:
        while True:
            for line in self._socket.recv(65536).decode().splitlines():
                self.names.add(line.partition(":")[0])


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """All parts of Airflow as processes, in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="vod-batches-") as name, Processes() as processes:
        counted = Counted()
        folder = Path(name).resolve()
        folder.chmod(0o755)  # as root, PostgreSQL runs as a user who must enter
        library, locked = Library(folder / "standin"), Library(folder / "locked")
        with postgres(folder / "postgres") as database:
            settings = counted.settings | {
                "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
                "AIRFLOW__CORE__TASK_INSTANCE_HEARTBEAT_SEC": "2",
                # A killed triggerer's triggers are taken over once it was silent for that long.
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
                "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
                # A dead task's claims are free after that long.
                "AIRFLOW__VOD__CLAIM_LEASE": "45",
                "AIRFLOW__VOD__LOST_ANSWER_WINDOW": "75",  # longer than the list is behind in any test
                # What a task knew is gone as soon as it has succeeded: nothing may depend on it.
                "AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS": "True",
                "AIRFLOW_CONN_VOD_DEFAULT": stack.connection(
                    library.standin.url,
                    folder / "audio",
                    quotas={"extract": 100_000},
                    sis_endpoint=library.standin.url,
                ),
                "AIRFLOW_CONN_VOD_LOCKED": stack.connection(locked.standin.url, folder / "audio"),
            }
            airflow = Airflow(
                folder,
                processes,
                database,
                library.standin.url,
                dags=DAGS,
                allowed=[folder / "videos"],
                settings=settings,
            )
            airflow.prepare()
            airflow.start()
            yield Cluster(airflow, library, locked, counted)
            processes.stop()
        library.stop()
        locked.stop()
