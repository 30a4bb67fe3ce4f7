"""Extraction with what Airflow has: a task submits an asset, another polls it.

The connection sends an IAM token, for which no request need be signed: that spares it work. ``HttpSensor``
cannot defer, because VOD answers 200 also for what is not ready and a ``response_check`` runs only in a
worker; it gives its slot back between two looks. It looks as often as ours at its longest interval.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, task

PLAN = Path(os.environ["VOD_BENCH_PLAN"])
VOD = os.environ["VOD_BENCH_PROJECT"]

with DAG(dag_id="rival", schedule=None, default_args={"retries": 3, "retry_delay": timedelta(seconds=5)}):

    @task
    def bodies() -> list[str]:
        assets = json.loads(PLAN.read_text())["assets"]
        return [json.dumps({"asset_id": asset, "parameter": {"format": "MP3"}}) for asset in assets]

    def audio_asset_id(response: Any) -> str:
        return str(response.json()["audio_asset_id"])

    def ready(response: Any) -> bool:
        return response.json()["asset_info_array"][0]["status"] == "CREATED"

    submit = HttpOperator.partial(
        task_id="submit",
        http_conn_id="vod_http",
        endpoint=f"{VOD}/asset/extract_audio",
        response_filter=audio_asset_id,
    ).expand(data=bodies())
    HttpSensor.partial(
        task_id="wait",
        http_conn_id="vod_http",
        endpoint=f"{VOD}/asset/info",
        response_check=ready,
        mode="reschedule",
        poke_interval=30,
        timeout=3600,
    ).expand(request_params=submit.output.map(lambda audio: {"asset_id": audio}))
