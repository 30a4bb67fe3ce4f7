"""### Text for all extracted audio

Starts by itself when another DAG has extracted audio (Airflow asset `vod://audio`), and transcribes what
the events name. Transcripts lie beside their audio, or where the connection says if the audio is in VOD,
and are announced as the Airflow asset `vod://transcripts`. Events that come while a run is being started
share it. Triggered by hand, it transcribes the audio that the form names.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task, task_group

from vod.library.register import REGISTER
from vod.notifications import VodNotifier
from vod.operators import TranscribeAudioOperator
from vod.pipeline import forms, parts, planning, pools, reports

AUDIO, TRANSCRIPTS = Asset("vod://audio"), Asset("vod://transcripts")

with DAG(
    dag_id="transcribe_extracted_audio",
    dag_display_name="Transcribe extracted audio",
    description="Text of the audio that the other DAGs have extracted, as soon as it is there.",
    schedule=[AUDIO],
    catchup=False,
    max_active_runs=4,
    on_failure_callback=VodNotifier(),
    tags=["vod"],
    default_args={"owner": "media", "retries": 2, "retry_delay": timedelta(seconds=30)},
    params={
        "audio": forms.audio(),
        "model": forms.model(),
        "language": forms.language(),
        "force": forms.force("Also transcribe what has a transcript."),
    },
    doc_md=__doc__,
) as dag:

    @task(inlets=[REGISTER], show_return_value_in_logs=False)
    def plan(
        params: dict[str, Any],
        triggering_asset_events: Any,
        task_state_store: Any,
        asset_state_store: Any,
        ti: Any,
    ) -> list[dict[str, int]]:
        """Collect the audio of the events and of the form, and split what has no transcript into batches."""
        events = triggering_asset_events.get(AUDIO, ())
        found = planning.plan_audio(params, dag, events, task_state_store, asset_state_store, size=20)
        return parts.publish_plan(ti, found)

    @task_group
    def batch(audio: Any, destination: Any, model: Any, language: Any) -> Any:
        """One batch. Map a task group, not an operator: Airflow hands on its arguments as data."""
        return TranscribeAudioOperator(
            task_id="transcribe",
            audio=audio,
            destination=destination,
            model=model,
            language=language,
            failed_assets="return",
            pool=pools.SPEECH_POOL,
            deferrable=True,  # for engines that work elsewhere
            execution_timeout=timedelta(hours=12),
            outlets=[TRANSCRIPTS],
            pre_execute=reports.only_when_cleared,
            map_index_template="{{ batch }}",
        ).output

    planned = plan()
    done = batch.expand_kwargs(planned.map(parts.read))
    failed = reports.failed(planned, done)
    again = batch.override(group_id="again").expand_kwargs(failed.map(parts.read))
    reports.report(planned, done, failed, again)
