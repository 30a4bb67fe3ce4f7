"""What the register costs a batch, and what a plan over 100,000 assets asks of it.

``python -m benchmarks.register`` runs a task in a fresh Airflow with PostgreSQL, prints the table of
docs/performance.md and writes build/bench/register.json.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import sqlalchemy

from dev import stack
from dev.airflow import Airflow, postgres, stop_postgres
from dev.processes import Processes

BUILD = stack.ROOT / "build" / "bench"

_ROWS = {
    "claim_100": "claim 100 assets",
    "claim_1000": "claim 1,000 assets",
    "submit_100": "note 100 submissions and their acceptance",
    "submit_1000": "note 1,000 submissions and their acceptance",
    "finish_100": "note that the audio of 100 is there",
    "finish_1000": "note that the audio of 1,000 is there",
    "find_100": "look up 100 assets",
    "find_1000": "look up 1,000 assets",
    "plan_new": "plan 100,000 new assets",
    "plan_done": "plan 100,000 assets of which all have their audio, without asking VOD",
    "report": "count the results of 100,000 assets for the report, in batches of 100",
}


def main() -> None:
    """Measure, print and write."""
    state = BUILD / "register"
    stop_postgres(state / "postgres")
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    with Processes() as processes, postgres(state / "postgres") as database:
        dags = Path(__file__).parent / "dags"
        airflow = Airflow(state, processes, database, "http://127.0.0.1:9", dags=dags)
        airflow.prepare()
        airflow.start()
        run = airflow.api.trigger("register_costs")
        if airflow.api.await_run("register_costs", run, 1800) != "success":
            raise SystemExit(airflow.api.log("register_costs", run, "measure"))
        took = dict(airflow.api.returned("register_costs", run, "measure"))
        took |= rows(database)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "register.json").write_text(json.dumps(took, indent=2))
    print("| what | seconds |\n| -- | --: |")
    for name, words in _ROWS.items():
        print(f"| {words} | {took[name]:.1f} |")
    print("\n| what | |\n| -- | --: |")
    print(f"| memory of the task before the plan | {took['memory_before']:.0f} MB |")
    print(f"| at most until the plan of 100,000 | {took['memory_plan']:.0f} MB |")
    print(f"| at most until the report on 100,000 | {took['memory_report']:.0f} MB |")
    print(f"| rows of 1,100 assets in the register | {took['entry_rows']:,.0f} |")
    print(f"| rows of the index of 100,000 | {took['index_rows']:,.0f}, {took['index_bytes'] / 1e6:.0f} MB |")


def rows(database: str) -> dict[str, float]:
    """What the register has in Airflow's database: entries, and the pages of its index."""
    count = "SELECT count(*), coalesce(sum(length(value::text)), 0) FROM asset_state_store WHERE key "
    engine = sqlalchemy.create_engine(database)
    with engine.connect() as connection:
        [(index_rows, index_bytes)] = connection.execute(sqlalchemy.text(count + "LIKE 'index%'"))
        [(entry_rows, _)] = connection.execute(sqlalchemy.text(count + "NOT LIKE 'index%'"))
    engine.dispose()
    return {"index_rows": index_rows, "index_bytes": float(index_bytes), "entry_rows": entry_rows}


if __name__ == "__main__":
    main()
