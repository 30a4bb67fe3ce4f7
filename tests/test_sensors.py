"""The sensor and VOD: what it waits for, what ends the wait, and what becomes of each audio asset."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
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
from vod import sensors
from vod.cloud import poller, refusals, session
from vod.cloud.client import VodClient
from vod.engines import audio_assets
from vod.operators import ExtractAudioOperator
from vod.sensors import AudioAssetSensor
from vod.standin import Standin
from vod.standin.faults import parse

Context = dict[str, Any]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poller, "CONFIRMATION_PAUSE", 1.0)
    monkeypatch.setattr(sensors, "STANDSTILL_PAUSE", 1.0)
    monkeypatch.setattr(audio_assets, "SECOND_LOOK_PAUSE", 0.1)
    monkeypatch.setattr(refusals, "FIRST_PAUSE", 0.5)


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


@pytest.mark.slow
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


# --- what is given -----------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_one_source_in_two_formats_gives_both(
    connection: str, client: VodClient, video: Path, context: Context, deferrable: bool
) -> None:
    source = client.upload(video)
    records = [
        {
            "asset": source,
            "audio_asset_id": client.extract_audio(source, audio_format).audio_asset_id,
            "audio_format": audio_format,
            "accepted": time.time(),
            "outcome": "submitted",
        }
        for audio_format in ("MP3", "AAC")
    ]
    found = wait(context, records, deferrable=deferrable)
    assert [(record["asset"], record["audio_format"]) for record in found] == [
        (source, "MP3"),
        (source, "AAC"),
    ]
    assert [record["audio_asset_id"] for record in found] == [record["audio_asset_id"] for record in records]


def test_lists_in_lists_are_taken_as_one_and_what_is_empty_is_dropped(
    context: Context, submitted: list[dict[str, Any]]
) -> None:
    """A mapped task returns a list of lists; one that was skipped, nothing."""
    given = [submitted[:1], [], None, ["", "  "], (submitted[1:],), submitted[0]["audio_asset_id"]]
    found = wait(context, given, failed_assets="return")
    assert [record["asset"] for record in found] == [
        submitted[0]["asset"],
        submitted[1]["asset"],
        submitted[0]["audio_asset_id"],
    ]


@pytest.mark.parametrize("given", [[[], [""]], [None], {}])
def test_nothing_but_empty_lists_is_refused(connection: str, context: Context, given: Any) -> None:
    with pytest.raises(AirflowFailException, match="No audio assets were given"):
        wait(context, given)


@pytest.mark.parametrize("deferrable", [True, False])
def test_the_id_of_a_video_is_refused_in_words(
    context: Context, client: VodClient, video: Path, submitted: list[dict[str, Any]], deferrable: bool
) -> None:
    source = client.upload(video)
    settle(client, source)
    ids = [source, submitted[0]["audio_asset_id"]]
    refused, audio = wait(context, ids, deferrable=deferrable, failed_assets="return")
    assert (refused["asset"], refused["outcome"]) == (source, "asset_not_supported")
    assert "This is a video (MP4)" in refused["message"]
    assert audio["outcome"] == "extracted"


@pytest.mark.parametrize("element", [{"asset": "x"}, {"outcome": "submitted", "asset": "x"}, 7])
def test_an_element_that_is_no_record_costs_only_itself(
    context: Context, submitted: list[dict[str, Any]], element: Any
) -> None:
    refused, audio = wait(context, [element, submitted[0]], failed_assets="return")
    assert refused["outcome"] == "invalid_input"
    assert audio["outcome"] == "extracted"


# --- patience ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_key_that_is_refused_for_a_while_is_waited_for(
    standin: Standin, context: Context, submitted: list[dict[str, Any]], deferrable: bool
) -> None:
    standin.behaviour.faults = [parse("refuse,call=info,code=APIGW.0301,count=2")]
    audio, _ = wait(context, submitted, deferrable=deferrable, failed_assets="return")
    assert audio["outcome"] == "extracted"
    assert stats(standin)["calls"]["info"]["by_status"]["401"] == 2


def test_a_key_that_has_never_worked_is_said_at_once(
    standin: Standin, context: Context, submitted: list[dict[str, Any]]
) -> None:
    standin.behaviour.faults = [parse("refuse,call=info,code=APIGW.0301")]
    with pytest.raises(AirflowFailException, match="Check access key, secret key"):
        wait(context, submitted[0]["audio_asset_id"])


def test_a_key_that_is_refused_until_the_end_is_the_reason(
    standin: Standin, context: Context, submitted: list[dict[str, Any]]
) -> None:
    standin.behaviour.faults = [parse("refuse,call=info,code=APIGW.0301")]
    audio, _ = wait(context, submitted, timeout=2, failed_assets="return")
    assert (audio["outcome"], audio["retryable"]) == ("APIGW.0301", True)


def test_while_a_key_is_refused_the_mode_reschedule_looks_rarely(
    standin: Standin, context: Context, submitted: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refusals, "FIRST_PAUSE", 60.0)
    standin.behaviour.faults = [parse("refuse,call=info,code=APIGW.0301")]
    context["ti"].get_first_reschedule_date = lambda _: None
    began = time.time()
    with pytest.raises(AirflowRescheduleException) as again:
        wait(context, submitted, deferrable=False, mode="reschedule", timeout=3600)
    assert again.value.reschedule_date.timestamp() >= began + 59
    long_ago = datetime.now(timezone.utc) - timedelta(hours=2)
    context["ti"].get_first_reschedule_date = lambda _: long_ago
    with pytest.raises(AirflowSensorTimeout):
        wait(context, submitted, deferrable=False, mode="reschedule", timeout=3600)


@pytest.mark.parametrize("deferrable", [True, False])
def test_audio_that_one_answer_calls_gone_is_waited_for(
    standin: Standin, context: Context, submitted: list[dict[str, Any]], deferrable: bool
) -> None:
    standin.behaviour.faults = [parse(f"missing,count=2,asset={submitted[0]['asset']}")]
    submitted[0]["accepted"] -= 100
    audio, _ = wait(context, submitted, deferrable=deferrable, failed_assets="return")
    assert audio["outcome"] == "extracted"


@pytest.mark.parametrize("deferrable", [True, False])
def test_audio_that_was_deleted_is_told(
    context: Context, client: VodClient, submitted: list[dict[str, Any]], deferrable: bool
) -> None:
    settle(client, submitted[0]["audio_asset_id"])
    client.delete([submitted[0]["audio_asset_id"]])
    submitted[0]["accepted"] -= 100
    audio, _ = wait(context, submitted, deferrable=deferrable, failed_assets="return")
    assert audio["outcome"] == "extraction_failed"
    assert "NO_ASSET" in audio["message"] or "DELETED" in audio["message"]


def test_a_shorter_execution_timeout_ends_the_wait_through_the_trigger(
    standin: Standin, context: Context, submitted: list[dict[str, Any]]
) -> None:
    standin.behaviour.urlless_polls = 10**6
    began = time.monotonic()
    with pytest.raises(AirflowSensorTimeout):
        wait(context, submitted, timeout=3600, execution_timeout=timedelta(seconds=1), deferrable=True)
    assert time.monotonic() - began < 20
    assert "CANCELLED" not in stats(standin)["assets_by_status"], "the extraction is not the sensor's"


def test_the_trigger_carries_only_what_is_waited_for(
    standin: Standin, context: Context, client: VodClient, submitted: list[dict[str, Any]]
) -> None:
    settle(client, submitted[0]["audio_asset_id"])
    standin.behaviour.queue_seconds = 60
    late = client.extract_audio(submitted[0]["asset"], "AAC").audio_asset_id
    sensor = AudioAssetSensor(task_id="wait", audio_assets=[*submitted, late], failed_assets="return")
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute(context)
    assert [record["audio_asset_id"] for record in deferred.value.trigger.records] == [late]
