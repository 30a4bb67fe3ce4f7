"""### The audio of all new videos, every night

Each run extracts the audio of the videos that were created in its data interval, a day in UTC: every video
once, also those that arrive late, in runs that catch up after a downtime, and in backfills (`airflow
backfill create`, docs/backfills.md). What another run or DAG has extracted is left out.

The audio is announced as the Airflow asset `vod://audio`, on which `transcribe_extracted_audio` is
scheduled. Once unpaused, it begins with the last complete day; with a date in `[vod] first_day`, with that
day, and catches up after a downtime.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.standard.sensors.date_time import DateTimeSensor
from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, task, task_group

from vod.library.register import REGISTER
from vod.notifications import VodNotifier
from vod.operators import ExtractAudioOperator
from vod.pipeline import forms, parts, planning, reports

FIRST_DAY = forms.first_day()

with DAG(
    dag_id="extract_new_assets",
    dag_display_name="Extract new videos, every night",
    description="The audio of the videos that were created since the last night.",
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),  # "@daily" gives runs no interval
    start_date=FIRST_DAY or datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=FIRST_DAY is not None,
    is_paused_upon_creation=True,
    max_active_runs=4,
    tags=["vod"],
    default_args={"owner": "media", "retries": 3, "retry_delay": timedelta(minutes=1)},
    dagrun_timeout=timedelta(hours=20),
    on_failure_callback=VodNotifier(),
    params={
        "engine": forms.engine(),
        "audio_format": forms.audio_format(),
        "destination": forms.destination(),
    },
    doc_md=__doc__,
) as dag:
    # VOD lists a video some time after its creation. Clear a run to find videos that were listed later still.
    settled = DateTimeSensor(
        task_id="wait_for_late_arrivals",
        target_time="{{ data_interval_end.add(minutes=15) }}",
        mode="reschedule",
        poke_interval=300,
    )

    @task(inlets=[REGISTER], show_return_value_in_logs=False)
    def plan(
        params: dict[str, Any],
        data_interval_start: Any,
        data_interval_end: Any,
        task_state_store: Any,
        asset_state_store: Any,
        ti: Any,
    ) -> list[dict[str, int]]:
        """Find the videos of the interval that no run has extracted, and split them into batches."""
        interval = (data_interval_start, data_interval_end)
        found = planning.plan_new_videos(params, dag, *interval, task_state_store, asset_state_store)
        return parts.publish_plan(ti, found)

    @task_group
    def batch(assets: Any, engine: Any, audio_format: Any, destination: Any) -> Any:
        """One batch. Map a task group, not an operator: Airflow hands on its arguments as data."""
        return ExtractAudioOperator(
            task_id="extract",
            assets=assets,
            engine=engine,
            audio_format=audio_format,
            destination=destination,
            failed_assets="return",
            deferrable=True,
            outlets=[Asset("vod://audio")],
            pre_execute=reports.only_when_cleared,
            map_index_template="{{ batch }}",
        ).output

    planned = plan()
    settled >> planned
    done = batch.expand_kwargs(planned.map(parts.read))
    failed = reports.failed(planned, done)
    again = batch.override(group_id="again").expand_kwargs(failed.map(parts.read))
    reports.report(planned, done, failed, again)
