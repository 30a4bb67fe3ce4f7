"""DAGs with one extraction each, for the tests of what a batch survives."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, Param

from vod.operators import ExtractAudioOperator, TranscribeAudioOperator

VARIANTS: dict[str, dict[str, Any]] = {
    "batch": {"retries": 20},
    "batch_reported": {"retries": 1, "failed_assets": "return"},
    "batch_on_worker": {"retries": 0, "deferrable": False},
    "batch_locked": {"retries": 20, "vod_conn_id": "vod_locked"},
}

with DAG(dag_id="heard_elsewhere", schedule=None, params={"assets": Param(type="array")}):
    extract = ExtractAudioOperator(
        task_id="extract", assets="{{ params.assets | tojson }}", deferrable=True, poll_interval=2.0
    )
    TranscribeAudioOperator(
        task_id="transcribe",
        audio=extract.output,
        options={"engine": "sis", "language": "zh-CN"},
        captions="txt",
        deferrable=True,
    )

for name, options in VARIANTS.items():
    with DAG(
        dag_id=name,
        schedule=None,
        params={
            "assets": Param(type="array", items={"type": "string"}),
            "engine": Param("vod", type="string"),
            "audio_format": Param("MP3", type="string"),
            "force": Param(False, type="boolean"),
        },
    ):
        ExtractAudioOperator(
            task_id="extract",
            assets="{{ params.assets | tojson }}",
            engine="{{ params.engine }}",
            audio_format="{{ params.audio_format }}",
            force="{{ params.force }}",
            poll_interval=2.0,
            retry_delay=timedelta(seconds=1),
            outlets=[Asset("vod://audio")],
            **{"deferrable": True, **options},
        )
