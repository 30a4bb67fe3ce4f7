"""### The audio of all new videos, every night

Each run extracts the audio of the videos that were created in its data interval, a day in UTC: every video
once, also those that arrive late, in runs that catch up after a downtime, and in backfills (`airflow
backfill create`, docs/backfills.md). What another run or DAG has extracted is left out.

The audio is announced as the Airflow asset `vod://audio`, on which `transcribe_extracted_audio` is
scheduled. Set `FIRST_DAY` to the day from which this DAG shall run by itself, then unpause it.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from airflow.providers.standard.sensors.date_time import DateTimeSensor
from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, task, task_group

from vod import notifications
from vod.batch.outcomes import fail_at_once
from vod.library.catalogue import Catalogue, remember
from vod.operators import ExtractAudioOperator
from vod.pipeline import forms, planning, reports

FIRST_DAY = datetime(2026, 11, 1, tzinfo=timezone.utc)

with DAG(
    dag_id="extract_new_assets",
    # Not "@daily": that gives runs without an interval in Airflow 3.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=FIRST_DAY,
    catchup=True,
    is_paused_upon_creation=True,
    max_active_runs=4,
    tags=["vod"],
    default_args={"owner": "media", "retries": 3, "retry_delay": timedelta(minutes=1)},
    dagrun_timeout=timedelta(hours=20),
    on_failure_callback=notifications.run_failed,
    params={
        "engine": forms.engine(),
        "audio_format": forms.audio_format(),
        "destination": forms.destination(),
    },
    doc_md=__doc__,
) as dag:
    # VOD lists a video some time after its creation. What comes later still is found when the run is cleared.
    settled = DateTimeSensor(
        task_id="wait_for_late_arrivals",
        target_time="{{ data_interval_end.add(minutes=15) }}",
        mode="reschedule",
        poke_interval=300,
    )

    @task(show_return_value_in_logs=False)
    def plan(
        params: dict[str, Any], data_interval_start: Any, data_interval_end: Any, task_state_store: Any
    ) -> list[dict[str, Any]]:
        """Find the videos of the interval that nobody has extracted, and split them into batches."""
        with fail_at_once():
            forms.check(params, dag)
            videos = planning.new_videos(data_interval_start, data_interval_end)
            done = Catalogue.of(params["destination"]).find(
                (video, params["audio_format"]) for video in videos
            )
            missing = [video for video in videos if video not in done]
            return planning.batches(missing, task_state_store, listed=len(videos))

    @task_group
    def batch(assets: list[str]) -> Any:
        """One batch. What a mapped group is given reaches its tasks as data; ``Operator.expand_kwargs`` would
        render it as templates."""
        return ExtractAudioOperator(
            task_id="extract",
            assets=assets,
            engine="{{ params.engine | replace('default', '') }}",
            audio_format="{{ params.audio_format }}",
            destination="{{ params.destination or '' }}",
            failed_assets="return",
            post_execute=remember,
            outlets=[Asset("vod://audio")],
        ).output

    @task(trigger_rule="all_done", retries=0)
    def report(planned: list[dict[str, Any]], audio: Any, ti: Any) -> None:
        """Say what was done, and fail if an asset did."""
        reports.conclude(ti, reports.collect(reports.assets_of(planned), audio))

    planned = plan()
    settled >> planned
    report(planned, batch.expand_kwargs(planned))
