"""Whose answer is lost gets its own audio or none: clocks, lists and titles that mislead change nothing."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest

from tests.conftest import DictStore, client_of, connection_json, context_of, settle, stats
from tests.operators.conftest import Context, CrashingStore, Killed, extract
from vod.cloud import clock
from vod.cloud.client import VodClient
from vod.standin import Standin
from vod.standin.faults import parse
from vod.standin.service import EXTRACTED_DESCRIPTION

LOST = "drop,call=extract_audio,accepted=true"
TITLE = "Weekly meeting"


@pytest.fixture(autouse=True)
def _quick(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is paced; an extraction takes as long as a look needs to see it."""
    standin.behaviour.quota_scale = 0
    standin.behaviour.running_seconds = 0.5
    monkeypatch.setattr(clock, "_clocks", {})
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection_json(standin, quotas={"extract": 100_000}))


def video(standin: Standin, title: str = TITLE, duration: float = 60, **fields: Any) -> str:
    [asset] = standin.add_virtual(1, title=title, duration=duration, **fields)
    return asset


def killed_before_it_was_sent(asset: str) -> CrashingStore:
    """The state of a task that noted its intent, and then died."""
    store = CrashingStore(1, after=True)
    with pytest.raises(Killed):
        extract(context_of(store), asset)
    return store


def killed_with_the_intent(asset: str) -> DictStore:
    """The register that a task left which had noted there that it was about to submit, and then died."""

    class Register(DictStore):
        def set(self, key: str, value: Any, **options: Any) -> None:
            super().set(key, value, **options)
            if isinstance(value, dict) and "intended" in value:
                raise Killed

    register = DictStore()
    with pytest.raises(Killed):
        extract(context_of(DictStore(), dying := Register()), asset)
    register.values = dying.values
    return register


@pytest.mark.quick(2)
@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("ahead", [-600, 0, 600])
def test_clocks_that_are_ten_minutes_apart(standin: Standin, ahead: int, killed: bool) -> None:
    standin.behaviour.clock_ahead = ahead
    assets, store = [video(standin, f"title {number}") for number in range(3)], CrashingStore(0, after=True)
    standin.behaviour.faults = [parse(f"{LOST},count=1")]
    if killed:
        store.at = 2  # the intent of the second: the answer of the first was lost
        with pytest.raises(Killed):
            extract(context_of(store), assets)
    records = extract(context_of(store), assets)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(assets, 1)


@pytest.mark.parametrize("duration", [3600, 62])
@pytest.mark.parametrize("audio_format", ["MP3", pytest.param("AAC", marks=pytest.mark.slow)])
def test_the_audio_of_another_video_of_that_title_is_not_taken(
    standin: Standin, client: VodClient, audio_format: str, duration: float
) -> None:
    mine, other = video(standin), video(standin, duration=duration)
    store = killed_before_it_was_sent(mine)
    settle(client, audio := client.extract_audio(other, audio_format).audio_asset_id)
    [record] = extract(context_of(store), mine)
    assert record["audio_asset_id"] != audio
    assert record["duration"] == 60
    assert stats(standin)["submissions"] == {mine: 1, other: 1}


@pytest.mark.quick(1)
@pytest.mark.parametrize("duration", [60, 61.4])
def test_a_video_of_the_same_title_and_length_makes_it_a_guess(
    standin: Standin, client: VodClient, duration: float
) -> None:
    mine, other = video(standin), video(standin, duration=duration)
    store = killed_before_it_was_sent(mine)
    audio = client.extract_audio(other, "MP3").audio_asset_id
    [record] = extract(context_of(store), mine, failed_assets="return")
    assert record["outcome"] == "ambiguous_extraction"
    assert audio in record["message"]
    assert other in record["message"], "which video it may be of"
    assert stats(standin)["submissions"] == {other: 1}


@pytest.mark.parametrize(
    ("of_extractions", "of_video", "of_upload"),
    [
        (EXTRACTED_DESCRIPTION, "recorded on Monday", None),
        pytest.param(
            *(EXTRACTED_DESCRIPTION, "recorded on Monday", "recorded on Monday"), marks=pytest.mark.slow
        ),
        (EXTRACTED_DESCRIPTION, EXTRACTED_DESCRIPTION, EXTRACTED_DESCRIPTION),
        pytest.param("", "recorded on Monday", None, marks=pytest.mark.slow),
    ],
    ids=["none", "the video's", "the video's, which is that of extractions", "none, like extractions"],
)
def test_an_upload_is_not_taken_whatever_it_says_of_itself(
    standin: Standin,
    monkeypatch: pytest.MonkeyPatch,
    of_extractions: str,
    of_video: str,
    of_upload: str | None,
) -> None:
    monkeypatch.setattr("vod.standin.service.EXTRACTED_DESCRIPTION", of_extractions)
    mine = video(standin, description=of_video)
    store = killed_before_it_was_sent(mine)
    upload = video(standin, video_type="MP3", description=of_upload)
    client_of(standin).extract_audio(video(standin, "another"), "MP3")
    [record] = extract(context_of(store), mine, failed_assets="return")
    assert record["outcome"] == "ambiguous_extraction"
    assert f"it may have been uploaded. VOD lists {upload}" in record["message"]


