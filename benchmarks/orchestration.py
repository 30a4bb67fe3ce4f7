"""`make bench`: what Airflow has to do for extractions, in batches and one by one, and how it grows.

A whole Airflow (PostgreSQL, LocalExecutor, all parts) works against stand-ins whose extractions are virtual.
Figures go to build/bench/orchestration.json, and from there to docs/performance.md and docs/scaling.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import sqlalchemy

from benchmarks import report
from dev import stack
from dev.airflow import PARTS, Airflow, postgres, stop_postgres
from dev.processes import Processes
from vod.standin import StandinSettings

BUILD = Path(os.environ.get("VOD_BUILD", stack.ROOT / "build")).resolve() / "bench"

QUOTA = 1000
"""Submissions a minute where the quota is enforced: that of the contract, times ten."""
UNLIMITED = 1_000_000

Figures = dict[str, Any]


@dataclass(frozen=True)
class Library:
    """A stand-in, and the Airflow connection that leads to it.

    :param extraction: Seconds that a virtual extraction takes.
    """

    connection: str
    url: str
    extraction: float

    def assets(self, count: int) -> list[str]:
        """Make up videos."""
        body = {"count": count, "title": "video {number} of " + f"{count} at {time.time():.0f}"}
        answer = httpx.post(f"{self.url}/admin/assets", json=body, timeout=60).raise_for_status()
        ids: list[str] = answer.json()["asset_ids"]
        return ids

    def stats(self) -> Any:
        return httpx.get(f"{self.url}/admin/stats", timeout=60).raise_for_status().json()

    def hold(self) -> None:
        """Let no extraction look finished until :meth:`release`."""
        rules = [{"fault": "spelling", "shows": "TRANSCODING"}]
        httpx.put(f"{self.url}/admin/faults", json=rules).raise_for_status()

    def release(self) -> None:
        httpx.delete(f"{self.url}/admin/faults").raise_for_status()

    def calls(self) -> Counter[str]:
        return Counter({name: call["total"] for name, call in self.stats()["calls"].items()})


class Bench:
    """An Airflow under measurement."""

    def __init__(self, airflow: Airflow, database: str, plan: Path, free: Library, limited: Library) -> None:
        self.airflow = airflow
        self.free = free
        self.limited = limited
        self._engine = sqlalchemy.create_engine(database)
        self._postgres = psutil.Process(
            int((airflow.state / "postgres" / "postmaster.pid").read_text().split()[0])
        )
        self._plan = plan

    def run(
        self,
        dag: str,
        count: int,
        *,
        batch: int = 100,
        library: Library | None = None,
        timeout: float = 900.0,
        meanwhile: Callable[[str], None] = lambda _: None,
    ) -> Figures:
        """Run a DAG with so many assets to its end, and say what that took.

        :param meanwhile: Called once the run has begun, with its id.
        """
        library = library or self.free
        assets = library.assets(count)
        plan = {
            "assets": assets,
            "batch": batch,
        }
        self._plan.write_text(json.dumps(plan))
        conf = {"connection": library.connection} if dag == "ours" else {}
        calls, rows = library.calls(), self._rows()
        cpu, database = self._cpu(), cpu_seconds([self._postgres])
        run = self.airflow.api.trigger(dag, **conf)
        meanwhile(run)
        while (found := self.airflow.api.run(dag, run))["state"] not in ("success", "failed"):
            if timeout < 0:
                raise SystemExit(
                    f"{dag} with {count} assets has not ended; see {self.airflow.state / 'log'}."
                )
            time.sleep(1.0)
            timeout -= 1.0
        tasks = self.airflow.api.tasks(dag, run)
        submissions = library.stats()["submissions"]
        accepted = [submissions.get(asset, 0) for asset in assets]
        wall = seconds_between(found["queued_at"], found["end_date"])
        calls = library.calls() - calls
        rows = self._rows() - rows
        return {
            "assets": count,
            "state": found["state"],
            "wall": wall,
            "overhead": wall - library.extraction,
            "cpu": self._cpu() - cpu,
            "database_cpu": cpu_seconds([self._postgres]) - database,
            "task_instances": len(tasks),
            "tries": sum(task["try_number"] for task in tasks),
            "failed_tasks": sum(task["state"] != "success" for task in tasks),
            "calls": calls,
            "calls_per_asset": calls.total() / count,
            "rows": rows.total(),
            "rows_by_table": rows,
            "not_submitted": accepted.count(0),
            "submitted_twice": sum(times > 1 for times in accepted),
        }

    def idle(self, seconds: float) -> float:
        """The share of one core that Airflow takes while it has nothing to do."""
        before = self._cpu()
        time.sleep(seconds)
        return (self._cpu() - before) / seconds

    def _cpu(self) -> float:
        return cpu_seconds([self.airflow.process(part) for part in PARTS])

    def _rows(self) -> Counter[str]:
        """Rows of each table of Airflow's database."""
        tables = sqlalchemy.inspect(self._engine).get_table_names()
        with self._engine.connect() as connection:
            return Counter(
                {
                    table: connection.execute(
                        sqlalchemy.select(sqlalchemy.func.count()).select_from(sqlalchemy.table(table))
                    ).scalar_one()
                    for table in tables
                }
            )


