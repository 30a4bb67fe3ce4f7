"""`make up`: all of Airflow for daily use, with its UI, PostgreSQL and the stand-in. `make down` ends it."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from dev import stack
from dev.airflow import USER, Airflow, free_port, postgres, stop_postgres
from dev.processes import Processes, end

STATE = Path(os.environ.get("VOD_STATE", stack.ROOT / ".airflow")).resolve()


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
        say("Starting PostgreSQL …")
        with postgres(STATE / "postgres") as database:
            log = STATE / "log" / "stand-in.log"
            endpoint = stack.start_standin(processes, STATE / "standin", log, free_port(8600))
            videos = samples(endpoint)
            _fill_in_forms(list(videos.values()))
            airflow = Airflow(STATE, processes, database, endpoint)
            say("Preparing the database …")
            airflow.prepare()
            say("Starting Airflow …")
            airflow.start()
            say(f"\n  Airflow   {airflow.url}   login {USER}, password {airflow.password}")
            say(f"  stand-in  {endpoint}   connection {stack.CONNECTION}")
            for name, asset in videos.items():
                say(f"            {asset}  {name}")
            say("\nReady. Ctrl-C or `make down` ends it all.")
            while not (dead := processes.dead()):
                time.sleep(0.5)
            say(f"The {dead} has ended; see {airflow.log_of(dead)}.")
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


def _fill_in_forms(assets: list[str]) -> None:
    """Let the forms hold the samples at first: a cluster policy, which Airflow reads from its ``config``
    folder.
    """
    policy = STATE / "config" / "airflow_local_settings.py"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text(
        "def dag_policy(dag):\n"
        '    if "vod" in dag.tags and "assets" in dag.params:\n'
        f'        dag.params["assets"] = {assets!r}\n'
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
            yield True


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("\nStopped.")
        sys.exit(128 + signal.SIGINT)