def test_what_ended_before_the_first_look_is_told_from_an_upload_by_what_vod_calls_extractions(
    standin: Standin, client: VodClient
) -> None:
    first, mine = video(standin, "another"), video(standin)
    store = CrashingStore(2, after=True)  # the first is accepted, the second about to be sent
    with pytest.raises(Killed):
        extract(context_of(store), [first, mine])
    settle(client, audio := client.extract_audio(mine, "MP3").audio_asset_id)  # it was sent
    records = extract(context_of(store), [first, mine])
    assert records[1]["audio_asset_id"] == audio
    assert stats(standin)["submissions"] == {first: 1, mine: 1}


def test_sources_of_one_title_are_told_apart_by_their_durations(standin: Standin) -> None:
    sources = [video(standin, duration=duration) for duration in (60, 65, 70.4)]
    standin.behaviour.faults = [parse(LOST)]
    records = extract(context_of(DictStore()), sources)
    assert [record["duration"] for record in records] == [60, 65, 70.4]
    assert stats(standin)["submissions"] == dict.fromkeys(sources, 1)


@pytest.mark.slow
def test_an_unknown_duration_confirms_nothing(standin: Standin) -> None:
    source = video(standin)
    standin.behaviour.faults = [
        parse(LOST),
        parse('{"fault": "malformed", "field": "meta_data", "value": null}'),
    ]
    [record] = extract(context_of(DictStore()), source, failed_assets="return")
    assert record["outcome"] == "ambiguous_extraction"
    assert "how long" in record["message"]
    assert stats(standin)["submissions"] == {source: 1}


def test_an_earlier_audio_of_the_video_is_not_taken_for_the_one_that_was_lost(
    standin: Standin, client: VodClient
) -> None:
    source = video(standin)
    [first] = extract(context_of(store := DictStore()), source)
    store_of_force = CrashingStore(1, after=True)
    store_of_force.values = store.values
    again = {"try_number": 2, "max_tries": 1}
    with pytest.raises(Killed):
        extract(context_of(store_of_force, **again), source, force=True)
    [second] = extract(context_of(store_of_force, **again), source, force=True)
    assert second["audio_asset_id"] != first["audio_asset_id"]
    assert stats(standin)["submissions"] == {source: 2}


@pytest.mark.parametrize(
    "at", [pytest.param(at, marks=() if at == 6 else pytest.mark.slow) for at in range(1, 10)]
)
def test_a_forced_extraction_killed_at_any_write_of_the_register_is_made_once(
    standin: Standin, at: int
) -> None:
    source, store, register = video(standin), DictStore(), CrashingStore(0, after=at % 2 == 0)
    extract(context_of(store, register, run_id="earlier"), source)
    register.at = register.writes + at
    with suppress(Killed):
        extract(context_of(store, register), source, force=True)
    register.at = 0
    [record] = extract(context_of(store, register), source, force=True)
    assert record["outcome"] == "extracted"
    assert stats(standin)["submissions"] == {source: 2}


@pytest.mark.slow
def test_a_list_that_lags(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__VOD__LOST_ANSWER_WINDOW", "6")
    standin.behaviour.list_lag = 3
    standin.behaviour.running_seconds = 4
    sources = [video(standin, f"title {number}", created_from="20240101000000") for number in range(2)]
    standin.behaviour.faults = [parse(f"{LOST},count=1")]
    records = extract(context_of(DictStore()), sources)
    assert [record["outcome"] for record in records] == ["extracted"] * 2
    assert stats(standin)["submissions"] == dict.fromkeys(sources, 1)


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("title", "style"),
    [
        (" Weekly  meeting ", "trimmed"),
        ("Re\u0301union du conseil", "NFC"),
        pytest.param("R\u00e9union du conseil", "NFD", marks=pytest.mark.slow),
    ],
)
def test_titles_that_the_list_shows_in_another_way(standin: Standin, title: str, style: str) -> None:
    source = video(standin, title)
    standin.behaviour.faults = [parse(f"{LOST},count=1"), parse(f"retitled,style={style}")]
    [record] = extract(context_of(DictStore()), source)
    assert record["outcome"] == "extracted"
    assert stats(standin)["submissions"] == {source: 1}


