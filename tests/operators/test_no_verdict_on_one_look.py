"""What VOD says once is not believed where it costs money or is final, and a refused key is waited out."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from tests.conftest import DictStore, connection_json, context_of, first_event, stats
from tests.operators.conftest import Context, extract
from vod.batch.outcomes import AssetsFailedError
from vod.cloud import session
from vod.cloud.client import VodClient
from vod.engines import audio_assets
from vod.operators import ExtractAudioOperator
from vod.standin import Standin
from vod.standin.faults import parse

KEY_REFUSED = "refuse,code=APIGW.0301"


def aged(store: DictStore) -> DictStore:
    """The store as it is long after the acceptances: an audio asset that is not seen counts as gone."""
    for name, page in store.values.items():
        for entry in page.values() if name.startswith("vod_ledger") else ():
            entry["accepted"] -= 100
    return store


def deferred_by(go_on: Any, *arguments: Any) -> Any:
    """The trigger to which a step of the operator defers."""
    with pytest.raises(TaskDeferred) as deferred:
        go_on(*arguments)
    return deferred.value.trigger


# --- gone ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", ["missing", "no_asset", "spelling,shows=UNCREATED", "spelling,shows=DELETED"]
)
def test_audio_that_one_answer_calls_gone_is_not_extracted_again(
    standin: Standin, connection: str, uploaded: list[str], fault: str
) -> None:
    store = DictStore()
    first = extract(context_of(store), uploaded)
    standin.behaviour.faults = [parse(f"{fault},count=1,asset={first[1]['audio_asset_id']}")]
    assert extract(context_of(aged(store)), uploaded) == first
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


def test_audio_that_is_gone_for_a_moment_while_the_task_waits_is_not_extracted_again(
    standin: Standin, connection: str, context: Context, uploaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_assets, "VISIBILITY_GRACE", 0.0)
    monkeypatch.setattr("vod.triggers.VISIBILITY_GRACE", 0.0)
    standin.behaviour.faults = [parse(f"missing,count=3,asset={uploaded[1]}")]
    records = extract(context, uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


def test_audio_that_was_deleted_is_found_missing_and_extracted_again(
    standin: Standin, connection: str, client: VodClient, uploaded: list[str]
) -> None:
    store = DictStore()
    first = extract(context_of(store), uploaded)
    client.delete([first[1]["audio_asset_id"]])
    again = extract(context_of(aged(store)), uploaded)
    assert [record["outcome"] for record in again] == ["extracted"] * 3
    assert stats(standin)["submissions"] == {**dict.fromkeys(uploaded, 1), uploaded[1]: 2}


def test_audio_that_is_deleted_while_the_task_waits_is_told_after_a_second_look(
    standin: Standin, connection: str, context: Context, client: VodClient, uploaded: list[str]
) -> None:
    standin.behaviour.queue_seconds = 60
    operator = ExtractAudioOperator(
        task_id="extract", assets=uploaded[0], poll_interval=0.05, failed_assets="return"
    )
    trigger = deferred_by(operator.execute, context)
    trigger.records[0]["accepted"] -= 100
    standin.behaviour.faults = [parse("spelling,shows=DELETED")]
    began = time.monotonic()
    event = asyncio.run(first_event(trigger))
    assert time.monotonic() - began >= 1.0, "not at first sight"
    postponed = deferred_by(operator.execute_complete, context, event)
    assert postponed.records[0]["outcome"] == "postponed", "for the second extraction that it is given"


def test_a_source_that_one_answer_leaves_out_is_extracted(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [parse(f"spelling,shows=NO_ASSET,count=1,asset={uploaded[1]}")]
    records = extract(context, uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3


def test_an_id_that_is_called_malformed_once_is_extracted(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [
        parse(f"refuse,call=info,code=VOD.10053,status=400,count=1,asset={uploaded[0]}")
    ]
    [record] = extract(context, uploaded[0])
    assert record["outcome"] == "extracted"


# --- a credential that VOD refuses ------------------------------------------------------------------


def test_a_key_that_is_refused_for_a_while_is_waited_for(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, poll_interval=0.05)
    trigger = deferred_by(operator.execute, context)
    calls = stats(standin)["calls"]["info"]["total"]
    standin.behaviour.faults = [parse(f"{KEY_REFUSED},count=2")]
    records = operator.execute_complete(context, asyncio.run(first_event(trigger)))
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["calls"]["info"]["by_status"]["401"] == 2
    assert stats(standin)["calls"]["info"]["total"] - calls <= 6


def test_a_task_whose_key_is_refused_when_it_resumes_waits_on(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, poll_interval=0.05)
    event = asyncio.run(first_event(deferred_by(operator.execute, context)))
    standin.behaviour.faults = [parse(f"{KEY_REFUSED},count=1")]
    resumed = time.time()
    trigger = deferred_by(operator.execute_complete, context, event)
    assert len(trigger.records) == 3
    assert trigger.not_before >= resumed + 1.0, "the triggerer may be accepted where the worker is not"
    records = operator.execute_complete(context, asyncio.run(first_event(trigger)))
    assert [record["outcome"] for record in records] == ["extracted"] * 3


@pytest.mark.quick(1)
@pytest.mark.parametrize("code", ["APIGW.0301", "VOD.10054", "VOD.10111"])
def test_what_is_refused_until_the_deadline_fails_with_that_reason_and_may_be_tried_again(
    standin: Standin, connection: str, context: Context, uploaded: list[str], code: str
) -> None:
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, poll_interval=0.05, timeout=2)
    trigger = deferred_by(operator.execute, context)
    standin.behaviour.faults = [parse(f"refuse,code={code}")]
    event = asyncio.run(first_event(trigger))
    assert time.time() >= trigger.deadline
    with pytest.raises(AssetsFailedError, match=code) as caught:
        operator.execute_complete(context, event)
    assert caught.value.retryable
    standin.behaviour.faults = []
    assert [record["outcome"] for record in extract(context, uploaded)] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


def test_a_retry_waits_for_a_key_that_has_worked(
    standin: Standin, connection: str, uploaded: list[str]
) -> None:
    store = DictStore()
    extract(context_of(store, max_tries=1), uploaded[:2], wait_for_completion=False)
    standin.behaviour.faults = [parse(f"{KEY_REFUSED},count=1")]
    records = extract(context_of(store, try_number=2, max_tries=1), uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


def test_a_key_that_is_refused_while_the_task_submits_postpones_the_rest(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [parse("refuse,call=extract_audio,code=APIGW.0301,count=1")]
    records = extract(context, uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["calls"]["extract_audio"]["by_status"] == {"202": 3, "401": 1}


def test_a_permission_that_was_never_there_is_said_at_once(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [parse("refuse,call=extract_audio,code=VOD.10111")]
    with pytest.raises(AirflowFailException, match="createExtractAudioTask"):
        extract(context, uploaded)


def test_a_key_that_is_replaced_while_the_task_waits_is_taken_up(
    standin: Standin, context: Context, connection: str, uploaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, poll_interval=0.05)
    trigger = deferred_by(operator.execute, context)
    wrong = json.loads(connection_json(standin)) | {"password": "the-old-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", json.dumps(wrong))

    async def rotate() -> dict[str, Any]:
        event = asyncio.ensure_future(first_event(trigger))
        await asyncio.sleep(0.2)
        while not stats(standin)["calls"]["info"]["by_status"].get("401"):  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.05)
        monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection_json(standin))
        return await event

    records = operator.execute_complete(context, asyncio.run(rotate()))
    assert [record["outcome"] for record in records] == ["extracted"] * 3


def test_a_service_that_cannot_be_reached_when_the_task_resumes_postpones(
    standin: Standin, connection: str, context: Context, uploaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_MAX_TRIES", 1)
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, poll_interval=0.05)
    event = asyncio.run(first_event(deferred_by(operator.execute, context)))
    standin.behaviour.faults = [parse("drop,call=info,count=2")]
    trigger = deferred_by(operator.execute_complete, context, event)
    records = operator.execute_complete(context, asyncio.run(first_event(trigger)))
    assert [record["outcome"] for record in records] == ["extracted"] * 3


# --- what the trigger carries -----------------------------------------------------------------------


def test_the_trigger_carries_what_is_open_and_the_task_returns_all_in_order(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    done = extract(context, uploaded[::2])
    assets = [uploaded[0], "f" * 32, uploaded[1], uploaded[2]]
    operator = ExtractAudioOperator(
        task_id="extract", assets=assets, poll_interval=0.05, failed_assets="return"
    )
    trigger = deferred_by(operator.execute, context)
    assert [record["asset"] for record in trigger.records] == [uploaded[1]]
    records = operator.execute_complete(context, asyncio.run(first_event(trigger)))
    assert [record["asset"] for record in records] == assets
    assert [record["outcome"] for record in records] == [
        "extracted",
        "asset_not_found",
        "extracted",
        "extracted",
    ]
    assert [records[0], records[3]] == done


def test_a_store_that_is_emptied_while_the_task_waits_loses_no_asset(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    extract(context, uploaded[:2])
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, poll_interval=0.05)
    event = asyncio.run(first_event(deferred_by(operator.execute, context)))
    store = context["task_state_store"].values
    for name in [name for name in store if name.startswith("vod_settled")]:
        del store[name]
    records = operator.execute_complete(context, event)
    assert [(record["asset"], record["outcome"]) for record in records] == [
        (asset, "extracted") for asset in uploaded
    ]
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)
