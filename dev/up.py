"""`make up`: all of Airflow for daily use, with its UI, PostgreSQL and the stand-in. `make down` ends it.

With ``--background`` it returns once all is up; `make logs` then follows what its parts say. With
``--distributed`` tasks run on Celery's workers, and audio goes to an object store, as in docker-compose.yaml.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from dev import stack
from dev.airflow import USER, Airflow, free_port, postgres, stop_postgres
from dev.distributed import Cluster
from dev.processes import Processes, end

STATE = Path(os.environ.get("VOD_STATE", stack.ROOT / ".airflow")).resolve()
LISTS = STATE / "lists"
ENVIRONMENT = STATE / "environment.json"
"""That of its parts, while it runs; only the owner may read it."""
VIDEOS = os.environ.get("VIDEOS", "")
"""A folder that runs may read as well."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dev.up", description=__doc__)
    parser.add_argument("--down", action="store_true", help="end what an earlier call started")
    parser.add_argument(
        "--background", action="store_true", help="return once all is up, and leave it running"
    )
    parser.add_argument(
        "--distributed", action="store_true", help="with workers on Celery and an object store"
    )
    parser.add_argument("--logs", action="store_true", help="follow the logs of what runs")
    parser.add_argument("--shell", action="store_true", help="a shell with the environment of what runs")
    asked = parser.parse_args()
    if asked.shell:
        return shell()
    if asked.logs:
        return logs()
    if asked.background:
        return in_background(distributed=asked.distributed)
    return down() if asked.down else up(distributed=asked.distributed)


def up(*, distributed: bool = False) -> int:
    if VIDEOS and not Path(VIDEOS).is_dir():
        say(f"VIDEOS={VIDEOS} is no folder.")
        return 2
    if os.environ.get("VIDEO"):
        say("VIDEO is a file for `make demo`; `make up` takes a folder, as VIDEOS.")
    STATE.mkdir(parents=True, exist_ok=True)
    with _only_one() as alone, Processes() as processes:
        if not alone:
            say(f"It is already running{_where()}; `make down` ends it.")
            return 1
        say("Starting PostgreSQL …")
        with postgres(STATE / "postgres") as database:
            log = STATE / "log" / "stand-in.log"
            endpoint = stack.start_standin(processes, STATE / "standin", log, free_port(8600))
            videos = samples(endpoint)
            _fill_in_forms(list(videos.values()), _sample_list(videos))
            cluster = Cluster(STATE, processes, database) if distributed else None
            airflow = Airflow(
                STATE,
                processes,
                database,
                endpoint,
                destination=cluster.destination if cluster else None,
                allowed=[LISTS, *([Path(VIDEOS).resolve()] if VIDEOS else [])],
                settings=cluster.settings if cluster else None,
            )
            say("Preparing the database …")
            airflow.prepare()
            say("Starting Airflow …")
            airflow.start()
            if cluster:
                cluster.start_workers(airflow)
            (STATE / "up.url").write_text(airflow.url)
            stack.write_secret(ENVIRONMENT, json.dumps(airflow.environment))
            say(f"\n  Airflow   {airflow.url}   login {USER}, password {airflow.password}")
            say(f"  stand-in  {endpoint}   connection {stack.CONNECTION}")
            if cluster:
                say(f"  store     {cluster.store}   destination {cluster.destination}, until it ends")
            for name, asset in videos.items():
                say(f"            {asset}  {name}")
            say("\nReady. Ctrl-C or `make down` ends it all.")
            while not (dead := processes.dead()):
                time.sleep(0.5)
            say(f"The {dead} has ended; see {airflow.log_of(dead)}.")
            return 1


def in_background(*, distributed: bool = False) -> int:
    """Start `make up` as a process of its own, and say what it says until it is ready."""
    told = STATE / "log" / "up.log"
    told.parent.mkdir(parents=True, exist_ok=True)
    with told.open("w") as writing, told.open() as reading:
        command = stack.python("-m", "dev.up", *(["--distributed"] if distributed else []))
        process = subprocess.Popen(
            command,
            cwd=stack.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            start_new_session=True,
        )
        while True:
            ended = process.poll() is not None  # before the last look, or its last words could be missed
            for line in reading:
                if line.startswith("Ready."):
                    say("Ready. It runs in the background: `make logs` follows it, `make down` ends it.")
                    return 0
                say(line.rstrip("\n"))
            if ended:
                return process.returncode or 1
            time.sleep(0.2)


def logs() -> int:
    """Follow the logs of all parts."""
    files = sorted(map(str, (STATE / "log").glob("*.log")))
    if not files:
        say("Nothing has run here yet; `make up` starts it.")
        return 1
    return subprocess.run(["tail", "--lines=5", "--follow=name", *files], check=False).returncode  # noqa: S607


def shell() -> int:
    """A shell, or the command in the variable ``COMMAND``, for which `airflow` and `vod` mean what runs."""
    if not _where():
        say("Nothing runs here; `make up` starts it.")
        return 1
    command = os.environ.get("COMMAND", "")
    program = [os.environ.get("SHELL", "/bin/sh"), *(["-c", command] if command else [])]
    return subprocess.run(program, env=json.loads(ENVIRONMENT.read_text()), check=False).returncode


def _where() -> str:
    with suppress(OSError):
        return f" at {(STATE / 'up.url').read_text()}"
    return ""


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


def _sample_list(videos: dict[str, str]) -> Path:
    """A list of the samples for extract_asset_list; what somebody has made of it stays."""
    manifest = LISTS / "samples.csv"
    if not manifest.exists():
        LISTS.mkdir(parents=True, exist_ok=True)
        manifest.write_text("\n".join(["asset", *videos.values(), ""]))
    return manifest


def _fill_in_forms(assets: list[str], manifest: Path) -> None:
    """Let the forms hold the samples at first: a cluster policy, which Airflow reads from its ``config``
    folder.
    """
    policy = STATE / "config" / "airflow_local_settings.py"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(
        "def dag_policy(dag):\n"
        '    if "vod" in dag.tags and "assets" in dag.params:\n'
        f'        dag.params["assets"] = {assets!r}\n'
        '    if "vod" in dag.tags and "manifest" in dag.params:\n'
        f'        dag.params["manifest"] = {str(manifest)!r}\n'
    )


def samples(endpoint: str) -> dict[str, str]:
    """The sample videos in the stand-in's library, uploaded on the first start: asset id by file name."""
    record = STATE / "samples.json"
    if not record.exists():
        uploaded = stack.upload(endpoint, stack.sample_videos(), lambda _: None)
        record.write_text(json.dumps({video.name: asset for video, asset in uploaded.items()}))
    known: dict[str, str] = json.loads(record.read_text())
    return known


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
            try:
                yield True
            finally:
                for told in (STATE / "up.url", ENVIRONMENT):
                    told.unlink(missing_ok=True)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("\nStopped.")
        sys.exit(128 + signal.SIGINT)
