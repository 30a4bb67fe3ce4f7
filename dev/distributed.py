"""What docker-compose.yaml has besides Airflow's own parts, as processes: Celery, Redis, an object store."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from dev import stack
from dev.airflow import Airflow, free_port
from dev.processes import Processes

COMPOSE: dict[str, Any] = yaml.safe_load((stack.ROOT / "docker-compose.yaml").read_text())
ENVIRONMENT: dict[str, str] = COMPOSE["x-airflow"]["environment"]
WORKERS = [name for name in COMPOSE["services"] if name.startswith("airflow-worker")]
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?:(?P<how>:?[-?])(?P<word>[^}]*))?}")

_ONLY_IN_CONTAINERS = {
    "AIRFLOW__CORE__AUTH_MANAGER",
    "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK",  # at a fixed port
}


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """A value as Compose reads it.

    :raises LookupError: a variable is missing that has to be set.
    """

    def value(match: re.Match[str]) -> str:
        given, how, word = variables.get(match["name"]), match["how"] or "", match["word"] or ""
        if how.startswith(":"):
            given = given or None
        if given is None and how.endswith("?"):
            raise LookupError(f"{match['name']}: {word}")
        return word if given is None else given

    return VARIABLE.sub(value, text)


def example_variables() -> dict[str, str]:
    """The variables that .env.example sets."""
    lines = (stack.ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def settings(database: str, broker: str, store: Mapping[str, str]) -> dict[str, str]:
    """The environment of Airflow's parts, beyond that of `make up`.

    :param store: ``STORE_`` variables of .env: address and keys of the object store.
    """
    as_composed = {
        name: str(value)
        for name, value in ENVIRONMENT.items()
        if name.startswith("AIRFLOW__") and "${" not in str(value) and "://" not in str(value)
    }
    return {
        **{name: value for name, value in as_composed.items() if name not in _ONLY_IN_CONTAINERS},
        "AIRFLOW__CELERY__WORKER_CONCURRENCY": interpolated(
            ENVIRONMENT["AIRFLOW__CELERY__WORKER_CONCURRENCY"], {}
        ),
        "AIRFLOW__CELERY__BROKER_URL": broker,
        "AIRFLOW__CELERY__RESULT_BACKEND": f"db+{database}",
        "AIRFLOW_CONN_AUDIO_STORE": interpolated(ENVIRONMENT["AIRFLOW_CONN_AUDIO_STORE"], store),
    }


def worker_command(service: str, name: str) -> list[str]:
    """The command of a worker, with a name of its own.

    :param service: Its service in the compose file.
    """
    command = COMPOSE["services"][service]["command"].split()
    return stack.python("-m", "airflow", *command, "--celery-hostname", name, "--skip-serve-logs")


class Redis:
    """A Redis server with a password, which keeps its data when it is killed."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._folder, self._processes = folder, processes
        self._port = free_port(0)
        self._password = secrets.token_urlsafe(16)
        self.url = f"redis://:{self._password}@127.0.0.1:{self._port}/0"
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        """Start it, and return when it takes connections."""
        program = shutil.which("redis-server")
        if program is None:
            raise SystemExit(
                "There is no redis-server. Install it, for example Debian's package of that name."
            )
        options = ["--bind", "127.0.0.1", "--dir", str(self._folder), "--appendonly", "yes"]
        log = self._folder / "log"
        self._process = self._processes.start(
            "redis",
            [program, "--port", str(self._port), "--requirepass", self._password, *options],
            environment=os.environ,
            log=log,
        )
        _await_port("Redis", self._port, self._process.poll, log)

    def restart(self) -> None:
        """Kill it and start it again."""
        self._process.kill()
        self._process.wait()
        self.start()


class Cluster:
    """What `make up DISTRIBUTED=1` starts besides Airflow's own parts.

    :param state: Folder for its state. What the store holds is gone when it ends.
    """

    def __init__(self, state: Path, processes: Processes, database: str) -> None:
        self._state, self._processes = state, processes
        variables = example_variables()
        self.destination = variables["VOD_DESTINATION"]
        self.store = self._start_store()
        # A new password each start: what waited in it belongs to runs that Airflow queues again.
        shutil.rmtree(state / "redis", ignore_errors=True)
        redis = Redis(state / "redis", processes)
        self.settings = settings(database, redis.url, {**variables, "STORE_ENDPOINT": self.store})

    def start_workers(self, airflow: Airflow) -> None:
        """Start one worker of each kind."""
        for service in WORKERS:
            name = service.removeprefix("airflow-")
            self._processes.start(
                name,
                [*worker_command(service, name), "--pid", str(self._state / f"{name}.pid")],
                environment=airflow.environment,
                log=airflow.log_of(name),
            )

    def _start_store(self) -> str:
        _, *options = COMPOSE["services"]["store"]["entrypoint"]
        port, log = free_port(5000), self._state / "log" / "store.log"
        options[options.index("--host") + 1], options[options.index("--port") + 1] = "127.0.0.1", str(port)
        process = self._processes.start(
            "store", stack.python("-m", "moto.server", *options), environment=os.environ, log=log
        )
        _await_port("The object store", port, process.poll, log)
        url, bucket = f"http://127.0.0.1:{port}", self.destination.rpartition("@")[2].partition("/")[0]
        httpx.put(f"{url}/{bucket}").raise_for_status()
        return url


def _await_port(what: str, port: int, poll: Callable[[], int | None], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit(f"{what} did not start; see {log}.")