@pytest.mark.slow
def test_a_candidate_whose_time_cannot_be_read_is_a_reason_for_doubt(standin: Standin) -> None:
    source = video(standin)
    standin.behaviour.faults = [parse(LOST), parse("malformed,call=list")]
    [record] = extract(context_of(DictStore()), source, failed_assets="return")
    assert record["outcome"] == "ambiguous_extraction"
    assert stats(standin)["submissions"] == {source: 1}


@pytest.mark.slow
def test_a_lost_extraction_that_failed_is_made_a_second_time_and_not_a_third(standin: Standin) -> None:
    source = video(standin)
    standin.behaviour.faults = [parse(f"{LOST},count=1"), parse("fail")]
    [record] = extract(context_of(DictStore()), source, failed_assets="return")
    assert record["outcome"] == "extraction_failed"
    assert stats(standin)["submissions"] == {source: 2}


@pytest.mark.slow
def test_many_of_three_titles_with_kills_and_lost_answers(
    standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Virtual videos of distinct durations, the list 2 s behind, the clock ten minutes, ten kills."""
    monkeypatch.setenv("AIRFLOW__VOD__LOST_ANSWER_WINDOW", "5")
    durations = {
        video(standin, f"{TITLE} {number % 3}", 60 + 7 * number, created_from="20240101000000"): 60
        + 7 * number
        for number in range(60)
    }
    behaviour = standin.behaviour
    behaviour.clock_ahead, behaviour.list_lag, behaviour.running_seconds = 600, 2, 1
    behaviour.faults = [
        parse(f"{LOST},percent=10"),
        parse("drop,call=extract_audio,percent=5,seed=1"),
        parse("missing,percent=10"),
        parse("error,call=list,percent=10"),
    ]
    store, kills = CrashingStore(0, after=False), 0
    while kills < 10:
        store.at = store.writes + 5
        store.after = not store.after
        try:
            extract(context_of(store), [*durations])
        except Killed:
            kills += 1
        else:
            break
    store.at = 0
    records = extract(context_of(store), [*durations])
    assert [(record["outcome"], record["asset"], record.get("duration")) for record in records] == [
        ("extracted", asset, duration) for asset, duration in durations.items()
    ]
    assert len({record["audio_asset_id"] for record in records}) == len(durations)
    assert stats(standin)["submissions"] == dict.fromkeys(durations, 1)
    assert kills == 10


def test_intents_are_noted_by_the_clock_of_vod_which_all_workers_share(standin: Standin) -> None:
    standin.behaviour.clock_ahead = 600
    store = CrashingStore(1, after=True)
    with pytest.raises(Killed):
        extract(context_of(store), video(standin))
    [entry] = store.values["vod_ledger_0"].values()
    assert entry["intended"] == pytest.approx(time.time() + 600, abs=30)
    register = killed_with_the_intent(video(standin))
    [shared] = [value for value in register.values.values() if isinstance(value, dict) and "asset" in value]
    assert shared["intended"] == pytest.approx(time.time() + 600, abs=30)


@pytest.mark.slow
def test_what_the_register_says_is_the_audio_of_another_video_is_no_candidate(standin: Standin) -> None:
    mine, other = video(standin), video(standin)
    register = killed_with_the_intent(mine)
    [foreign] = extract(context_of(DictStore(), register, run_id="another"), other)
    [record] = extract(context_of(DictStore(), register), mine)
    assert record["outcome"] == "extracted"
    assert record["audio_asset_id"] != foreign["audio_asset_id"]
    assert stats(standin)["submissions"] == {mine: 1, other: 1}


@pytest.mark.slow
def test_how_vod_describes_extractions_is_learnt_from_those_that_the_register_knows(
    standin: Standin, client: VodClient
) -> None:
    mine = video(standin)
    register = killed_with_the_intent(mine)
    extract(context_of(DictStore(), register, run_id="earlier"), video(standin, "another"))
    settle(client, audio := client.extract_audio(mine, "MP3").audio_asset_id)
    [record] = extract(context_of(DictStore(), register), mine)
    assert record["audio_asset_id"] == audio
    assert stats(standin)["submissions"][mine] == 1


def test_another_task_that_extracts_the_same_title_at_once(standin: Standin, context: Context) -> None:
    mine, other = [video(standin, duration=60), video(standin, duration=120)], video(standin, duration=90)
    standin.behaviour.faults = [parse(f"{LOST},asset={mine[0]}")]
    foreign = client_of(standin).extract_audio(other, "MP3").audio_asset_id
    records = extract(context, mine)
    assert [record["duration"] for record in records] == [60, 120]
    assert foreign not in {record["audio_asset_id"] for record in records}
