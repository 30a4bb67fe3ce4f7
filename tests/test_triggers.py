"""What the trigger waits for, and what it hands to the task that it resumes."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from airflow.jobs.triggerer_job_runner import TriggerRunner, messages
from airflow.sdk._shared.module_loading import import_string
from airflow.sdk.execution_time.comms import _RequestFrame
from airflow.triggers.base import BaseTrigger
from cryptography.fernet import Fernet

from tests.conftest import settle, stats
from vod import triggers
from vod.cloud.client import VodClient
from vod.engines import ClaimedElsewhereError
from vod.records import AssetFailure, PostponedExtraction, SubmittedExtraction
from vod.standin import Standin
from vod.triggers import AudioAssetTrigger, SpeechOrdersTrigger

FAILED = AssetFailure(asset="bad", outcome="VOD.10062", message="m")


def submit(client: VodClient, video: Path) -> SubmittedExtraction:
    source = client.upload(video)
    audio = client.extract_audio(source, "MP3").audio_asset_id
    return SubmittedExtraction(asset=source, audio_asset_id=audio, audio_format="MP3", accepted=time.time())


def trigger_of(*records: Any, **options: Any) -> AudioAssetTrigger:
    arguments = {"deadline": time.time() + 20, "poll_interval": 0.05, **options}
    return AudioAssetTrigger("vod_default", [record.to_json() for record in records], **arguments)


async def event_of(trigger: BaseTrigger) -> dict[str, Any]:
    [event] = [event async for event in trigger.run()]
    return event.payload


def test_it_survives_a_restart_of_the_triggerer_and_carries_no_secret() -> None:
    trigger = trigger_of(FAILED, deadline=1234.5)
    path, arguments = trigger.serialize()
    again = import_string(path)(**arguments)
    assert type(again) is AudioAssetTrigger
    assert again.serialize() == (path, arguments)
    assert "secret" not in str(arguments)


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["audio", "orders"])
async def test_a_task_is_not_resumed_before_the_scheduler_knows_that_it_was_deferred(
    what: str, connection: str, client: VodClient, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "SHORTEST_WAIT", 0.5)
    until = time.time()  # everything is over at once
    trigger: Any = (
        trigger_of(submit(client, video), deadline=until)
        if what == "audio"
        else SpeechOrdersTrigger(connection, [], until)
    )
    for trigger_id, shortest in ((None, 0.0), (1, 0.5)):
        trigger.trigger_id = trigger_id
        began = time.monotonic()
        await event_of(trigger)
        assert time.monotonic() - began >= shortest


@pytest.mark.parametrize("kind", ["submitted", "postponed"])
def test_a_large_batch_fits_where_mysql_keeps_triggers(kind: str) -> None:
    """In a column of 65,535 bytes, encrypted; what is open of 500 assets."""

    def record(number: int) -> SubmittedExtraction | PostponedExtraction:
        asset, at = uuid4().hex, time.time() + number / 7
        if kind == "submitted":
            return SubmittedExtraction(
                asset=asset, audio_asset_id=uuid4().hex, audio_format="MP3", accepted=at
            )
        failure = AssetFailure.from_error(asset, ClaimedElsewhereError("dag/run/task/12")).to_json()
        key = f"audio_{uuid4().hex}"
        return PostponedExtraction(
            asset=asset, again=at, tries=1, watch=False, failure=failure, key=key, holder="dag/run/task/12"
        )

    trigger = trigger_of(*map(record, range(500)))
    kept = Fernet(Fernet.generate_key()).encrypt(json.dumps(trigger.serialize()[1]).encode())
    assert 10_000 < len(kept) < 65_535
    assert AudioAssetTrigger(**trigger.serialize()[1]).records == trigger.records


@pytest.mark.anyio
async def test_it_hands_the_records_back_once_all_are_settled(
    standin: Standin, connection: str, client: VodClient, video: Path
) -> None:
    standin.behaviour.no_asset_polls = 2
    extraction = submit(client, video)
    deadline = time.time() + 20
    assert await event_of(trigger_of(FAILED, extraction, deadline=deadline)) == {
        "records": [FAILED.to_json(), extraction.to_json()],
        "deadline": deadline,
    }
    assert client.asset_info([extraction.audio_asset_id])[extraction.audio_asset_id].status == "CREATED"


@pytest.mark.anyio
async def test_the_triggerer_logs_its_event_in_short_and_sends_all_of_it() -> None:
    deadline = time.time()
    postponed = [
        PostponedExtraction(
            asset=f"asset {number}", again=deadline, tries=1, watch=False, failure=FAILED.to_json()
        )
        for number in range(20)
    ]
    logged: list[Any] = []

    class Log:
        info = warning = staticmethod(lambda *_, **__: None)

        @staticmethod
        async def ainfo(*_: Any, **more: Any) -> None:
            if "result" in more:
                logged.append(more["result"])

    runner = TriggerRunner()
    runner.log = Log()  # type: ignore[assignment]
    runner.triggers[1] = {"task": None, "is_watcher": False, "name": "waits", "events": 0}  # type: ignore[typeddict-item]
    await runner.run_trigger(1, trigger_of(*postponed, deadline=deadline))
    assert [f"{event!r} {event}" for event in logged] == ["<audio of 20 assets> <audio of 20 assets>"]

    frame = _RequestFrame(id=1, body=runner.process_trigger_events([]).model_dump()).as_bytes()
    _, body, *_ = msgspec.msgpack.decode(frame[4:])
    [entry] = messages.TriggerStateChanges.model_validate(body).events or []
    payload = {"records": [record.to_json() for record in postponed], "deadline": deadline}
    assert entry.event.payload == payload


@pytest.mark.anyio
async def test_after_a_while_a_quarter_of_the_audio_is_worth_collecting(
    standin: Standin, connection: str, client: VodClient, video: Path
) -> None:
    ready = submit(client, video)
    settle(client, ready.audio_asset_id)
    standin.behaviour.queue_seconds = 60  # also for what is in the queue by now
    slow = [submit(client, video) for _ in range(3)]
    started = time.monotonic()
    event = await event_of(trigger_of(ready, *slow, collect_after=0.2))
    assert time.monotonic() - started < 15, "long before the deadline"
    assert len(event["records"]) == 4
    assert client.asset_info([ready.audio_asset_id])[ready.audio_asset_id].status == "CREATED"


@pytest.mark.anyio
async def test_its_first_look_is_an_interval_after_the_last_acceptance(
    standin: Standin, connection: str, client: VodClient, video: Path
) -> None:
    submitted = submit(client, video)
    settle(client, submitted.audio_asset_id)  # on a busy machine it might take longer than the interval
    extraction, before = replace(submitted, accepted=time.time()), stats(standin)["calls"]["info"]["total"]
    await event_of(trigger_of(extraction, poll_interval=1.0))
    assert time.time() >= extraction.accepted + 1.0
    assert stats(standin)["calls"]["info"]["total"] == before + 1


@pytest.mark.anyio
async def test_less_than_that_is_waited_for(
    standin: Standin, connection: str, client: VodClient, video: Path
) -> None:
    standin.behaviour.queue_seconds = 60
    deadline = time.time() + 1.0
    await event_of(trigger_of(submit(client, video), collect_after=0.1, deadline=deadline))
    assert time.time() >= deadline


@pytest.mark.anyio
async def test_its_deadline_is_absolute(
    standin: Standin, connection: str, client: VodClient, video: Path
) -> None:
    standin.behaviour.queue_seconds = 60
    started = time.monotonic()
    await event_of(trigger_of(submit(client, video), deadline=time.time() + 0.3))
    assert time.monotonic() - started < 20


@pytest.mark.anyio
async def test_a_lost_connection_ends_the_wait_for_the_task_to_tell(client: VodClient, video: Path) -> None:
    assert len((await event_of(trigger_of(submit(client, video))))["records"]) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(("cancel_on_kill", "status"), [(True, "CANCELLED"), (False, "WAITING_TRANSCODE")])
async def test_a_person_who_ends_the_task_cancels_what_is_queued(
    standin: Standin, connection: str, client: VodClient, video: Path, cancel_on_kill: bool, status: str
) -> None:
    standin.behaviour.queue_seconds = 60
    await trigger_of(FAILED, submit(client, video), cancel_on_kill=cancel_on_kill).on_kill()
    assert stats(standin)["assets_by_status"][status] == 1


@pytest.mark.anyio
async def test_a_restart_of_the_triggerer_cancels_nothing(
    standin: Standin, connection: str, client: VodClient, video: Path
) -> None:
    standin.behaviour.queue_seconds = 60
    await trigger_of(submit(client, video)).cleanup()
    assert "CANCELLED" not in stats(standin)["assets_by_status"]
