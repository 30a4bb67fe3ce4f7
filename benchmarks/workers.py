"""More workers on Celery: how much quicker media work gets, and a long list under VOD's quota.

``scaling``: media work that waits, because it is measured how the work is handed out, on a machine whose two
cores one worker would fill: each ffmpeg sleeps first. ``light``: extractions by VOD while those workers are
full. ``quota``: two schedulers and two triggerers, four workers, and a stand-in that enforces ten times the
quota of the contract. All start the workers and settings of docker-compose.yaml as processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psutil

from benchmarks.orchestration import BUILD, QUOTA, UNLIMITED, Figures, seconds_between
from benchmarks.report import renew, table
from dev import distributed, stack
from dev.airflow import Airflow, postgres, stop_postgres
from dev.distributed import Redis, worker_command
from dev.processes import Processes
from vod import media

SECONDS = 4.0
"""That each extraction waits."""
BATCH, BATCHES = 10, 8
LONG = 10_000


class Bench:
    """An Airflow with as many workers as it is told."""

    def __init__(self, airflow: Airflow, processes: Processes, standin: str, plan: Path) -> None:
        self.airflow, self.standin = airflow, standin
        self._processes, self._plan = processes, plan
        self._workers: list[psutil.Process] = []

    def start_worker(self, service: str) -> None:
        """Start a worker as if on a machine of its own."""
        name = f"{service}-{len(self._workers) + 1}"
        machine = self.airflow.state / name
        (machine / "tmp").mkdir(parents=True)
        environment = {
            **self.airflow.environment,
            "AIRFLOW_HOME": str(machine),
            "TMPDIR": str(machine / "tmp"),
        }
        log = self.airflow.log_of(name)
        started = self._processes.start(name, worker_command(service, name), environment=environment, log=log)
        self._workers.append(psutil.Process(started.pid))
        self.airflow.api.await_(lambda: log.exists() and f"{name} ready." in log.read_text(), name, 120)

    def run(self, assets: list[str], batch: int, timeout: float, **conf: str) -> list[dict[str, Any]]:
        """Run the assets in batches; the task instances that worked on them."""
        self.write(assets, batch)
        run = self.airflow.api.trigger("ours", **conf)
        if self.airflow.api.await_run("ours", run, timeout) != "success":
            raise SystemExit(f"The run failed; see {self.airflow.state / 'log'}.")
        return [task for task in self.airflow.api.tasks("ours", run) if task["task_id"] == "extract"]

    def write(self, assets: list[str], batch: int) -> None:
        """Write the plan of the next run."""
        self._plan.write_text(json.dumps({"assets": assets, "batch": batch}))

    def videos(self, count: int, folder: str) -> list[str]:
        """New videos, as files."""
        place = self.airflow.state / "videos" / folder
        place.mkdir(parents=True)
        for number in range(count):
            (place / f"{number}.mov").hardlink_to(self.airflow.state / "lake.mov")
        return [str(path) for path in sorted(place.iterdir())]


def scaling(bench: Bench) -> Figures:
    """The same work by one, two and four workers, each with one task at a time."""
    figures: dict[str, float] = {}
    for count in (1, 2, 4):
        while len(bench._workers) < count + 1:
            bench.start_worker("airflow-worker-media")
        tasks = bench.run(bench.videos(BATCH * BATCHES, str(count)), BATCH, 1200, engine="ffmpeg")
        began, ended = min(task["start_date"] for task in tasks), max(task["end_date"] for task in tasks)
        figures[str(count)] = seconds_between(began, ended)
    rows = [
        [count, f"{wall:.0f} s", f"{figures['1'] / wall:.2f}", f"{figures['1'] / wall / int(count):.0%}"]
        for count, wall in figures.items()
    ]
    renew("workers", table(("workers", "wall", "times one", "of linear"), rows))
    return figures


def light(bench: Bench) -> Figures:
    """200 extractions by VOD, of five seconds each, while the workers for media are full."""
    videos = bench.videos(4 * BATCH * BATCHES, "light")
    bench.write(videos, BATCH)
    heavy = bench.airflow.api.trigger("ours", engine="ffmpeg")

    def states() -> list[str]:
        return [task["state"] for task in bench.airflow.api.tasks("ours", heavy)]

    bench.airflow.api.await_(lambda: states().count("running") == 4, "four full workers", 120)
    body = {"count": 200, "title": "short {number}"}
    answer = httpx.post(f"{bench.standin}/admin/assets", json=body, timeout=120).raise_for_status()
    assets = set(answer.json()["asset_ids"])

    def submitted() -> bool:
        return assets <= httpx.get(f"{bench.standin}/admin/stats", timeout=60).json()["submissions"].keys()

    bench.write(sorted(assets), 50)
    run = bench.airflow.api.trigger("ours", engine="vod")
    bench.airflow.api.await_(submitted, "all submissions", 300)
    accepted = time.time()
    if bench.airflow.api.await_run("ours", run, 300) != "success":
        raise SystemExit(f"The run failed; see {bench.airflow.state / 'log'}.")
    figures = {"after_last_acceptance": time.time() - accepted, "still_queued": states().count("queued")}
    bench.airflow.api.call("PATCH", f"/dags/ours/dagRuns/{quote(heavy)}", json={"state": "failed"})
    rows = [
        ["from the last acceptance to the end of the run", f"{figures['after_last_acceptance']:.0f} s"],
        ["tasks of ffmpeg that still wait for a worker", f"{figures['still_queued']}"],
    ]
    renew("light", table(("200 extractions by VOD of 5 s, 4 full workers for ffmpeg", ""), rows))
    return figures


def quota(bench: Bench) -> Figures:
    """A long list under an enforced quota."""
    while len(bench._workers) < 5:
        bench.start_worker("airflow-worker")
    for part in ("scheduler", "triggerer"):
        bench.airflow.start_part(part, f"{part}-2")
    body = {"count": LONG, "title": "video {number}"}
    answer = httpx.post(f"{bench.standin}/admin/assets", json=body, timeout=120).raise_for_status()
    began = time.time()
    tasks = bench.run(answer.json()["asset_ids"], 100, 3600, engine="vod", connection="vod_limited")
    wall = time.time() - began
    stats = httpx.get(f"{bench.standin}/admin/stats", timeout=120).json()
    figures = {
        "assets": LONG,
        "wall": wall,
        "accepted_a_minute": sum(stats["submissions"].values()) / wall * 60,
        "refused": stats["calls"]["extract_audio"]["by_status"].get("429", 0),
        "twice": sum(count > 1 for count in stats["submissions"].values()),
        "missing": LONG - len(stats["submissions"]),
        "tries": sum(task["try_number"] for task in tasks),
        "tasks": len(tasks),
    }
    rows = [
        ["wall, to the last audio", f"{wall / 60:.1f} min"],
        ["accepted a minute", f"{figures['accepted_a_minute']:.0f} of {QUOTA}"],
        ["refused with 429", f"{figures['refused']}"],
        ["submitted twice", f"{figures['twice']}"],
        ["not submitted", f"{figures['missing']}"],
        ["tasks, and their tries", f"{figures['tasks']}, {figures['tries']}"],
    ]
    renew("long_list", table((f"{LONG:,} assets, 4 workers, 2 schedulers, 2 triggerers", ""), rows))
    return figures


PARTS = {"scaling": scaling, "light": light, "quota": quota}


@contextmanager
def running() -> Iterator[Bench]:
    """A fresh Airflow with one worker for light work."""
    state = BUILD / "workers"
    stop_postgres(state / "postgres")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    shutil.copy(stack.SAMPLES / "lake.mov", state)
    slow = state / "ffmpeg"
    slow.write_text(
        f'#!/bin/sh\ncase "$*" in *" -map "*) sleep {SECONDS} ;; esac\nexec "{media.find_ffmpeg()}" "$@"\n'
    )
    slow.chmod(0o755)
    plan = state / "plan.json"
    with Processes() as processes, postgres(state / "postgres") as database:
        options = ("--virtual", "--workers", "100000", "--running-seconds", "5", "--quota-scale", "10")
        log = state / "log" / "stand-in.log"
        standin = stack.start_standin(processes, state / "standin", log, 0, *options)
        redis = Redis(state / "redis", processes)
        settings = distributed.settings(database, redis.url, distributed.example_variables())
        extra = {"ffmpeg": str(slow), "quotas": {"extract": UNLIMITED}}
        airflow = Airflow(
            state,
            processes,
            database,
            standin,
            dags=Path(__file__).parent / "dags",
            allowed=[state / "videos"],
            settings={
                **settings,
                "AIRFLOW__CELERY__WORKER_CONCURRENCY": "1",
                "AIRFLOW__CORE__PARALLELISM": "32",
                "AIRFLOW_CONN_VOD_DEFAULT": stack.connection(standin, state / "audio", **extra),
                "AIRFLOW_CONN_VOD_LIMITED": stack.connection(
                    standin, state / "audio", quotas={"extract": QUOTA}
                ),
                "VOD_BENCH_PLAN": str(plan),
                "VOD_BENCH_PROJECT": "none",
            },
        )
        airflow.prepare()
        airflow.start()
        bench = Bench(airflow, processes, standin, plan)
        bench.start_worker("airflow-worker")
        yield bench


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    wanted = parser.parse_args().parts or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))} is no part")
    file = BUILD / "workers.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    figures = json.loads(file.read_text()) if file.exists() else {}
    with running() as bench:
        for part in wanted:
            figures[part] = {**PARTS[part](bench), "load_average": os.getloadavg()[0]}
            file.write_text(json.dumps(figures, indent=1))
            print(f"{part}: {figures[part]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
