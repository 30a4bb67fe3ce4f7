"""### The audio of a list of videos

Works off a manifest: a CSV file with a header, JSON Lines, or a plain list of assets, on the worker's disk
or on object storage. Columns are `asset`, and optionally `date`, `language`, `format`, `priority`.

A run works off the whole list, or a range of its dates, in batches, those of higher priority first. It can
be stopped and started again: a second run does only what is missing. What became of each asset is written
beside the list, as `<list>.results.csv`, which can be given back as a list. The audio is announced as the
Airflow asset `vod://audio`, on which `transcribe_extracted_audio` is scheduled. docs/backfills.md has more.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task, task_group

from vod import notifications
from vod.batch.outcomes import fail_at_once
from vod.library.catalogue import remember
from vod.operators import ExtractAudioOperator
from vod.pipeline import forms, manifest_runs, reports

with DAG(
    dag_id="extract_asset_list",
    schedule=None,
    max_active_runs=1,  # two runs of the same list would do the same work
    tags=["vod", "backfill"],
    default_args={"owner": "media", "retries": 3, "retry_delay": timedelta(minutes=1)},
    dagrun_timeout=timedelta(days=7),
    params={
        "manifest": forms.manifest(),
        "from_date": forms.day("From this date of the list"),
        "to_date": forms.day("To this date of the list"),
        "engine": forms.engine(),
        "audio_format": forms.audio_format(description="For lines that name none."),
        "destination": forms.destination(),
        "batch_size": forms.batch_size(),
    },
    doc_md=__doc__,
) as dag:

    @task(show_return_value_in_logs=False)
    def plan(params: dict[str, Any], task_state_store: Any) -> list[dict[str, Any]]:
        """Read the list, leave out what is done, and split the rest into batches."""
        with fail_at_once():
            forms.check(params, dag)
            return manifest_runs.AssetList.of(params).plan(task_state_store)

    @task_group
    def batch(assets: list[str], audio_format: str, language: str | None = None) -> Any:
        """One batch. What a mapped group is given reaches its tasks as data; ``Operator.expand_kwargs`` would
        render it as templates."""
        return ExtractAudioOperator(
            task_id="extract",
            assets=assets,
            engine="{{ params.engine | replace('default', '') }}",
            audio_format=audio_format,
            language=language,
            destination="{{ params.destination or '' }}",
            failed_assets="return",
            post_execute=remember,
            outlets=[Asset("vod://audio")],
        ).output

    @task(trigger_rule="all_done", retries=0, on_failure_callback=notifications.run_failed)
    def report(audio: Any, planned: list[dict[str, Any]], params: dict[str, Any], ti: Any) -> None:
        """Write the result manifest, say what was done, and fail if an asset did."""
        with fail_at_once():
            records, before = manifest_runs.AssetList.of(params).write_results(planned, audio)
        reports.conclude(ti, records, skipped=before)

    planned = plan()
    report(batch.expand_kwargs(planned), planned)
