"""Nothing is submitted twice and nothing is lost, whatever crashes."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from tests.conftest import DictStore, auth_of, context_of, first_event, stats
from tests.operators.conftest import Context, CrashingStore, Killed, extract
from vod.cloud import session
from vod.cloud.client import VodClient
from vod.engines import audio_assets
from vod.locations import local_path
from vod.operators import ExtractAudioOperator
from vod.standin import Standin
from vod.standin.faults import parse


def test_a_second_try_submits_nothing_again(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    first = extract(context, uploaded)
    assert extract(context, [*uploaded]) == first
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


def test_audio_that_was_deleted_meanwhile_is_extracted_again(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    [first] = extract(context, uploaded[0])
    httpx.delete(
        f"{standin.url}/v1.0/{standin.settings.project_id}/asset",
        params={"asset_id": first["audio_asset_id"]},
        headers={"Content-Type": "application/json"},
        auth=auth_of(standin),
    ).raise_for_status()
    for name, page in context["task_state_store"].values.items():
        for entry in page.values() if name.startswith("vod_ledger") else ():
            entry["accepted"] -= 3600  # long ago: an unknown audio asset is no longer just not visible yet
    [second] = extract(context, uploaded[0])
    assert second["audio_asset_id"] != first["audio_asset_id"]


@pytest.mark.quick(3)
@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after it"])
@pytest.mark.parametrize("at", range(1, 7))
def test_a_worker_killed_at_any_write_submits_each_source_once(
    standin: Standin, connection: str, uploaded: list[str], at: int, after: bool
) -> None:
    store = CrashingStore(at, after=after)
    with pytest.raises(Killed):
        extract(context_of(store), uploaded)
    records = extract(context_of(store), uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


def test_two_candidates_for_a_lost_answer_are_no_guess(
    standin: Standin, connection: str, client: VodClient, uploaded: list[str]
) -> None:
    store = CrashingStore(1, after=True)  # the intent is written, the submission was not sent
    with pytest.raises(Killed):
        extract(context_of(store), uploaded[0])
    candidates = [client.extract_audio(uploaded[0], "MP3").audio_asset_id for _ in range(2)]
    with pytest.raises(
        AirflowFailException, match="it cannot be told which audio asset is its result: several may be it"
    ) as caught:
        extract(context_of(store), uploaded[0])
    assert all(candidate in str(caught.value) for candidate in candidates)
    assert stats(standin)["submissions"] == {uploaded[0]: 2}


@pytest.mark.quick(1)
@pytest.mark.parametrize("fault", ["drop", "error,status=504", "page,status=502"])
def test_an_extraction_whose_answer_was_lost_is_found_and_adopted(
    standin: Standin, connection: str, context: Context, uploaded: list[str], fault: str
) -> None:
    standin.behaviour.faults = [parse(f"{fault},call=extract_audio,accepted=true")]
    standin.behaviour.running_seconds = 0.5
    records = extract(context, uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


def test_sources_of_one_title_are_not_mixed_up(
    standin: Standin, connection: str, context: Context, client: VodClient, video: Path
) -> None:
    twins = [client.upload(video, title="twin") for _ in range(2)]
    standin.behaviour.faults = [parse("drop,call=extract_audio,accepted=true")]
    records = extract(context, twins, failed_assets="return")
    assert [record["outcome"] for record in records] == ["ambiguous_extraction"] * 2
    assert stats(standin)["submissions"] == dict.fromkeys(twins, 1)


def test_a_submission_that_did_not_arrive_is_sent_again(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [parse("drop,call=extract_audio,count=1")]
    assert {record["outcome"] for record in extract(context, uploaded)} == {"extracted"}
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


@pytest.mark.slow
def test_once_vod_is_out_of_order_the_rest_of_the_batch_is_left_for_later(
    standin: Standin, connection: str, context: Context, client: VodClient, video: Path
) -> None:
    many = [client.upload(video, title=f"title {number}") for number in range(6)]
    standin.behaviour.faults = [parse("error,call=extract_audio,count=3")]
    assert {record["outcome"] for record in extract(context, many)} == {"extracted"}
    assert stats(standin)["submissions"] == dict.fromkeys(many, 1)
    assert stats(standin)["calls"]["extract_audio"]["total"] == 9, "three failed, then six"


@pytest.mark.slow
def test_force_extracts_again_once_for_each_attempt(
    standin: Standin, connection: str, uploaded: list[str]
) -> None:
    store = DictStore()
    first = extract(context_of(store), uploaded)
    again = extract(context_of(store, try_number=2, max_tries=1), uploaded, force="true")
    assert {record["audio_asset_id"] for record in again}.isdisjoint(
        record["audio_asset_id"] for record in first
    )
    assert extract(context_of(store, try_number=3, max_tries=1), uploaded, force=True) == again, "a retry"
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 2)
    assert extract(context_of(store, try_number=4, max_tries=3), uploaded) == first, "no force, no extraction"
    extract(context_of(store, try_number=5, max_tries=4), uploaded, force=True)
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 3), "cleared, and forced anew"


def test_changed_inputs_start_afresh_and_keep_what_is_the_same(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    [first] = extract(context, uploaded[0])
    assert extract(context, uploaded[:2])[0] == first
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded[:2], 1)
    [other] = extract(context, uploaded[0], audio_format="AAC")
    assert other["audio_format"] == "AAC"
    assert stats(standin)["submissions"][uploaded[0]] == 2


def test_a_cleared_success_makes_one_call_for_ten_assets(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    first = extract(context, uploaded)
    before = stats(standin)["calls"]["info"]["total"]
    assert extract(context, uploaded) == first
    assert stats(standin)["calls"]["info"]["total"] == before + 1


@pytest.mark.slow
def test_a_submission_that_was_on_its_way_is_waited_for(
    standin: Standin,
    connection: str,
    client: VodClient,
    uploaded: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = CrashingStore(1, after=True)
    with pytest.raises(Killed):
        extract(context_of(store), uploaded[0])
    for entry in store.values["vod_ledger_0"].values():
        entry["intended"] -= 30  # it waited that long for its turn in the quota
    monkeypatch.setenv("AIRFLOW__VOD__LOST_ANSWER_WINDOW", "4")
    standin.behaviour.running_seconds = 2
    late = threading.Timer(1, client.extract_audio, (uploaded[0], "MP3"))
    late.start()
    [record] = extract(context_of(store), uploaded[0])
    late.join()
    assert record["outcome"] == "extracted"
    assert stats(standin)["submissions"] == {uploaded[0]: 1}


def test_audio_is_given_time_to_appear_from_its_acceptance_on(
    standin: Standin, connection: str, context: Context, uploaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio_assets, "VISIBILITY_GRACE", 1.0)
    standin.behaviour.faults = [parse("latency,call=extract_audio,seconds=1.5"), parse("missing,count=1")]
    extract(context, uploaded[0], wait_for_completion=False)
    [record] = extract(context, uploaded[0])
    assert record["outcome"] == "extracted"
    assert stats(standin)["submissions"] == {uploaded[0]: 1}


@pytest.mark.parametrize("crash", [False, True])
def test_while_lost_answers_cannot_be_looked_for_nothing_is_submitted(
    standin: Standin, connection: str, uploaded: list[str], monkeypatch: pytest.MonkeyPatch, crash: bool
) -> None:
    monkeypatch.setattr(session, "_MAX_TRIES", 1)
    store = CrashingStore(2 if crash else 0, after=True)
    standin.behaviour.faults = [parse("drop,call=extract_audio,accepted=true,count=1")]
    if crash:
        with pytest.raises(Killed):
            extract(context_of(store), uploaded)
    standin.behaviour.faults.append(parse("error,call=list,count=2"))
    records = extract(context_of(store), uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)
    assert stats(standin)["calls"]["list"]["total"] >= 3


def test_a_crash_does_not_make_a_third_extraction_of_what_vod_ends_without_audio(
    standin: Standin, connection: str, client: VodClient, uploaded: list[str]
) -> None:
    store, asset = DictStore(), uploaded[0]
    standin.behaviour.faults = [parse(f"fail,asset={asset}")]
    options = {"failed_assets": "return", "wait_for_completion": False}
    for _ in range(2):  # each time the worker is lost while VOD works
        [submitted] = extract(context_of(store), asset, **options)
        audio = submitted["audio_asset_id"]
        while not client.asset_info([audio])[audio].settled(grace=True):
            time.sleep(0.05)
    [record] = extract(context_of(store), asset, **options)
    assert record["outcome"] == "extraction_failed"
    assert stats(standin)["submissions"] == {asset: 2}
    standin.behaviour.faults = []
    [cleared] = extract(context_of(store, try_number=2, max_tries=1), asset)
    assert cleared["outcome"] == "extracted"


@pytest.mark.parametrize("code", ["VOD.10120", "VOD.10083"])  # arrears; not ready
def test_what_ffmpeg_extracted_is_not_submitted_once_vod_takes_it(
    standin: Standin,
    connection: str,
    uploaded: list[str],
    code: str,
) -> None:
    store = DictStore()
    standin.behaviour.faults = [parse(f"refuse,call=extract_audio,code={code}")]
    first = extract(context_of(store), uploaded, fallback="ffmpeg")
    assert {record["engine"] for record in first} == {"ffmpeg"}
    standin.behaviour.faults = []
    assert extract(context_of(store), uploaded, fallback="ffmpeg") == first
    assert stats(standin)["submissions"] == {}
    (local_path(first[0]["uri"]) or Path()).unlink()
    again = extract(context_of(store), uploaded, fallback="ffmpeg")
    assert [record["outcome"] for record in again] == ["extracted"] * 3
    assert again[1:] == first[1:]


def test_the_lost_answer_of_a_second_extraction_is_not_confused_with_the_first(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [parse(f"fail,asset={uploaded[0]},count=1")]
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded[0], poll_interval=0.05)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    with pytest.raises(TaskDeferred) as postponed:
        operator.execute_complete(context, asyncio.run(first_event(deferred.value.trigger)))
    standin.behaviour.faults.append(parse("drop,call=extract_audio,accepted=true"))
    with pytest.raises(TaskDeferred) as again:
        operator.execute_complete(context, asyncio.run(first_event(postponed.value.trigger)))
    event = asyncio.run(first_event(again.value.trigger))
    while True:
        try:
            [record] = operator.execute_complete(context, event)
            break
        except TaskDeferred as later:
            event = asyncio.run(first_event(later.trigger))
    assert record["outcome"] == "extracted"
    assert stats(standin)["submissions"] == {uploaded[0]: 2}
