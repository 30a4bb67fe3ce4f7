"""The operators against the stand-in, ffmpeg and Whisper; with Airflow around them: test_dags.py, system/."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from tests.conftest import DictStore, auth_of, connection_json, first_event, stats
from vod import extraction, media
from vod.batches import AssetsFailedError
from vod.cloud.client import VodClient
from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
from vod.standin import Standin
from vod.standin.faults import parse
from vod.storage import local_path

Context = dict[str, Any]


@pytest.fixture
def uploaded(client: VodClient, video: Path) -> list[str]:
    return [client.upload(video, title=f"video {number}") for number in range(3)]


@pytest.fixture
def silent_video(tmp_path: Path, video: Path) -> Path:
    """The sample without its audio track."""
    target = tmp_path / "silent.mp4"
    command = [str(media.find_ffmpeg()), "-v", "error", "-i", str(video), "-an", "-c", "copy", str(target)]
    assert asyncio.run(_run(command)) == 0
    return target


async def _run(command: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(*command)
    return await process.wait()


@pytest.fixture(autouse=True)
def _short_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in lists a new asset at once."""
    monkeypatch.setattr(extraction, "RECOVERY_WINDOW", 0.2)


def extract(context: Context, assets: Any, **options: Any) -> list[dict[str, Any]]:
    """Run the operator to its end, through its trigger if it defers."""
    operator = ExtractAudioOperator(task_id="extract", assets=assets, poll_interval=0.05, **options)
    try:
        return operator.execute(context)
    except TaskDeferred as deferred:
        event = asyncio.run(first_event(deferred.trigger))
        return getattr(operator, deferred.method_name)(context, event=event)


# --- both engines behind one interface ------------------------------------------------------------


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
        assert (record["audio_asset_id"] is not None) is (engine == "vod")
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
    records = extract(context, uploaded, wait=False)
    assert {record["outcome"] for record in records} == {"submitted"}
    assert all(record["audio_asset_id"] for record in records)


