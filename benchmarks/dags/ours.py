"""Extraction as this project means it: a task holds a batch."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, task

from vod.operators import ExtractAudioOperator

PLAN = Path(os.environ["VOD_BENCH_PLAN"])

with DAG(dag_id="ours", schedule=None, params={"connection": "vod_default", "engine": "vod"}):

    @task
    def batches() -> list[list[str]]:
        plan = json.loads(PLAN.read_text())
        assets, size = plan["assets"], plan["batch"]
        return [assets[start : start + size] for start in range(0, len(assets), size)]

    ExtractAudioOperator.partial(
        task_id="extract",
        engine="{{ params.engine }}",
        vod_conn_id="{{ params.connection }}",
        deferrable=True,
        retries=3,
        retry_delay=timedelta(seconds=5),
    ).expand(assets=batches())
