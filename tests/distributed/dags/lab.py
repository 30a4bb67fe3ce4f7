"""Extraction by either engine and transcription in mapped batches, for workers on several machines."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from vod.operators import ExtractAudioOperator, TranscribeAudioOperator

with DAG(
    dag_id="lab",
    schedule=None,
    params={
        "batches": Param(type="array"),
        "engine": Param("vod", type="string"),
        "destination": Param("", type="string"),
        "connection": Param("vod_default", type="string"),
        "transcribe": Param(False, type="boolean"),
    },
    default_args={"retries": 5, "retry_delay": timedelta(seconds=1)},
):

    @task
    def plan(params: dict) -> list[list[str]]:
        return params["batches"]

    @task.short_circuit
    def is_to_be_transcribed(params: dict) -> bool:
        return params["transcribe"]

    audio = ExtractAudioOperator.partial(
        task_id="extract",
        engine="{{ params.engine }}",
        destination="{{ params.destination }}",
        vod_conn_id="{{ params.connection }}",
        deferrable=True,
        poll_interval=2.0,
    ).expand(assets=plan())
    to_do = is_to_be_transcribed()
    audio >> to_do
    texts = TranscribeAudioOperator.partial(task_id="transcribe", model="tiny.en").expand(audio=audio.output)
    to_do >> texts
