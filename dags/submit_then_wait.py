"""### Submit now, wait elsewhere

Submits extractions to Huawei Cloud VOD in one task and waits for their audio in another, with
`AudioAssetSensor`: for pipelines in which something else happens in between, or that wait somewhere else.

Trigger it with asset ids of VOD, one a line. The audio stays in VOD; the report says where.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task, task_group

from vod.notifications import VodNotifier
from vod.operators import ExtractAudioOperator
from vod.pipeline import forms, parts, planning, reports
from vod.sensors import AudioAssetSensor

with DAG(
    dag_id="submit_then_wait",
    dag_display_name="Submit, then wait",
    description="The extraction in one task, the wait in a sensor: a sample of both.",
    schedule=None,
    tags=["vod"],
    default_args={"owner": "media", "retries": 2, "retry_delay": timedelta(seconds=30)},
    dagrun_timeout=timedelta(days=1),
    params={
        "assets": forms.assets(),
        "audio_format": forms.audio_format(),
        "batch_size": forms.batch_size(),
    },
    doc_md=__doc__,
) as dag:

    @task(show_return_value_in_logs=False)
    def plan(params: dict[str, Any], task_state_store: Any, ti: Any) -> list[dict[str, int]]:
        """Check what the form asks for, and split the list into batches."""
        return parts.publish_plan(ti, planning.plan_videos(params, dag, task_state_store, engine="vod"))

    @task_group
    def batch(assets: Any, audio_format: Any) -> Any:
        """One batch. Map a task group, not an operator: Airflow hands on its arguments as data."""
        submit = ExtractAudioOperator(
            task_id="submit",
            assets=assets,
            engine="vod",
            audio_format=audio_format,
            wait_for_completion=False,
            failed_assets="return",
            pre_execute=reports.only_when_cleared,
            map_index_template="{{ batch }}",
        )
        return AudioAssetSensor(
            task_id="wait",
            audio_assets=submit.output,
            deferrable=True,
            timeout=6 * 3600,
            failed_assets="return",
            pre_execute=reports.only_when_cleared,
            map_index_template="{{ batch }}",
        ).output

    planned = plan()
    done = batch.expand_kwargs(planned.map(parts.read))
    failed = reports.failed(planned, done)
    again = batch.override(group_id="again").expand_kwargs(failed.map(parts.read))
    reports.report(planned, done, failed, again, on_failure_callback=VodNotifier())