# --- bad input ------------------------------------------------------------------------------------


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
    ],
)
def test_bad_input_is_refused_before_anything_is_submitted(
    standin: Standin, connection: str, context: Context, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        extract(context, **options)
    assert stats(standin)["calls"] == {}


@pytest.mark.parametrize(
    ("option", "value"), [("engine", "gstreamer"), ("audio_format", "mp3"), ("on_failure", "ignore")]
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
    records = extract(context, [uploaded[0], *bad, uploaded[1], uploaded[0]], on_failure="report")
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
        context, assets, engine="ffmpeg", destination=str(tmp_path / "out"), on_failure="report"
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


# --- nothing twice, nothing lost ------------------------------------------------------------------


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
    context["task_state_store"].values = {
        key: {**value, "accepted": value["accepted"] - 3600} if isinstance(value, dict) else value
        for key, value in context["task_state_store"].values.items()
    }
    [second] = extract(context, uploaded[0])
    assert second["audio_asset_id"] != first["audio_asset_id"]


class Killed(BaseException):
    """What SIGKILL leaves: no handler of the operator runs."""


class CrashingStore(DictStore):
    """A store whose task dies at its n-th write, before or after it."""

    def __init__(self, at: int, *, after: bool) -> None:
        super().__init__()
        self.at, self.after, self.writes = at, after, 0

    def set(self, key: str, value: Any) -> None:
        self.writes += 1
        if self.writes == self.at and not self.after:
            raise Killed
        super().set(key, value)
        if self.writes == self.at and self.after:
            raise Killed


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after it"])
@pytest.mark.parametrize("at", range(1, 8))
def test_a_worker_killed_at_any_write_submits_each_source_once(
    standin: Standin, connection: str, uploaded: list[str], at: int, after: bool
) -> None:
    store = CrashingStore(at, after=after)
    with pytest.raises(Killed):
        extract({"task_state_store": store}, uploaded)
    records = extract({"task_state_store": store}, uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


def test_two_candidates_for_a_lost_answer_are_no_guess(
    standin: Standin, connection: str, client: VodClient, uploaded: list[str]
) -> None:
    store = CrashingStore(2, after=True)  # the intent is written, the submission was not sent
    with pytest.raises(Killed):
        extract({"task_state_store": store}, uploaded[0])
    candidates = [client.extract_audio(uploaded[0], "MP3").audio_asset_id for _ in range(2)]
    with pytest.raises(AirflowFailException, match="may have made any of the audio assets") as caught:
        extract({"task_state_store": store}, uploaded[0])
    assert all(candidate in str(caught.value) for candidate in candidates)
    assert stats(standin)["submissions"] == {uploaded[0]: 2}


@pytest.mark.parametrize("fault", ["drop", "error,status=504", "page,status=502"])
def test_an_extraction_whose_answer_was_lost_is_found_and_adopted(
    standin: Standin, connection: str, context: Context, uploaded: list[str], fault: str
) -> None:
    standin.behaviour.faults = [parse(f"{fault},call=extract_audio,accepted=true")]
    records = extract(context, uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)
    assert stats(standin)["calls"]["list"]["total"] == 1, "one look for the whole batch"


def test_sources_of_one_title_are_not_mixed_up(
    standin: Standin, connection: str, context: Context, client: VodClient, video: Path
) -> None:
    twins = [client.upload(video, title="twin") for _ in range(2)]
    standin.behaviour.faults = [parse("drop,call=extract_audio,accepted=true")]
    records = extract(context, twins, on_failure="report")
    assert [record["outcome"] for record in records] == ["ambiguous_extraction"] * 2
    assert stats(standin)["submissions"] == dict.fromkeys(twins, 1)


def test_a_submission_that_did_not_arrive_is_sent_by_the_next_try(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [parse("drop,call=extract_audio,count=1")]
    with pytest.raises(AssetsFailedError, match="did not answer"):
        extract(context, uploaded)
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded[1:], 1)
    assert {record["outcome"] for record in extract(context, uploaded)} == {"extracted"}
    assert stats(standin)["submissions"] == dict.fromkeys(uploaded, 1)


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


# --- time and cancelling --------------------------------------------------------------------------


@pytest.mark.parametrize("deferrable", [True, False])
def test_running_out_of_time_cancels_what_is_queued(
    standin: Standin,
    connection: str,
    context: Context,
    client: VodClient,
    uploaded: list[str],
    deferrable: bool,
) -> None:
    standin.behaviour.queue_seconds = 60
    with pytest.raises(AssetsFailedError, match=r"is still WAITING_TRANSCODE\. Raise the task's timeout"):
        extract(context, uploaded[0], timeout=0.3, deferrable=deferrable)
    statuses = stats(standin)["assets_by_status"]
    assert statuses.get("CANCELLED") == 1


def test_killing_the_task_cancels_what_is_queued(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.queue_seconds = 60
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, wait=False)
    operator.execute(context)
    operator.on_kill()
    assert stats(standin)["assets_by_status"]["CANCELLED"] == 3


def test_cancel_on_kill_can_be_switched_off(
    standin: Standin, connection: str, context: Context, uploaded: list[str]
) -> None:
    standin.behaviour.queue_seconds = 60
    operator = ExtractAudioOperator(task_id="extract", assets=uploaded, wait=False, cancel_on_kill=False)
    operator.execute(context)
    operator.on_kill()
    assert "CANCELLED" not in stats(standin)["assets_by_status"]


# --- transcription --------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    return "".join(character for character in text.lower() if character.isalnum() or character == " ").split()


@pytest.mark.parametrize("engine", ["vod", "ffmpeg"])
def test_from_video_to_text(
    connection: str,
    context: Context,
    client: VodClient,
    samples: dict[str, str],
    video: Path,
    tmp_path: Path,
    engine: str,
) -> None:
    audio = extract(context, [client.upload(video), "f" * 32], engine=engine, on_failure="report")
    transcribe = TranscribeAudioOperator(task_id="transcribe", audio=audio, on_failure="report")
    [transcript, failure] = transcribe.execute(context)
    assert words(transcript["text"]) == words(samples[video.name])
    assert (transcript["outcome"], transcript["audio"]) == ("transcribed", audio[0]["uri"])
    assert failure == audio[1], "a failed extraction passes through"
    text, srt = (local_path(transcript["uris"][caption]) or Path() for caption in ("txt", "srt"))
    assert words(text.read_text()) == words(samples[video.name])
    assert srt.read_text().startswith("1\n00:00:0")
    assert text.parent == tmp_path / "audio", "the connection's default destination"


@pytest.mark.parametrize(
    ("audio", "sentence"),
    [
        ([{"uri": "x"}], "not what ExtractAudioOperator returns"),
        ("a string", "not what ExtractAudioOperator returns"),
        (
            [
                {
                    "asset": "a",
                    "audio_asset_id": "b",
                    "audio_format": "MP3",
                    "accepted": 1,
                    "outcome": "submitted",
                }
            ],
            "There is no audio yet.*AudioAssetSensor",
        ),
    ],
)
def test_what_is_no_audio_is_refused(connection: str, context: Context, audio: Any, sentence: str) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        TranscribeAudioOperator(task_id="transcribe", audio=audio).execute(context)


def test_an_unknown_model_fails_before_any_audio_is_read(connection: str, context: Context) -> None:
    operator = TranscribeAudioOperator(task_id="transcribe", audio=[], model="/no/such/model")
    with pytest.raises(AirflowFailException, match="/no/such/model"):
        operator.execute(context)
