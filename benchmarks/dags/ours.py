"""Extraction as this project means it: a task holds a batch.

The stand-in's quota of submissions is scaled up for the benchmarks, and here is where the client learns it:
each task executes this file. The quota of reads stays that of the contract.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, task

from vod.cloud import budget
from vod.operators import ExtractAudioOperator

PLAN = Path(os.environ["VOD_BENCH_PLAN"])
if PLAN.exists():
    budget.QUOTAS["extract"] = json.loads(PLAN.read_text())["submissions_per_minute"]

with DAG(dag_id="ours", schedule=None, params={"connection": "vod_default"}):

    @task
    def batches() -> list[list[str]]:
        plan = json.loads(PLAN.read_text())
        assets, size = plan["assets"], plan["batch"]
        return [assets[start : start + size] for start in range(0, len(assets), size)]

    ExtractAudioOperator.partial(
        task_id="extract",
        engine="vod",
        vod_conn_id="{{ params.connection }}",
        retries=3,
        retry_delay=timedelta(seconds=5),
    ).expand(assets=batches())
