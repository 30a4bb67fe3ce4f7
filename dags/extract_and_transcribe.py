"""### Videos to audio to text, on demand

Extracts the audio of videos, with Huawei Cloud VOD or with ffmpeg on the worker, and transcribes it.

Trigger it with asset ids of VOD, one a line; with the engine ffmpeg also with absolute paths and URLs. Up
to 10,000 are worked off in batches. A video that fails costs only itself: the others are finished, and the
task `report` names in a table what was done and what failed and why. Connection, engine and destination
default to those of `vod_default`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task, task_group

from vod import notifications
from vod.batch.outcomes import fail_at_once
from vod.library.catalogue import remember
from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
from vod.pipeline import forms, planning, reports

with DAG(
    dag_id="extract_and_transcribe",
    schedule=None,
    tags=["vod"],
    default_args={"owner": "media", "retries": 2, "retry_delay": timedelta(seconds=30)},
    dagrun_timeout=timedelta(days=7),
    params={
        "assets": forms.assets(),
        "engine": forms.engine(),
        "audio_format": forms.audio_format(),
        "language": forms.language(),
        "model": forms.model(),
        "destination": forms.destination(),
        "force": forms.force("Extract again what this run has finished, when it is cleared."),
        "batch_size": forms.batch_size(),
    },
    doc_md=__doc__,
) as dag:

    @task(show_return_value_in_logs=False)
    def plan(params: dict[str, Any], task_state_store: Any) -> list[dict[str, Any]]:
        """Split the list into batches."""
        with fail_at_once():
            forms.check(params, dag)
            assets = planning.cleaned(params["assets"], most=10_000)
            planning.check_sources(assets, params["engine"].replace("default", ""))
            return planning.batches(assets, task_state_store, params["batch_size"])

    @task_group
    def batch(assets: list[str]) -> Any:
        """One batch: extracted, then transcribed, whatever becomes of the others."""
        extract = ExtractAudioOperator(
            task_id="extract",
            assets=assets,
            engine="{{ params.engine | replace('default', '') }}",
            audio_format="{{ params.audio_format }}",
            language="{{ params.language or '' }}",
            destination="{{ params.destination or '' }}",
            force="{{ params.force }}",
            failed_assets="return",
            post_execute=remember,
        )
        return TranscribeAudioOperator(
            task_id="transcribe",
            audio=extract.output,
            model="{{ params.model }}",
            language="{{ params.language or '' }}",
            destination="{{ params.destination or '' }}",
            failed_assets="return",
            outlets=[Asset("vod://transcripts")],
        ).output

    @task(trigger_rule="all_done", retries=0, on_failure_callback=notifications.run_failed)
    def report(planned: list[dict[str, Any]], transcripts: Any, ti: Any) -> None:
        """Say what was done, and fail if an asset did."""
        reports.conclude(ti, reports.collect(reports.assets_of(planned), transcripts))

    planned = plan()
    report(planned, batch.expand_kwargs(planned))
