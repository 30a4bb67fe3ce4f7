"""What of a task's start is this package's: from Airflow's own imports to the first call of VOD.

A fresh interpreter has what Airflow's task runner imports for any task. Then it parses the sample DAG and
runs its operator against the stand-in; the clock stops at the first request. There is no register: a claim
waits a second on purpose. Beside it, the same with an empty DAG and a request by the HTTP provider's hook,
which any task that calls a service needs. ``python -m benchmarks.task_start`` writes
build/bench/task_start.json.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

from dev import stack
from dev.processes import Processes

RESULT = stack.ROOT / "build" / "bench" / "task_start.json"
ROUNDS = 9

RUNNER = """
import runpy, sys, time
import airflow.sdk.execution_time.task_runner
from airflow.dag_processing import dagbag
from airflow.providers.http.hooks.http import HttpHook
"""
OURS = (
    RUNNER
    + """
from collections import defaultdict
from datetime import datetime, timezone
from types import SimpleNamespace
class Store(dict):
    def set(self, key, value, **_):
        self[key] = value
    def delete(self, key):
        self.pop(key, None)
ti = SimpleNamespace(try_number=1, max_tries=0, state="running", dag_id="d", run_id="r", task_id="extract",
                     map_index=-1, start_date=datetime.now(timezone.utc))
context = {"ti": ti, "task_state_store": Store(), "outlet_events": defaultdict(SimpleNamespace)}
base = time.perf_counter()
runpy.run_path("dags/extract_and_transcribe.py")
parsed = time.perf_counter()
first = []
import httpx
send = httpx.AsyncClient.send
async def noted(client, *args, **options):
    first.append(time.perf_counter())
    return await send(client, *args, **options)
httpx.AsyncClient.send = noted
from vod.operators import ExtractAudioOperator
task = ExtractAudioOperator(task_id="extract", assets=[sys.argv[1]], engine="vod", deferrable=True)
try:
    task.execute(context)
except BaseException as deferred:
    assert type(deferred).__name__ == "TaskDeferred", repr(deferred)
print(parsed - base, first[0] - parsed)
"""
)
THEIRS = (
    RUNNER
    + """
base = time.perf_counter()
from airflow.sdk import DAG
with DAG(dag_id="empty", schedule=None):
    pass
parsed = time.perf_counter()
import requests
requests.Session.send = lambda *args, **rest: sys.exit(print(parsed - base, time.perf_counter() - parsed))
HttpHook(method="GET", http_conn_id="standin").run("/v1.0/x/asset/info")
"""
)


def main() -> None:
    """Measure, print, write."""
    taken: dict[str, list[tuple[float, float]]] = {"this plugin": [], "an empty DAG and HttpHook": []}
    with Processes() as processes, tempfile.TemporaryDirectory(prefix="vod-start-") as folder:
        home = Path(folder)
        endpoint = stack.start_standin(processes, home / "standin", home / "standin.log", 0, "--virtual")
        [asset] = httpx.post(f"{endpoint}/admin/assets", json={"count": 1}).json()["asset_ids"]
        environment = {
            **os.environ,
            **stack.airflow_environment(home, endpoint=endpoint, destination=home / "audio"),
            "PYTHONPATH": str(stack.ROOT),
            "AIRFLOW_CONN_STANDIN": json.dumps({"conn_type": "http", "host": endpoint}),
        }
        scripts = {"this plugin": OURS, "an empty DAG and HttpHook": THEIRS}
        for turn in range(ROUNDS + 1):
            for name, script in scripts.items():
                command = [sys.executable, "-c", script, asset]
                done = subprocess.run(
                    command, cwd=stack.ROOT, env=environment, check=True, capture_output=True, text=True
                )
                parsed, called = map(float, done.stdout.splitlines()[-1].split())
                if turn:  # the first round fills the disk's cache
                    taken[name].append((parsed, called))
    figures = {
        name: {
            "parse": statistics.median(parsed for parsed, _ in pairs),
            "first_call": statistics.median(called for _, called in pairs),
        }
        for name, pairs in taken.items()
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(figures, indent=2) + "\n")
    for name, of in figures.items():
        print(f"{name:28} parse {of['parse']:.3f} s, then {of['first_call']:.3f} s to the first call")


if __name__ == "__main__":
    main()
