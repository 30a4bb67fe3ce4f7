"""How long Airflow takes to parse each sample DAG, against an empty DAG that imports only ``airflow.sdk``.

Each measurement is the CPU time of a fresh interpreter that runs one file, imports and all; the files take
turns, so that a busy machine hits all alike. Writes ``build/bench/parse_time.json``; fails when a file takes
more than :data:`LIMIT` times as long as the empty one.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "build" / "bench" / "parse_time.json"
ROUNDS = 9
LIMIT = 1.5

EMPTY = """
from airflow.sdk import DAG

with DAG(dag_id="empty", schedule=None):
    pass
"""
TIMED = """
import runpy, sys, time
started = time.process_time()
runpy.run_path(sys.argv[1])
print(time.process_time() - started)
"""


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="vod-parse-") as home:
        empty = Path(home, "empty.py")
        empty.write_text(EMPTY)
        files = [empty, *sorted((ROOT / "dags").glob("*.py"))]
        taken: dict[str, list[float]] = {file.stem: [] for file in files}
        for turn in range(ROUNDS + 1):
            for file in files:
                seconds = parse(file, home)
                if turn:  # the first round fills the disk's cache
                    taken[file.stem].append(seconds)
    medians = {name: round(statistics.median(seconds), 4) for name, seconds in taken.items()}
    report = {
        name: {"seconds": seconds, "times_empty": round(seconds / medians["empty"], 2)}
        for name, seconds in medians.items()
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    for name, figures in report.items():
        print(f"{name:28} {figures['seconds']:.3f} s  {figures['times_empty']:.2f}")
    return int(max(figures["times_empty"] for figures in report.values()) > LIMIT)


def parse(file: Path, home: str) -> float:
    environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    command = [sys.executable, "-c", TIMED, str(file)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
