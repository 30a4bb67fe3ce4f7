"""Run a DAG to its end in this process, once for each configuration in a JSON file.

It does what `airflow dags test` does, several times for one start of Airflow, and writes what the tasks
returned as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airflow.models.xcom import XComModel
from airflow.utils.cli import get_bagged_dag
from airflow.utils.session import create_session


def main(dag_id: str, configurations: Path, results: Path) -> None:
    dag = get_bagged_dag(None, dag_id)
    runs = []
    for configuration in json.loads(configurations.read_text()):
        run = dag.test(run_conf=configuration)
        with create_session() as session:
            returned: dict[str, list[Any]] = {}
            value: Any
            for value in session.scalars(
                XComModel.get_many(run_id=run.run_id, dag_ids=dag_id, key="return_value")
            ):
                # Of a mapped task each instance returned a list.
                returned.setdefault(value.task_id, []).extend(XComModel.deserialize_value(value))
        runs.append({"state": str(run.state), "returned": returned})
    results.write_text(json.dumps(runs))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
