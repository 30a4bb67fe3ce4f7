"""### The audio of a list of videos

Processes a list in a file: CSV with a header (`.csv`), JSON Lines (`.jsonl`) or one asset a line (`.txt`),
on the worker's disk or on object storage. Columns are `asset`, and optionally `date`, `language`, `format`,
`priority`.

A run processes the whole list, or a range of its dates, in batches, those of higher priority first. It can
be stopped and started again: a second run does only what is missing. What became of each asset is written
beside the list, as `<list>.results.csv`, which can be given back as a list. The audio is announced as the
Airflow asset `vod://audio`, on which `transcribe_extracted_audio` is scheduled. docs/backfills.md has more.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task, task_group

from vod.library.register import REGISTER
from vod.notifications import VodNotifier
from vod.operators import ExtractAudioOperator
from vod.pipeline import forms, manifest_runs, parts, reports

with DAG(
    dag_id="extract_asset_list",
    dag_display_name="Extract a list of videos",
    description="The audio of the videos in a file: CSV, JSON lines or plain text.",
    schedule=None,
    max_active_runs=1,  # two runs of the same list would do the same work
    tags=["vod", "backfill"],
    default_args={"owner": "media", "retries": 3, "retry_delay": timedelta(minutes=1)},
    dagrun_timeout=timedelta(days=7),
    params={
        "manifest": forms.manifest(),
        "from_date": forms.day("First date (column `date`)"),
        "to_date": forms.day("Last date (column `date`)"),
        "engine": forms.engine(),
        "audio_format": forms.audio_format(description="For lines that name none."),
        "destination": forms.destination(),
        "batch_size": forms.batch_size(),
    },
    doc_md=__doc__,
) as dag:

    @task(inlets=[REGISTER], show_return_value_in_logs=False)
    def plan(
        params: dict[str, Any], task_state_store: Any, asset_state_store: Any, ti: Any
    ) -> list[dict[str, int]]:
        """Read the list, leave out what is done, and split the rest into batches."""
        return parts.publish_plan(
            ti, manifest_runs.plan_manifest(params, dag, task_state_store, asset_state_store)
        )

    @task_group
    def batch(assets: Any, engine: Any, audio_format: Any, language: Any, destination: Any) -> Any:
        """One batch. Map a task group, not an operator: Airflow hands on its arguments as data."""
        return ExtractAudioOperator(
            task_id="extract",
            assets=assets,
            engine=engine,
            audio_format=audio_format,
            language=language,
            destination=destination,
            failed_assets="return",
            deferrable=True,
            outlets=[Asset("vod://audio")],
            pre_execute=reports.only_when_cleared,
            map_index_template="{{ batch }}",
        ).output

    planned = plan()
    done = batch.expand_kwargs(planned.map(parts.read))
    failed = reports.failed(planned, done)
    again = batch.override(group_id="again").expand_kwargs(failed.map(parts.read))
    reports.report(
        planned, done, failed, again, write=manifest_runs.write_results, on_failure_callback=VodNotifier()
    )
