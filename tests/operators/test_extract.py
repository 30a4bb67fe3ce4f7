"""The operator with both engines: results, input, failures, fallback, waiting."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from tests.conftest import DictStore, auth_of, connection_json, context_of, first_event, stats
from tests.operators.conftest import Context, extract, finish
from vod import media
from vod.batch.outcomes import AssetsFailedError
from vod.batch.progress import PROGRESS_KEY
from vod.cloud import session
from vod.cloud.client import VodClient
from vod.cloud.errors import TransferError
from vod.engines.copies import Copies
from vod.engines.ffmpeg import FfmpegEngine
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.engines.submission import Submitter
from vod.errors import InvalidInputError
from vod.locations import local_path
from vod.operators import ExtractAudioOperator
from vod.records import ExtractedAudio
from vod.standin import Standin
from vod.standin.faults import parse

COPY = Copies._copy


# --- both engines behind one interface -------------------------------------------------------------


@pytest.mark.parametrize("audio_format", ["MP3", "AAC"])
@pytest.mark.parametrize("engine", ["vod", "ffmpeg"])
def test_one_result_from_both_engines(
    connection: str,
    context: Context,
    uploaded: list[str],
    tmp_path: Path,
    engine: str,
    audio_format: str,
) -> None:
    records = extract(
        context, uploaded[:2], engine=engine, audio_format=audio_format, destination=str(tmp_path / "out")
    )
    assert [record["asset"] for record in records] == uploaded[:2]
    for record in records:
        path = local_path(record["uri"])
        assert path
        track = media.probe(path).audio[0]
        assert record["codec"] == track.codec == {"MP3": "mp3", "AAC": "aac"}[audio_format]
        assert record["size"] == path.stat().st_size
        assert record["duration"] == pytest.approx(8.8, abs=0.2)
        assert (record["audio_format"], record["engine"]) == (audio_format, engine)
        assert (record["sample_rate"], record["channels"]) == (track.sample_rate, track.channels)
        assert record["title"].startswith("video ")
        assert ("audio_asset_id" in record) is (engine == "vod")
    json.dumps(records)


def test_without_a_destination_the_audio_stays_in_vod(
    connection: str, context: Context, uploaded: list[str], standin: Standin
) -> None:
    [record] = extract(context, uploaded[0])
    assert record["uri"] == f"vod://vod_default/{record['audio_asset_id']}"
    assert record["engine"] == "vod", "the connection's default"
    assert "Signature" not in json.dumps(record)
    assert "storage download" not in stats(standin)["calls"]


@pytest.mark.parametrize("deferrable", [True, False])
def test_waiting_in_the_triggerer_and_on_the_worker_give_the_same(
    connection: str, context: Context, uploaded: list[str], deferrable: bool
) -> None:
    records = extract(context, uploaded, deferrable=deferrable)
    assert [record["asset"] for record in records] == uploaded
    assert {record["outcome"] for record in records} == {"extracted"}


def test_files_need_no_account(context: Context, video: Path, tmp_path: Path) -> None:
    nasty = tmp_path / '-it\'s "quoted" 100% a:b.mp4'
    nasty.write_bytes(video.read_bytes())
    records = extract(
        context, [str(nasty), video.as_uri()], engine="ffmpeg", destination=str(tmp_path / "out")
    )
    assert [record["outcome"] for record in records] == ["extracted", "extracted"]
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".mp3", ".mp3"]


def test_what_only_ffmpeg_can(context: Context, video: Path, tmp_path: Path) -> None:
    (record,) = extract(
        context,
        [str(video)],
        engine="ffmpeg",
        audio_format="OPUS",
        destination=str(tmp_path / "out"),
        options={"start": "1", "duration": 2, "speech": "true"},
    )
    assert record["codec"] == "opus"
    assert record["offset"] == 1.0
    assert record["duration"] == pytest.approx(2, abs=0.05)
    assert record["speech_uri"].endswith(".16k.wav")
    assert len(json.dumps(record)) < 600
    with pytest.raises(InvalidInputError, match="OPUS"):
        ExtractAudioOperator(task_id="t", assets=["a"], engine="vod", audio_format="OPUS")
    with pytest.raises(AirflowFailException, match="no option 'volume'"):
        extract(context, [str(video)], engine="ffmpeg", destination=str(tmp_path), options={"volume": 11})


def test_the_ffmpeg_that_the_connection_names(
    context: Context, standin: Standin, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOD_FFMPEG", raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection_json(standin, ffmpeg="/nowhere/ffmpeg"))
    (record,) = extract(
        context, [str(video)], engine="ffmpeg", destination=str(tmp_path), failed_assets="return"
    )
    assert record["outcome"] == "ffmpeg_missing"
    assert "/nowhere/ffmpeg" in record["message"]


def test_the_language_chooses_the_track(context: Context, video: Path, tmp_path: Path) -> None:
    train = video.parent / "train.mkv"
    options = {"engine": "ffmpeg", "destination": str(tmp_path)}
    [english] = extract(context, [str(train)], **options)
    [german] = extract(context, [str(train)], language="de", **options)
    assert german["duration"] != pytest.approx(english["duration"], abs=0.1)


def test_the_connection_chooses_engine_and_destination(
    standin: Standin, context: Context, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = connection_json(standin, engine="ffmpeg", destination=str(tmp_path / "there"))
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", value)
    [record] = extract(context, [str(video)])
    assert record["engine"] == "ffmpeg"
    assert (local_path(record["uri"]) or Path()).parent == tmp_path / "there"


def test_not_waiting_returns_what_the_sensor_takes(
    connection: str, context: Context, uploaded: list[str]
) -> None:
    records = extract(context, uploaded, wait_for_completion=False)
    assert {record["outcome"] for record in records} == {"submitted"}
    assert all(record["audio_asset_id"] for record in records)


def test_the_task_tells_how_far_it_is(connection: str, context: Context, uploaded: list[str]) -> None:
    told = context["task_state_store"].values
    operator = ExtractAudioOperator(
        task_id="extract", assets=[*uploaded, "f" * 32], failed_assets="return", poll_interval=0.05
    )
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    message = "Waiting for VOD: 3 submitted, none left to submit."
    assert told[PROGRESS_KEY] == {"assets": 4, "done": 0, "failed": 1, "message": message}
    operator.execute_complete(context, asyncio.run(first_event(deferred.value.trigger)))
    assert told[PROGRESS_KEY] == {
        "assets": 4,
        "done": 3,
        "failed": 1,
        "message": "Of 4 assets: 3 extracted, 1 failed.",
    }


def test_an_id_that_vod_calls_malformed_costs_only_itself(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    bad = ["x" * 300, "y"]
    standin.behaviour.faults = [
        parse(f"refuse,call=info,code=VOD.10053,status=400,asset={asset}") for asset in bad
    ]
    records = extract(context, [bad[0], *uploaded, bad[1]], failed_assets="return")
    outcomes = [record["outcome"] for record in records]
    assert outcomes == ["VOD.10053", "extracted", "extracted", "extracted", "VOD.10053"]
    calls = stats(standin)["calls"]["info"]["total"]
    assert extract(context, [bad[0], *uploaded, bad[1]], failed_assets="return") == records
    assert stats(standin)["calls"]["info"]["total"] == calls + 1, "the two are not asked for again"


@pytest.mark.slow
def test_a_long_batch_is_collected_in_parts(
    standin: Standin,
    connection: str,
    context: Context,
    uploaded: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("vod.operators.extract._COLLECT_AFTER", 0.2)
    slow = uploaded[0]
    standin.behaviour.faults = [parse(f"latency,call=extraction,asset={slow},seconds=8")]
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, poll_interval=0.05)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    told = context["task_state_store"].values
    with pytest.raises(TaskDeferred) as again:
        operator.execute_complete(context, asyncio.run(first_event(deferred.value.trigger)))
    done = told[PROGRESS_KEY]["done"]
    assert done in (1, 2), "one is a third, and enough"
    assert told[PROGRESS_KEY]["message"] == f"Waiting for VOD: {3 - done} submitted, none left to submit."
    again.value.trigger.collect_after = None  # the rest in one
    records = operator.execute_complete(context, asyncio.run(first_event(again.value.trigger)))
    assert [record["asset"] for record in records] == uploaded
    assert {record["outcome"] for record in records} == {"extracted"}
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


def test_an_asset_event_carries_the_audio(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    audio = Asset("vod://audio")
    records = extract(context, [uploaded[0], "f" * 32], outlets=[audio], failed_assets="return")
    assert context["outlet_events"][audio].extra == {"audio": records[:1]}
    assert records[0]["duration"]


def test_an_asset_takes_less_than_400_bytes_of_xcom(
    connection: str, context: Context, uploaded: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for options in ({}, {"destination": folder}, {"engine": "ffmpeg", "destination": folder}):
            records = extract(context, uploaded, **options)
            assert len(json.dumps(records)) / len(records) < 400


# --- bad input -------------------------------------------------------------------------------------


def test_what_is_no_source_costs_itself(
    standin: Standin, connection: str, context: Context, uploaded: list[str], video: Path, tmp_path: Path
) -> None:
    def outcomes(*assets: str, **options: Any) -> list[tuple[str, str]]:
        records = extract(context, [*assets], failed_assets="return", **options)
        return [(record["asset"], record["outcome"]) for record in records]

    assert outcomes(uploaded[0], "/media/talk.mp4", "a b") == [
        (uploaded[0], "extracted"),
        ("/media/talk.mp4", "invalid_input"),
        ("a b", "invalid_input"),
    ]
    good = str(video)
    assert outcomes("talk.mp4", good, "gopher://h/x.mp4", engine="ffmpeg", destination=str(tmp_path)) == [
        ("talk.mp4", "invalid_input"),
        (good, "extracted"),
        ("gopher://h/x.mp4", "invalid_input"),
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"assets": []}, "No assets were given"),
        ({"assets": "  \n"}, "No assets were given"),
        (
            {"assets": ["/media/talk.mp4"]},
            r"/media/talk.mp4: VOD extracts only from its own assets.*engine='ffmpeg'",
        ),
        (
            {"assets": ["talk.mp4"], "engine": "ffmpeg"},
            "talk.mp4: This is neither an asset id nor an absolute path",
        ),
        ({"assets": ["a"], "vod_conn_id": "nowhere"}, "The connection 'nowhere' is not defined"),
        ({"assets": ["a"], "destination": "relative/folder"}, "not an absolute path"),
        ({"assets": ["a"], "fallback": "ffmpeg", "options": {"volume": 11}}, "no option 'volume'"),
        ({"assets": ["a"], "fallback": "ffmpeg", "options": {"bit_rate": -1}}, "bit_rate cannot be"),
    ],
)
def test_bad_input_is_refused_before_anything_is_submitted(
    standin: Standin, connection: str, context: Context, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        extract(context, **options)
    assert stats(standin)["calls"] == {}


@pytest.mark.parametrize(
    ("option", "value"), [("engine", "gstreamer"), ("audio_format", "mp3"), ("failed_assets", "ignore")]
)
def test_an_unknown_choice_fails_when_the_dag_is_parsed(option: str, value: str) -> None:
    with pytest.raises(Exception, match=f"{option} '{value}' is unknown. Use one of"):
        ExtractAudioOperator(task_id="t", assets=["a"], **{option: value})


def test_an_unknown_choice_from_a_template_fails_when_it_runs(connection: str, context: Context) -> None:
    operator = ExtractAudioOperator(task_id="t", assets=["a"], engine="{{ params.engine }}")
    operator.engine = "gstreamer"
    with pytest.raises(AirflowFailException, match="engine 'gstreamer' is unknown"):
        operator.execute(context)


def test_a_wrong_secret_fails_at_once_and_shows_none(
    standin: Standin,
    context: Context,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    value = json.loads(connection_json(standin)) | {"password": "not-the-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", json.dumps(value))
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(AirflowFailException, match="Check access key, secret key") as caught,
    ):
        extract(context, ["f" * 32])
    assert "not-the-secret" not in caplog.text + str(caught.value)


def test_a_bad_asset_costs_only_itself(
    standin: Standin,
    connection: str,
    context: Context,
    client: VodClient,
    uploaded: list[str],
    tmp_path: Path,
    silent_video: Path,
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("This is no video. " * 100)
    bad = {
        "f" * 32: ("VOD.10062|asset_not_found", "knows no such asset"),
        client.upload(text): ("extraction_failed", "TRANSCODE_FAILED"),
        client.upload(silent_video): ("extraction_failed", "no audio track"),
    }
    records = extract(context, [uploaded[0], *bad, uploaded[1], uploaded[0]], failed_assets="return")
    assert [record["asset"] for record in records] == [uploaded[0], *bad, uploaded[1]]
    assert [record["outcome"] for record in records][:: len(bad) + 1] == ["extracted", "extracted"]
    for record in records[1:-1]:
        outcome, sentence = bad[record["asset"]]
        assert record["outcome"] in outcome.split("|")
        assert sentence in record["message"]
        assert record["remedy"]
    assert "f" * 32 not in stats(standin)["submissions"]


def test_local_failures_name_file_reason_and_remedy(
    context: Context, video: Path, silent_video: Path, tmp_path: Path
) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("This is no video. " * 100)
    missing = tmp_path / "missing.mp4"
    assets = [str(path) for path in (text, video, silent_video, missing)]
    records = extract(
        context, assets, engine="ffmpeg", destination=str(tmp_path / "out"), failed_assets="return"
    )
    assert [record["outcome"] for record in records] == [
        "unreadable",
        "extracted",
        "no_audio_track",
        "unreadable",
    ]
    assert "no audio track" in records[2]["message"]
    assert all(record["remedy"] for record in records if record["outcome"] != "extracted")
    assert len(list((tmp_path / "out").iterdir())) == 1, "nothing partial is left"


@pytest.mark.parametrize("what", ["no audio", "a folder in its place"])
def test_audio_that_cannot_be_copied_costs_only_itself(
    standin: Standin,
    connection: str,
    context: Context,
    uploaded: list[str],
    silent_video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    out = tmp_path / "out"
    if what == "no audio":
        [wrong] = extract(context, uploaded[0])
        whole = VodClient.download

        def download(client: VodClient, asset: str, target: Any) -> int:
            if asset == wrong["audio_asset_id"]:
                return int(target.write(silent_video.read_bytes()))
            return whole(client, asset, target)

        monkeypatch.setattr(VodClient, "download", download)
    else:
        (out / f"{uploaded[0]}.mp3" / "folder").mkdir(parents=True)
    records = extract(context, uploaded, destination=str(out), failed_assets="return")
    if what == "no audio":  # a second extraction brings it
        assert [record["outcome"] for record in records] == ["extracted"] * 3
        assert stats(standin)["submissions"] == {**dict.fromkeys(uploaded, 1), uploaded[0]: 2}
    else:
        assert [record["outcome"] for record in records] == ["destination", "extracted", "extracted"]
        assert str(out) in records[0]["message"]


def test_a_batch_that_fails_names_every_bad_asset_and_keeps_the_good_ones(
    connection: str, context: Context, uploaded: list[str], standin: Standin
) -> None:
    with pytest.raises(AirflowFailException) as caught:
        extract(context, [uploaded[0], "e" * 32, "f" * 32])
    assert "2 of 3 assets failed" in str(caught.value)
    assert "e" * 32 in str(caught.value)
    assert "f" * 32 in str(caught.value)
    [record] = extract(context, uploaded[0])
    assert record["outcome"] == "extracted"
    assert stats(standin)["submissions"] == {uploaded[0]: 1}


# --- failures and retries --------------------------------------------------------------------------


def copy_fails(monkeypatch: pytest.MonkeyPatch, *audio_of: str) -> None:
    """Let the copy of the audio of these assets to the destination fail: something that a retry may mend."""

    def failing(copies: Copies, client: VodClient, record: ExtractedAudio) -> ExtractedAudio:
        if record.asset in audio_of:
            raise TransferError("The storage did not deliver.", asset=record.asset)
        return COPY(copies, client, record)

    monkeypatch.setattr(Copies, "_copy", failing)


@pytest.mark.parametrize("failed_assets", ["raise", "return"])
def test_a_retry_does_only_what_may_succeed_on_it(
    standin: Standin,
    connection: str,
    uploaded: list[str],
    failed_assets: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    standin.behaviour.faults = [
        parse(f"refuse,call=extract_audio,code=VOD.10099,asset={uploaded[2]}"),
    ]
    copy_fails(monkeypatch, uploaded[1])
    assets, store = [*uploaded, "f" * 32], DictStore()
    options = {"failed_assets": failed_assets, "destination": str(tmp_path)}
    with pytest.raises(AssetsFailedError) as caught:
        extract(context_of(store, max_tries=2), assets, **options)
    assert [failure.asset for failure in caught.value.failures] == assets[1:]
    for words in ("3 of 4 assets failed", "VOD.10099", "VOD knows no such asset. Check the id"):
        assert words in str(caught.value)
    before = stats(standin)
    copy_fails(monkeypatch)
    second = context_of(store, try_number=2, max_tries=2)
    if failed_assets == "raise":
        with pytest.raises(AirflowFailException, match="2 of 4 assets failed"):
            extract(second, assets, **options)
    else:
        outcomes = [record["outcome"] for record in extract(second, assets, **options)]
        assert outcomes == ["extracted", "extracted", "VOD.10099", "asset_not_found"]
    after = stats(standin)
    assert after["submissions"] == dict.fromkeys(uploaded[:2], 1)
    assert after["calls"]["extract_audio"] == before["calls"]["extract_audio"], (
        "what is blocked stays blocked"
    )


def test_a_file_that_cannot_be_extracted_is_not_tried_again_by_a_retry(
    video: Path, silent_video: Path, tmp_path: Path
) -> None:
    store, assets = DictStore(), [str(silent_video), str(video)]
    options = {"engine": "ffmpeg", "destination": str(tmp_path / "out"), "failed_assets": "return"}
    first = extract(context_of(store, max_tries=1), assets, **options)
    assert [record["outcome"] for record in first] == ["no_audio_track", "extracted"]
    silent_video.write_bytes(video.read_bytes())
    assert extract(context_of(store, try_number=2, max_tries=1), assets, **options) == first
    cleared = extract(context_of(store, try_number=3, max_tries=2), assets, **options)
    assert [record["outcome"] for record in cleared] == ["extracted", "extracted"]


def test_the_last_try_reports(
    connection: str, uploaded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_fails(monkeypatch, uploaded[1])
    store, options = DictStore(), {"failed_assets": "return", "destination": str(tmp_path)}
    with pytest.raises(AssetsFailedError):
        extract(context_of(store, max_tries=1), uploaded, **options)
    records = extract(context_of(store, try_number=2, max_tries=1), uploaded, **options)
    assert [record["outcome"] for record in records] == ["extracted", "transfer", "extracted"]


def test_what_vod_ends_without_audio_is_extracted_a_second_time_and_not_a_third(
    standin: Standin, connection: str, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [
        parse(f"fail,asset={uploaded[1]},count=1"),
        parse(f"fail,asset={uploaded[2]}"),
    ]
    store = DictStore()
    with pytest.raises(AirflowFailException, match="1 of 3 assets failed"):
        extract(context_of(store, max_tries=2), uploaded)
    assert stats(standin)["submissions"] == dict(zip(uploaded, (1, 2, 2), strict=True))
    with pytest.raises(AirflowFailException, match="1 of 3 assets failed"):
        extract(context_of(store, try_number=2, max_tries=2), uploaded)
    assert stats(standin)["submissions"] == dict(zip(uploaded, (1, 2, 2), strict=True))


def test_a_clear_tries_again_what_was_final(standin: Standin, connection: str, uploaded: list[str]) -> None:
    standin.behaviour.faults = [parse("refuse,call=extract_audio,code=VOD.10099")]
    store = DictStore()
    with pytest.raises(AirflowFailException):
        extract(context_of(store), uploaded[0])
    standin.behaviour.faults = []
    [record] = extract(context_of(store, try_number=2, max_tries=1), uploaded[0])
    assert record["outcome"] == "extracted"


def test_a_refusal_of_the_account_stops_the_batch(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [parse("refuse,call=extract_audio,code=VOD.10120")]
    with pytest.raises(AirflowFailException, match="3 of 3 assets failed") as caught:
        extract(context, uploaded)
    assert str(caught.value).count("Put the account in order") == 3
    assert stats(standin)["calls"]["extract_audio"]["total"] == 1


# --- what VOD does not take yet --------------------------------------------------------------------


@pytest.mark.quick(2)
@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("fault", ["VOD.10060", "VOD.10061", "VOD.10083"])
def test_a_source_that_is_not_ready_is_waited_for(
    standin: Standin, connection: str, context: Context, uploaded: list[str], fault: str, deferrable: bool
) -> None:
    standin.behaviour.faults = [parse(f"refuse,call=extract_audio,code={fault},count=2,asset={uploaded[1]}")]
    records = extract(context, uploaded, deferrable=deferrable)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


def test_a_source_that_is_being_uploaded_is_watched_and_not_submitted(
    standin: Standin, connection: str, context: Context, uploaded: list[str], video: Path
) -> None:
    created = httpx.post(
        f"{standin.url}/v1.0/{standin.settings.project_id}/asset",
        json={"title": "late", "video_name": "late.mp4", "video_type": "MP4", "auto_publish": 0},
        auth=auth_of(standin),
    ).json()
    late = created["asset_id"]
    operator = ExtractAudioOperator(task_id="extract", assets=[late, *uploaded], poll_interval=0.05)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)
    httpx.put(created["video_upload_url"], content=video.read_bytes(), headers={"Content-Type": "video/mp4"})
    httpx.post(
        f"{standin.url}/v1.0/{standin.settings.project_id}/asset/status/uploaded",
        json={"asset_id": late, "status": "CREATED"},
        auth=auth_of(standin),
    ).raise_for_status()
    event = asyncio.run(first_event(deferred.value.trigger))
    with pytest.raises(TaskDeferred) as again:
        operator.execute_complete(context, event)
    records = operator.execute_complete(context, asyncio.run(first_event(again.value.trigger)))
    assert [(record["asset"], record["outcome"]) for record in records] == [
        (asset, "extracted") for asset in (late, *uploaded)
    ]


def test_a_source_that_never_gets_ready_fails_when_the_time_is_up(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [parse(f"refuse,call=extract_audio,code=VOD.10083,asset={uploaded[1]}")]
    records = extract(context, uploaded, timeout=5.0, failed_assets="return")
    assert [record["outcome"] for record in records] == ["extracted", "VOD.10083", "extracted"]
    assert "Wait until the console shows the video as uploaded" in records[1]["remedy"]


def test_a_service_that_is_down_is_waited_for(
    standin: Standin, connection: str, context: Context, uploaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {**json.loads(connection_json(standin)), "host": "http://127.0.0.1:1"}
    monkeypatch.setattr(session, "_MAX_TRIES", 1)
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", json.dumps(value))
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, poll_interval=0.05)
    with pytest.raises(TaskDeferred) as deferred:
        operator.execute(context)
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection_json(standin))
    resumed = ExtractAudioOperator(task_id="extract", assets=uploaded, poll_interval=0.05)
    with pytest.raises(TaskDeferred) as again:
        resumed.execute_complete(context, asyncio.run(first_event(deferred.value.trigger)))
    records = resumed.execute_complete(context, asyncio.run(first_event(again.value.trigger)))
    assert [record["outcome"] for record in records] == ["extracted"] * 3


# --- the other engine ------------------------------------------------------------------------------


@pytest.mark.quick(2)
@pytest.mark.parametrize(
    "fault",
    [
        "refuse,call=extract_audio,code=VOD.10120",  # arrears
        "refuse,call=extract_audio,code=VOD.10078",  # quota used up
        "refuse,call=extract_audio,code=VOD.10063",  # type
        "refuse,call=extract_audio,code=VOD.10083",  # state
        "fail",
    ],
)
def test_what_vod_refuses_is_extracted_here(
    standin: Standin, connection: str, context: Context, uploaded: list[str], fault: str
) -> None:
    standin.behaviour.faults = [parse(f"{fault},asset={uploaded[1]}")]
    records = extract(context, uploaded[1:], fallback="ffmpeg")
    assert [record["outcome"] for record in records] == ["extracted", "extracted"]
    assert records[0]["engine"] == "ffmpeg"
    assert (local_path(records[0]["uri"]) or Path()).is_file()
    others = {"vod"} if "VOD.10120" not in fault and "VOD.10078" not in fault else {"vod", "ffmpeg"}
    assert records[1]["engine"] in others
    assert extract(context, uploaded[1:2], fallback="ffmpeg") == records[:1], "and not twice"


def test_what_was_extracted_here_is_not_submitted_by_another_run(
    standin: Standin, connection: str, uploaded: list[str]
) -> None:
    register = DictStore()

    def run(number: int, **options: Any) -> dict[str, Any]:
        context = context_of(DictStore(), register, run_id=f"run {number}")
        return extract(context, uploaded[:1], fallback="ffmpeg", **options)[0]

    standin.behaviour.faults = [parse("refuse,call=extract_audio,code=VOD.10120")]
    first = run(1)
    standin.behaviour.faults = []
    second = run(2)
    assert (second["uri"], second["reused"]) == (first["uri"], True), "although VOD would take it by now"
    assert run(3, audio_format="AAC")["engine"] == "vod", "of other audio nothing is known"
    assert run(4, language="en")["engine"] == "vod"
    assert run(5, force=True)["engine"] == "vod"


@pytest.mark.quick(2)
@pytest.mark.parametrize("code", ["VOD.10120", "VOD.10063"])  # VOD may take it later, or never
@pytest.mark.parametrize("held_in", ["VOD", "ffmpeg"])
def test_a_run_waits_for_what_another_one_extracts_here(
    standin: Standin,
    connection: str,
    uploaded: list[str],
    code: str,
    held_in: str,
) -> None:
    place = (Submitter, "_submit_one") if held_in == "VOD" else (FfmpegEngine, "_extract")
    inside, go_on, real = threading.Event(), threading.Event(), getattr(*place)

    def held(*arguments: Any) -> Any:
        inside.set()
        assert go_on.wait(60)
        return real(*arguments)

    register = DictStore()
    contexts = [context_of(DictStore(), register, run_id=f"run {number}") for number in range(2)]
    standin.behaviour.faults = [parse(f"refuse,call=extract_audio,code={code}")]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr(*place, held)
        first = pool.submit(extract, contexts[0], uploaded[:1], fallback="ffmpeg")
        assert inside.wait(60)
        options = {"assets": uploaded[:1], "fallback": "ffmpeg", "poll_interval": 0.05}
        second = ExtractAudioOperator(task_id="extract", **options)
        with pytest.raises(TaskDeferred) as deferred:
            second.execute(contexts[1])
        go_on.set()
        [made] = first.result()
    standin.behaviour.faults = []
    records = finish(second, contexts[1], deferred.value)
    assert made["engine"] == "ffmpeg"
    assert [(record["uri"], record["reused"]) for record in records] == [(made["uri"], True)]
    assert stats(standin)["submissions"] == {}
    [entry] = [value for key, value in register.values.items() if key.startswith("audio_")]
    assert entry["record"]["uri"] == made["uri"]


def test_who_waits_for_vod_is_told_what_vod_says_and_not_what_ffmpeg_does(
    standin: Standin, connection: str, client: VodClient, silent_video: Path
) -> None:
    silent, register = client.upload(silent_video), DictStore()
    standin.behaviour.faults = [parse("refuse,call=extract_audio,code=VOD.10063")]
    context = context_of(DictStore(), register, run_id="1")
    [record] = extract(context, [silent], fallback="ffmpeg", failed_assets="return")
    [entry] = [value for key, value in register.values.items() if key.startswith("audio_")]
    assert (record["outcome"], entry["failure"]["outcome"]) == ("no_audio_track", "VOD.10063")


def test_audio_that_was_extracted_here_and_is_gone_is_submitted(
    standin: Standin, connection: str, uploaded: list[str]
) -> None:
    register = DictStore()

    def run(run_id: str) -> dict[str, Any]:
        return extract(context_of(DictStore(), register, run_id=run_id), uploaded[:1], fallback="ffmpeg")[0]

    standin.behaviour.faults = [parse("refuse,call=extract_audio,code=VOD.10120")]
    first = run("1")
    standin.behaviour.faults = []
    (local_path(first["uri"]) or Path()).unlink()
    second = run("2")
    assert (first["engine"], second["engine"]) == ("ffmpeg", "vod")


def test_what_nobody_can_extract_says_why(
    standin: Standin, connection: str, context: Context, client: VodClient, silent_video: Path
) -> None:
    silent = client.upload(silent_video)
    [record] = extract(context, [silent], fallback="ffmpeg", failed_assets="return")
    assert record["outcome"] == "no_audio_track"


def test_a_file_that_is_finished_is_not_extracted_again(
    context: Context, video: Path, tmp_path: Path
) -> None:
    options = {"engine": "ffmpeg", "destination": str(tmp_path / "out")}
    [first] = extract(context, [str(video)], **options)
    made = (local_path(first["uri"]) or Path()).stat().st_mtime_ns
    assert extract(context, [str(video)], **options) == [first]
    assert (local_path(first["uri"]) or Path()).stat().st_mtime_ns == made
    (local_path(first["uri"]) or Path()).unlink()
    [again] = extract(context, [str(video)], **options)
    assert (local_path(again["uri"]) or Path()).exists()


def test_a_shorter_execution_timeout_counts_also_while_the_task_waits(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    """Airflow 3.3 does not enforce it then."""
    standin.behaviour.queue_seconds = 60
    limit = timedelta(seconds=1)
    with pytest.raises(AssetsFailedError, match="is still WAITING_TRANSCODE"):
        extract(context, uploaded, timeout=3600, execution_timeout=limit, deferrable=True)
    assert stats(standin)["assets_by_status"]["CANCELLED"] == len(uploaded)


def test_options_are_a_dataclass_or_a_mapping(context: Context, video: Path, tmp_path: Path) -> None:
    arguments = {"engine": "ffmpeg", "destination": str(tmp_path), "force": True}
    train = str(video.parent / "train.mkv")
    for options in (FfmpegOptions(start=1.0, duration=2.0), {"start": "1", "duration": "2"}):
        [record] = extract(context, [train], language="de", options=options, **arguments)
        assert (record["offset"], record["language"]) == (pytest.approx(1, abs=0.05), "ger")
        assert record["duration"] == pytest.approx(2, abs=0.05)


def test_what_an_author_may_template_is_read_when_the_task_runs(connection: str, context: Context) -> None:
    operator = ExtractAudioOperator(task_id="extract", assets=["a"], fallback="{{ params.fallback }}")
    operator.render_template_fields({"params": {"fallback": "vlc"}})
    with pytest.raises(AirflowFailException, match=r"fallback 'vlc' is unknown\. Use one of ffmpeg"):
        operator.execute(context)


@pytest.mark.parametrize("deferrable", [True, False])
def test_a_copy_that_nobody_would_wait_for_is_refused_before_anything_is_submitted(
    standin: Standin, connection: str, context: Context, uploaded: list[str], tmp_path: Path, deferrable: bool
) -> None:
    operator = ExtractAudioOperator(
        task_id="extract",
        assets=uploaded,
        wait_for_completion=False,
        destination=str(tmp_path),
        deferrable=deferrable,
    )
    with pytest.raises(AirflowFailException, match="wait_for_completion"):
        operator.execute(context)
    assert stats(standin)["submissions"] == {}
