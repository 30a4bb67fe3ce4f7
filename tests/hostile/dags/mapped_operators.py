"""Operators that are mapped by ``expand_kwargs`` over what another task returned, both engines."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
from vod.sensors import AudioAssetSensor

with DAG(
    "mapped_operators",
    schedule=None,
    params={"vod": Param([], type="array"), "ffmpeg": Param([], type="array"), "text": ""},
):

    @task
    def batches(params: dict[str, Any], engine: str) -> list[dict[str, Any]]:
        return [{"assets": params[engine]}]

    @task
    def audio(extracted: Any) -> list[dict[str, Any]]:
        return [{"audio": [record for batch in extracted for record in batch]}]

    @task
    def odd(params: dict[str, Any]) -> list[dict[str, Any]]:
        text = params["text"]
        return [
            {"assets": [text], "language": text, "engine": "ffmpeg"},
            {"assets": [text], "options": {"track": text}, "engine": "ffmpeg"},
            {"assets": [text], "vod_conn_id": text, "engine": "vod"},
        ]

    for engine in ("vod", "ffmpeg"):
        extract = ExtractAudioOperator.partial(
            task_id=f"extract_{engine}", engine=engine, failed_assets="return", deferrable=True
        ).expand_kwargs(batches.override(task_id=f"plan_{engine}")(engine=engine))
        TranscribeAudioOperator.partial(task_id=f"transcribe_{engine}", failed_assets="return").expand_kwargs(
            audio.override(task_id=f"audio_{engine}")(extract.output)
        )

    ExtractAudioOperator.partial(task_id="extract_odd", failed_assets="return").expand_kwargs(odd())

    submit = ExtractAudioOperator.partial(
        task_id="submit", engine="vod", wait_for_completion=False, failed_assets="return"
    ).expand_kwargs(batches.override(task_id="plan_submit")(engine="vod"))

    @task
    def submitted(batches: Any) -> list[dict[str, Any]]:
        return [{"audio_assets": batch} for batch in batches]

    AudioAssetSensor.partial(task_id="wait", failed_assets="return").expand_kwargs(submitted(submit.output))
