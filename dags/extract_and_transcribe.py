"""### Videos to audio to text, on demand

Extracts the audio of videos, with Huawei Cloud VOD or with ffmpeg on the worker, and transcribes it.

Trigger it with asset ids of VOD, one a line; with the engine ffmpeg also with absolute paths and URLs. They
are processed in batches. A video that fails costs only itself: the others are finished, the task `report`
lists what was done, what failed and why, and clearing the failed tasks of the run does those again.
Connection, engine and destination default to those of `vod_default`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task, task_group

from vod.notifications import VodNotifier
from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
from vod.pipeline import forms, parts, planning, pools, reports

with DAG(
    dag_id="extract_and_transcribe",
    dag_display_name="Extract and transcribe videos",
    description="Audio and text of the videos in the form.",
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
        "force": forms.force("Extract again also what this or another run has extracted. VOD bills each."),
        "batch_size": forms.batch_size(),
    },
    doc_md=__doc__,
) as dag:

    @task(show_return_value_in_logs=False)
    def plan(params: dict[str, Any], task_state_store: Any, ti: Any) -> list[dict[str, int]]:
        """Check what the form asks for, and split the list into batches."""
        return parts.publish_plan(ti, planning.plan_videos(params, dag, task_state_store))

    @task_group
    def batch(
        assets: Any, engine: Any, audio_format: Any, language: Any, model: Any, destination: Any, force: Any
    ) -> Any:
        """One batch. Map a task group, not an operator: Airflow hands on its arguments as data."""
        extract = ExtractAudioOperator(
            task_id="extract",
            assets=assets,
            engine=engine,
            audio_format=audio_format,
            language=language,
            destination=destination,
            force=force,
            failed_assets="return",
            deferrable=True,
            pre_execute=reports.only_when_cleared,
            map_index_template="{{ batch }}",
        )
        return TranscribeAudioOperator(
            task_id="transcribe",
            audio=extract.output,
            model=model,
            language=language,
            destination=destination,
            failed_assets="return",
            pool=pools.SPEECH_POOL,
            deferrable=True,  # for engines that work elsewhere
            outlets=[Asset("vod://transcripts")],
            pre_execute=reports.only_when_cleared,
            map_index_template="{{ batch }}",
        ).output

    planned = plan()
    done = batch.expand_kwargs(planned.map(parts.read))
    failed = reports.failed(planned, done)
    again = batch.override(group_id="again").expand_kwargs(failed.map(parts.read))
    reports.report(planned, done, failed, again, on_failure_callback=VodNotifier())
