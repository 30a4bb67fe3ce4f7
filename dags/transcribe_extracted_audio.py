"""### Text for all extracted audio

Starts by itself when another DAG has extracted audio (Airflow asset `vod://audio`), and transcribes what
the events name. Transcripts lie beside their audio, or where the connection says if the audio is in VOD,
and are announced as the Airflow asset `vod://transcripts`. Events that come while a run is being started
share it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task, task_group

from vod import notifications
from vod.batch.outcomes import fail_at_once
from vod.operators import TranscribeAudioOperator
from vod.pipeline import forms, planning, reports

AUDIO, TRANSCRIPTS = Asset("vod://audio"), Asset("vod://transcripts")

with DAG(
    dag_id="transcribe_extracted_audio",
    schedule=[AUDIO],
    catchup=False,
    max_active_runs=4,
    on_failure_callback=notifications.run_failed,
    tags=["vod"],
    default_args={"owner": "media", "retries": 2, "retry_delay": timedelta(seconds=30)},
    params={
        "model": forms.model(),
        "language": forms.language(),
        "force": forms.force("Also transcribe what has a transcript."),
    },
    doc_md=__doc__,
) as dag:

    @task(show_return_value_in_logs=False)
    def plan(
        params: dict[str, Any], triggering_asset_events: Any, task_state_store: Any
    ) -> list[dict[str, Any]]:
        """Collect the audio of all events, and split what has no transcript yet into batches."""
        events = triggering_asset_events.get(AUDIO, ())
        audio = (record for event in events for record in event.extra.get("audio", ()))
        with fail_at_once():
            forms.check(params, dag)
            return planning.audio_batches(audio, task_state_store, size=20, force=params["force"])

    @task_group
    def batch(audio: list[dict[str, Any]], destination: str | None) -> Any:
        """One batch. What a mapped group is given reaches its tasks as data; ``Operator.expand_kwargs`` would
        render it as templates."""
        return TranscribeAudioOperator(
            task_id="transcribe",
            audio=audio,
            destination=destination,
            model="{{ params.model }}",
            language="{{ params.language or '' }}",
            failed_assets="return",
            execution_timeout=timedelta(hours=12),
            outlets=[TRANSCRIPTS],
        ).output

    @task(trigger_rule="all_done", retries=0)
    def report(planned: list[dict[str, Any]], transcripts: Any, ti: Any) -> None:
        """Say what was done, and fail if an asset did."""
        reports.conclude(ti, reports.collect(reports.assets_of(planned), transcripts))

    planned = plan()
    report(planned, batch.expand_kwargs(planned))