def side_by_side(bench: Bench) -> Figures:
    """300 assets, ours and with what Airflow has."""
    return {
        "idle_cpu_share": bench.idle(10.0),
        "ours": bench.run("ours", 300),
        "rival": bench.run("rival", 300),
    }


def growth(bench: Bench) -> Figures:
    """100 and 1,000 assets of ours, 50 of the rival; the rest comes from the other parts."""
    return {
        "ours": [bench.run("ours", 100), bench.run("ours", 1000)],
        "rival": [bench.run("rival", 50)],
    }


def under_quota(bench: Bench) -> Figures:
    """Four batches at once, each process with the whole quota in mind, and a service that enforces it."""
    count = 2000
    library = bench.limited
    accepted: list[tuple[float, int]] = []

    def watch(_: str) -> None:
        total = 0
        while total < count:
            time.sleep(0.5)
            total = sum(library.stats()["submissions"].values())
            accepted.append((time.time(), total))

    figures = bench.run("ours", count, batch=count // 4, library=library, meanwhile=watch)
    begun = next(at for at, total in accepted if total)
    minutes = (accepted[-1][0] - begun) / 60
    statuses = library.stats()["calls"]["extract_audio"]["by_status"]
    return {
        **figures,
        "accepted_per_minute": count / minutes,
        "quota_share": count / minutes / QUOTA,
        "first_thousand_seconds": next(at for at, total in accepted if total >= 1000) - begun,
        "refused_429": statuses.get("429", 0),
        "accepted": [(round(at - begun, 1), total) for at, total in accepted],
    }


def waiting(bench: Bench) -> Figures:
    """10,000 assets wait in one triggerer, until all of them do and some time more."""
    count, span, quiet = 10_000, 60.0, 20.0
    airflow, library = bench.airflow, bench.free
    path = airflow.state / "lags"
    airflow.api.trigger("loop_lag", path=str(path), seconds=900)
    airflow.api.await_(lambda: path.exists() and path.stat().st_size, "the loop's lags", 60)
    before = _observe(bench, path, quiet)
    measured: Figures = {}

    def all_wait(run: str) -> bool:
        states = [task["state"] for task in airflow.api.tasks("ours", run) if task["task_id"] == "extract"]
        return len(states) > 1 and set(states) == {"deferred"}

    def meanwhile(run: str) -> None:
        deadline = time.monotonic() + 900
        while not all_wait(run):
            if time.monotonic() > deadline:
                raise SystemExit(f"{count} assets have not come to wait; see {airflow.state / 'log'}.")
            time.sleep(3.0)
        measured.update(_observe(bench, path, span))
        library.release()

    library.hold()
    figures = bench.run("ours", count, meanwhile=meanwhile)
    # The extraction ended while all waited.
    return {**figures, "overhead": figures["wall"] - span, "quiet": before, "waiting": measured}


def _observe(bench: Bench, lags: Path, seconds: float) -> Figures:
    """The triggerer over some time."""
    triggerer = bench.airflow.process("triggerer")
    calls, cpu, since = bench.free.calls()["info"], cpu_seconds([triggerer]), time.time()
    time.sleep(seconds)
    span = time.time() - since
    late = _lags(lags, since, since + span)
    return {
        "cpu_share": (cpu_seconds([triggerer]) - cpu) / span,
        "memory_mb": sum(
            process.memory_info().rss for process in [triggerer, *triggerer.children(recursive=True)]
        )
        / 1e6,
        "lag_p50_ms": late[len(late) // 2] * 1000,
        "lag_p99_ms": late[int(len(late) * 0.99)] * 1000,
        "lag_max_ms": late[-1] * 1000,
        "calls_per_minute": (bench.free.calls()["info"] - calls) / span * 60,
    }


def _lags(path: Path, since: float, until: float) -> list[float]:
    """The lags that were noted in a span of time, in rising order."""
    noted = [line.split() for line in path.read_text().splitlines()[:-1]]
    return sorted(float(lag) for at, lag in noted if since <= float(at) <= until)


MEASUREMENTS = {
    "side_by_side": side_by_side,
    "growth": growth,
    "under_quota": under_quota,
    "waiting": waiting,
}


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """Seconds of processes, their children, and all their children that have ended."""
    family = list(processes)
    for process in processes:
        family += process.children(recursive=True)
    total = 0.0
    for process in family:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def seconds_between(start: str, end: str) -> float:
    first, last = (datetime.fromisoformat(moment.replace("Z", "+00:00")) for moment in (start, end))
    return (last - first).total_seconds()


@contextmanager
def running() -> Iterator[Bench]:
    """A fresh Airflow and two stand-ins; their logs stay in build/bench/airflow/log."""
    state = BUILD / "airflow"
    stop_postgres(state / "postgres")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    plan = state / "plan.json"
    with Processes() as processes, postgres(state / "postgres") as database:
        libraries = []
        for connection, extraction, scale in (("vod_default", 30.0, 0), ("vod_limited", 5.0, 10)):
            log = state / "log" / f"{connection}.log"
            options = ("--virtual", "--workers", "100000", "--running-seconds", str(extraction))
            url = stack.start_standin(
                processes, state / connection, log, 0, *options, "--quota-scale", str(scale)
            )
            libraries.append(Library(connection, url, extraction))
        free, limited = libraries
        airflow = Airflow(
            state,
            processes,
            database,
            free.url,
            dags=Path(__file__).parent / "dags",
            settings={
                # The quota of reads stays that of the contract.
                "AIRFLOW_CONN_VOD_DEFAULT": stack.connection(
                    free.url, state / "audio", quotas={"extract": UNLIMITED}
                ),
                "AIRFLOW_CONN_VOD_LIMITED": stack.connection(
                    limited.url, state / "audio", quotas={"extract": QUOTA}
                ),
                "AIRFLOW_CONN_VOD_HTTP": _http_connection(free.url),
                "VOD_BENCH_PLAN": str(plan),
                "VOD_BENCH_PROJECT": f"/v1.0/{StandinSettings(data=Path()).project_id}",
            },
        )
        airflow.prepare()
        airflow.start()
        for dag in ("ours", "rival", "loop_lag"):
            airflow.api.await_(lambda dag=dag: airflow.api.knows(dag), f"the DAG {dag}", 120)
        yield Bench(airflow, database, plan, free, limited)


def _http_connection(url: str) -> str:
    """The connection of the rival: a token in its headers, as somebody without this plugin would do it."""
    known = StandinSettings(data=Path())
    user = {"name": known.user, "password": known.password, "domain": {"name": known.account}}
    auth = {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"id": known.project_id}},
    }
    answer = httpx.post(f"{url}/v3/auth/tokens", json={"auth": auth}).raise_for_status()
    headers = {"X-Auth-Token": answer.headers["X-Subject-Token"], "Content-Type": "application/json"}
    return json.dumps({"conn_type": "http", "host": url, "extra": headers})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.orchestration", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(MEASUREMENTS)}; default: all"
    )
    wanted = parser.parse_args().parts or list(MEASUREMENTS)
    if unknown := set(wanted) - set(MEASUREMENTS):
        parser.error(f"{', '.join(sorted(unknown))} is no part")
    BUILD.mkdir(parents=True, exist_ok=True)
    file = BUILD / "orchestration.json"
    figures = json.loads(file.read_text()) if file.exists() else {}
    figures["machine"] = {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
    }
    with running() as bench:
        for part in (part for part in MEASUREMENTS if part in wanted):
            started = time.monotonic()
            print(f"{part} …", flush=True)
            figures[part] = {**MEASUREMENTS[part](bench), "load_average": os.getloadavg()[0]}
            file.write_text(json.dumps(figures, indent=1))
            print(f"{part}: {time.monotonic() - started:.0f} s", flush=True)
    report.write(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
