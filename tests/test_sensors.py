"""The sensor and VOD: what it waits for, what ends the wait, and what becomes of each audio asset."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from tests.conftest import first_event, settle, stats
from vod.cloud import session
from vod.cloud.client import VodClient
from vod.operators import ExtractAudioOperator
from vod.sensors import AudioAssetSensor
from vod.standin import Standin
from vod.standin.faults import parse

Context = dict[str, Any]


@pytest.fixture
def submitted(connection: str, client: VodClient, video: Path, context: Context) -> list[dict[str, Any]]:
    assets = [client.upload(video), "f" * 32]
    extract = ExtractAudioOperator(
        task_id="extract", assets=assets, wait_for_completion=False, failed_assets="return"
    )
    return extract.execute(context)


def wait(context: Context, audio_assets: Any, **options: Any) -> list[dict[str, Any]]:
    """Run the sensor to its end, through its trigger as often as it defers."""
    arguments = {"poke_interval": 0.05, "timeout": 20, **options}
    sensor = AudioAssetSensor(task_id="wait", audio_assets=audio_assets, **arguments)
    go_on = partial(sensor.execute, context)
    while True:
        try:
            return go_on()
        except TaskDeferred as deferred:
            event = asyncio.run(first_event(deferred.trigger))
            go_on = partial(getattr(sensor, deferred.method_name), context, event=event)


@pytest.mark.parametrize("deferrable", [True, False])
def test_it_returns_audio_and_lets_failures_pass(
    standin: Standin, context: Context, submitted: list[dict[str, Any]], deferrable: bool
) -> None:
    standin.behaviour.urlless_polls = 1
    audio, failure = wait(context, submitted, deferrable=deferrable, failed_assets="return")
    assert (audio["outcome"], audio["asset"]) == ("extracted", submitted[0]["asset"])
    assert audio["uri"] == f"vod://vod_default/{submitted[0]['audio_asset_id']}"
    assert failure == submitted[1]
    assert context["batch"] == f"2 assets: {submitted[0]['asset']} …", "for map_index_template"


def test_bare_ids_will_do(context: Context, submitted: list[dict[str, Any]]) -> None:
    audio_asset_id = submitted[0]["audio_asset_id"]
    [audio] = wait(context, audio_asset_id)
    assert (audio["asset"], audio["audio_format"]) == (audio_asset_id, "MP3")


def test_a_failure_is_told_once_all_are_settled(context: Context, submitted: list[dict[str, Any]]) -> None:
    with pytest.raises(AirflowFailException, match=f"1 of 2 assets failed(.|\n)*{'f' * 32}"):
        wait(context, submitted)


def test_reschedule_mode_frees_the_slot(
    standin: Standin, context: Context, submitted: list[dict[str, Any]]
) -> None:
    standin.behaviour.urlless_polls = 10**6
    context["ti"].get_first_reschedule_date = lambda _: None
    with pytest.raises(AirflowRescheduleException):
        wait(context, submitted, deferrable=False, mode="reschedule")


@pytest.mark.parametrize("deferrable", [True, False])
def test_it_times_out(
    standin: Standin, context: Context, submitted: list[dict[str, Any]], deferrable: bool
) -> None:
    standin.behaviour.urlless_polls = 10**6
    with pytest.raises(AirflowSensorTimeout):
        wait(context, submitted, deferrable=deferrable, timeout=0.3)


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_passing_fault_does_not_end_the_wait(
    standin: Standin,
    context: Context,
    submitted: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    deferrable: bool,
) -> None:
    monkeypatch.setattr(session, "_backoff", lambda _: 0.0)
    standin.behaviour.faults = [parse("error,call=info,count=5")]  # as often as the client tries
    audio, _ = wait(context, submitted, deferrable=deferrable, failed_assets="return")
    assert audio["outcome"] == "extracted"


def test_what_is_settled_is_not_looked_at_again(
    standin: Standin, connection: str, client: VodClient, video: Path, context: Context
) -> None:
    source = client.upload(video)
    ids = [client.extract_audio(source).audio_asset_id for _ in range(11)]
    settle(client, *ids)
    before = stats(standin)["calls"]["info"]["total"]
    standin.behaviour.faults = [parse(f"urlless,asset={ids[0]},count=3")]
    assert len(wait(context, ids, deferrable=False)) == 11
    assert stats(standin)["calls"]["info"]["total"] - before == 2 + 3, "eleven ids, then three looks at one"


@pytest.mark.parametrize("given", [[], "", None])
def test_nothing_to_wait_for_is_refused(connection: str, context: Context, given: Any) -> None:
    with pytest.raises(AirflowFailException, match="No audio assets were given"):
        wait(context, given)


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_id_that_vod_calls_malformed_costs_only_itself(
    standin: Standin, context: Context, submitted: list[dict[str, Any]], deferrable: bool
) -> None:
    ids = ["x" * 300, submitted[0]["audio_asset_id"]]
    standin.behaviour.faults = [parse(f"refuse,call=info,code=VOD.10053,status=400,asset={ids[0]}")]
    malformed, audio = wait(context, ids, deferrable=deferrable, failed_assets="return")
    assert malformed["asset"] == ids[0]
    assert malformed["outcome"] == "VOD.10053"
    assert (audio["asset"], audio["outcome"]) == (ids[1], "extracted")


def test_a_task_that_is_resumed_too_early_waits_on(
    standin: Standin, context: Context, submitted: list[dict[str, Any]]
) -> None:
    standin.behaviour.urlless_polls = 10**6
    sensor = AudioAssetSensor(task_id="wait", audio_assets=submitted, failed_assets="return")
    deadline = time.time() + 20
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute_complete(context, {"records": submitted, "deadline": deadline})
    assert deferred.value.trigger.deadline == deadline
    standin.behaviour.urlless_polls = 0
    settle_event = asyncio.run(first_event(deferred.value.trigger))
    audio, failure = sensor.execute_complete(context, settle_event)
    assert audio["outcome"] == "extracted"
    assert failure == submitted[1]


def test_when_the_time_is_up_what_could_not_be_read_says_why(
    standin: Standin,
    context: Context,
    submitted: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "_backoff", lambda _: 0.0)
    standin.behaviour.faults = [parse("error,call=info")]
    sensor = AudioAssetSensor(task_id="wait", audio_assets=submitted, failed_assets="return")
    audio, _ = sensor.execute_complete(context, {"records": submitted, "deadline": time.time()})
    assert (audio["outcome"], audio["retryable"]) == ("APIGW.0201", True)


def test_a_shorter_execution_timeout_ends_the_wait_in_the_triggerer(
    standin: Standin, context: Context, submitted: list[dict[str, Any]]
) -> None:
    standin.behaviour.urlless_polls = 10**6
    began = time.time()
    sensor = AudioAssetSensor(
        task_id="wait", audio_assets=submitted, timeout=3600, execution_timeout=timedelta(seconds=60)
    )
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    assert began + 60 <= deferred.value.trigger.deadline <= time.time() + 60


def test_a_timeout_may_skip_instead_of_failing(
    standin: Standin, context: Context, submitted: list[dict[str, Any]]
) -> None:
    standin.behaviour.urlless_polls = 10**6
    sensor = AudioAssetSensor(task_id="wait", audio_assets=submitted, soft_fail=True)
    event = {"event": {"records": submitted, "deadline": time.time()}}
    with pytest.raises(AirflowSkipException):
        sensor.resume_execution("execute_complete", event, context)


def test_waiting_in_the_triggerer_is_airflows_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own configuration says so: ``[operators] default_deferrable``."""
    assert AudioAssetSensor(task_id="wait", audio_assets=["a"]).deferrable is True
    script = (
        "from vod.sensors import AudioAssetSensor; from vod.operators import ExtractAudioOperator; "
        "print(AudioAssetSensor(task_id='w', audio_assets=['a']).deferrable, "
        "ExtractAudioOperator(task_id='e', assets=['a']).deferrable)"
    )
    for setting in ("True", "False"):
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", setting)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == f"{setting} {setting}"
