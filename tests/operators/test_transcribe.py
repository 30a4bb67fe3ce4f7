"""The operator that transcribes: from video to text, what a retry does not do again, bad input."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowFailException

from tests.conftest import DictStore, context_of, word_error_rate
from tests.operators.conftest import Context, CrashingStore, Killed, extract
from tests.speech_server import Scripted, running
from vod.batch.arguments import choices
from vod.cloud.client import VodClient
from vod.errors import InvalidInputError
from vod.locations import asset_uri, local_path
from vod.operators import TranscribeAudioOperator
from vod.records import ExtractedAudio
from vod.speech import Segment, SpeechOptions, Transcription, Word
from vod.speech.engines.whisper import WhisperEngine
from vod.speech.passages import Passage
from vod.standin import Standin
from vod.storage.sources import local_copy


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
    audio = extract(context, [client.upload(video), "f" * 32], engine=engine, failed_assets="return")
    transcribe = TranscribeAudioOperator(
        task_id="transcribe", model="tiny.en", audio=audio, failed_assets="return"
    )
    [transcript, failure] = transcribe.execute(context)
    assert word_error_rate(transcript["text"], samples[video.name]) < 0.2
    assert (transcript["outcome"], transcript["audio"]) == ("transcribed", audio[0]["uri"])
    assert failure == audio[1], "a failed extraction passes through"
    text, srt = (local_path(transcript["uris"][caption]) or Path() for caption in ("txt", "srt"))
    assert text.read_text().split() == transcript["text"].split()
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
        TranscribeAudioOperator(task_id="transcribe", model="tiny.en", audio=audio).execute(context)


@pytest.mark.parametrize("task", ["extract", "transcribe"])
def test_audio_of_another_connection_costs_itself(
    standin: Standin, connection: str, context: Context, client: VodClient, video: Path, task: str
) -> None:
    asset = client.upload(video)
    uris = [asset_uri(conn_id, asset) for conn_id in ("vod_b", connection)]
    if task == "extract":
        outcomes = extract(context, uris, engine="ffmpeg", failed_assets="return")
    else:
        records = [
            ExtractedAudio(
                asset=uri, uri=uri, audio_format="", codec=None, duration=None, size=0, engine=""
            ).to_json()
            for uri in uris
        ]
        operator = TranscribeAudioOperator(
            task_id="transcribe", model="tiny.en", audio=records, failed_assets="return"
        )
        outcomes = operator.execute(context)
    refused, done = outcomes
    assert refused["outcome"] == "invalid_input"
    assert "belongs to the connection vod_b, and this task uses vod_default" in refused["message"]
    assert "vod_conn_id='vod_b'" in refused["remedy"]
    assert done["outcome"] in ("extracted", "transcribed", "doubtful")


def test_an_unknown_model_fails_before_any_audio_is_read(connection: str, context: Context) -> None:
    operator = TranscribeAudioOperator(task_id="transcribe", audio=[], model="/no/such/model")
    with pytest.raises(AirflowFailException, match="/no/such/model"):
        operator.execute(context)


@pytest.fixture
def audio(context: Context, video: Path, tmp_path: Path) -> list[dict[str, Any]]:
    videos = [str(video), str(video.parent / "lake.mov")]
    return extract(context, videos, engine="ffmpeg", destination=str(tmp_path / "audio"))


def transcribed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the audio files that are transcribed from now on."""
    names: list[str] = []
    recognise = WhisperEngine.passages

    def noted(engine: WhisperEngine, audio: Path, options: SpeechOptions, **more: Any) -> Any:
        names.append(audio.name)
        return recognise(engine, audio, options, **more)

    monkeypatch.setattr(WhisperEngine, "passages", noted)
    return names


@pytest.mark.slow
def test_a_killed_task_goes_on_with_the_audio_that_has_no_transcript(
    audio: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = transcribed(monkeypatch)
    store = CrashingStore(2, after=True)  # when the second is noted as begun

    def transcribe(**options: Any) -> list[dict[str, Any]]:
        operator = TranscribeAudioOperator(
            task_id="transcribe", audio=audio, model="tiny.en", destination=str(tmp_path / "text"), **options
        )
        return operator.execute(context_of(store))

    with pytest.raises(Killed):
        transcribe()
    assert len(names) == 1
    records = transcribe()
    assert len(names) == 2, "each once"
    assert transcribe() == records, "cleared"
    assert len(names) == 2
    (local_path(records[1]["uris"]["txt"]) or Path()).unlink()
    assert [record["text"] for record in transcribe()] == [record["text"] for record in records]
    assert len(names) == 2, "what was deleted is written again, and not recognised again"
    transcribe(captions=("srt",))
    assert len(names) == 2, "another layout needs no recognition"
    transcribe(options={"beam_size": 1})
    assert len(names) == 4, "other wishes"


@pytest.mark.slow
def test_a_transcript_that_cannot_be_written_costs_only_itself(
    audio: list[dict[str, Any]], context: Context, tmp_path: Path
) -> None:
    (tmp_path / "text" / f"{Path(audio[0]['uri']).stem}.en.srt" / "folder").mkdir(parents=True)
    operator = TranscribeAudioOperator(
        task_id="transcribe",
        audio=audio,
        model="tiny.en",
        destination=str(tmp_path / "text"),
        failed_assets="return",
    )
    records = operator.execute(context)
    assert [record["outcome"] for record in records] == ["destination", "transcribed"]
    assert "srt" in records[0]["message"]


def test_captions_may_be_a_template(connection: str) -> None:
    operator = TranscribeAudioOperator(task_id="t", audio=[], captions="{{ params.captions }}")
    operator.render_template_fields({"params": {"captions": "srt, txt"}})
    assert choices("captions", operator.captions, ("txt", "srt")) == ["srt", "txt"]
    with pytest.raises(InvalidInputError, match="captions 'docx' is unknown"):
        TranscribeAudioOperator(task_id="t", audio=[], captions="txt,docx")


def test_three_hours_of_speech_travel_as_an_excerpt(
    audio: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [Word(start=at / 2, end=at / 2 + 0.4, text=" words") for at in range(2 * 3 * 3600)]
    segments = tuple(Segment(words=tuple(words[at : at + 10])) for at in range(0, len(words), 10))
    spoken = Transcription(language="en", duration=3 * 3600.0, model="tiny.en", segments=segments)
    passage = Passage(start=0, end=3 * 3600.0, segments=segments, language="en")
    assert len(spoken.text) > 120_000
    monkeypatch.setattr(WhisperEngine, "passages", lambda *_, **__: iter([passage]))
    store = DictStore()
    context = context_of(store)
    operator = TranscribeAudioOperator(
        task_id="transcribe",
        audio=audio,
        model="tiny.en",
        destination=str(tmp_path / "text"),
        captions="txt",  # laying out captions for three hours is not what this tries
        outlets=[transcripts := Asset("vod://transcripts")],
    )
    records = operator.execute(context)
    assert records[0]["text"] == spoken.text[:499] + "…"
    assert (local_path(records[0]["uris"]["txt"]) or Path()).read_text().split() == spoken.text.split()
    event = context["outlet_events"][transcripts].extra
    for value in (records, event, *store.values.values()):
        assert len(json.dumps(value)) < 64_000


def test_a_doubtful_transcript_says_why(
    audio: list[dict[str, Any]], context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = Segment((Word(start=0, end=1, text="Hm.", probability=0.3),))
    passage = Passage(start=0, end=9, segments=(said,), language="en", language_probability=0.4)
    monkeypatch.setattr(WhisperEngine, "passages", lambda *_, **__: iter([passage]))
    operator = TranscribeAudioOperator(
        task_id="transcribe", audio=audio[:1], model="tiny.en", destination=str(tmp_path / "text")
    )
    [record] = operator.execute(context)
    assert record["outcome"] == "doubtful"
    assert len(record["warnings"]) == 2
    assert (record["confidence"], record["language_probability"]) == (0.3, 0.4)


@pytest.fixture
def one_passage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine seconds of English in any audio: it is about records and files, not about speech."""
    monkeypatch.setattr(WhisperEngine, "check", lambda *_: None)
    monkeypatch.setattr(
        WhisperEngine, "passages", lambda *_, **__: iter([Passage(start=0, end=9, language="en")])
    )


@pytest.mark.usefixtures("one_passage")
def test_nothing_is_overwritten_unless_it_is_asked_for(audio: list[dict[str, Any]], tmp_path: Path) -> None:
    def transcribe(**options: Any) -> dict[str, Any]:
        operator = TranscribeAudioOperator(
            task_id="t", audio=audio[0], model="tiny.en", destination=str(tmp_path / "text"), **options
        )
        [record] = operator.execute(context_of(DictStore()))
        assert {path.as_uri() for path in tmp_path.glob("text/*")} >= {*record["uris"].values()}
        return record

    first = transcribe()
    second = transcribe(options={"beam_size": 1}, captions="txt")
    assert not {*first["uris"].values()} & {*second["uris"].values()}
    assert transcribe()["uris"] == first["uris"]
    transcribe(options={"beam_size": 2}, captions="txt", overwrite=True)
    left = {path.as_uri() for path in tmp_path.glob("text/*")}
    assert left == {*second["uris"].values(), first["uris"]["txt"], first["uris"]["json"]}


@pytest.mark.usefixtures("one_passage")
def test_the_audios_of_an_asset_do_not_overwrite_each_other(
    audio: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [each | {"asset": "vod-asset", "uri": f"vod://vod_default/{n}"} for n, each in enumerate(audio)]
    sources = {each["uri"]: source["uri"] for each, source in zip(both, audio, strict=True)}
    monkeypatch.setattr(
        "vod.operators.transcribe.local_copy", lambda uri, hook: local_copy(sources[uri], hook)
    )

    def transcribe(store: DictStore, **options: Any) -> list[dict[str, Any]]:
        operator = TranscribeAudioOperator(
            task_id="t",
            audio=both,
            model="tiny.en",
            destination=str(tmp_path / "text"),
            overwrite=True,
            failed_assets="return",
            **options,
        )
        return operator.execute(context_of(store))

    def names(records: list[dict[str, Any]]) -> list[str]:
        return [record["uris"]["json"].rpartition("/")[2] for record in records]

    made = transcribe(DictStore())
    assert names(made)[0] == "vod-asset.en.json"
    assert len({*names(made)}) == 2
    again = transcribe(DictStore())
    assert names(again) == names(made)
    assert [record["reused"] for record in again] == [True, True]

    store, refused = DictStore(), sources.pop(both[0]["uri"])
    failed, plain = transcribe(store, options={"beam_size": 1})
    assert (failed["outcome"], names([plain])) == ("transcription_failed", ["vod-asset.en.json"])
    sources[both[0]["uri"]] = refused
    late, kept = transcribe(store, options={"beam_size": 1})
    assert kept == plain
    assert names([late]) != names([plain]), "nor what an earlier try of the task has written"


@pytest.mark.usefixtures("one_passage")
def test_each_audio_of_an_asset_has_a_record_of_its_own(audio: list[dict[str, Any]], tmp_path: Path) -> None:
    first, second = audio[0], audio[1] | {"asset": audio[0]["asset"]}
    failed = [
        {"asset": first["asset"], "outcome": "no_audio", "message": message, "remedy": "", "retryable": False}
        for message in ("No track is German.", "No track is French.")
    ]
    operator = TranscribeAudioOperator(
        task_id="t",
        audio=[first, failed[0], second, failed[1], first],
        model="tiny.en",
        destination=str(tmp_path / "text"),
        failed_assets="return",
    )
    records = operator.execute(context_of(DictStore()))
    assert [record.get("audio", record.get("message")) for record in records] == [
        first["uri"],
        failed[0]["message"],
        second["uri"],
        failed[1]["message"],
    ], "in input order, the same audio once"


@pytest.mark.slow
def test_an_audio_that_kills_the_recogniser_costs_itself(
    audio: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recognise, begun = WhisperEngine.passages, list[str]()

    def deadly(engine: WhisperEngine, path: Path, options: SpeechOptions, **more: Any) -> Any:
        begun.append(path.name)
        if "library" in path.name:
            os.kill(engine.pid or 0, signal.SIGKILL)
        return recognise(engine, path, options, **more)

    monkeypatch.setattr(WhisperEngine, "passages", deadly)
    store = DictStore()

    def outcomes() -> list[dict[str, Any]]:
        operator = TranscribeAudioOperator(
            task_id="t",
            audio=audio,
            model="tiny.en",
            destination=str(tmp_path / "text"),
            failed_assets="return",
        )
        return operator.execute(context_of(store))

    for times in (1, 2, 2):
        [failure, transcript] = outcomes()
        assert transcript["outcome"] == "transcribed"
        assert failure.get("retryable", False) == (times == 1)
        assert len([name for name in begun if "library" in name]) == times


def test_options_of_the_site_come_after_those_of_the_task(
    connection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = json.loads(os.environ["AIRFLOW_CONN_VOD_DEFAULT"])
    value["extra"] = {**value["extra"], "speech": {"model": "large-v3", "beam_size": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", json.dumps(value))
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH", '{"device": "cpu", "beam_size": 2}')
    operator = TranscribeAudioOperator(task_id="t", audio=[], options=None, model="tiny.en")
    assert operator._speech_settings().options == SpeechOptions(model="tiny.en", beam_size=1, device="cpu")


def test_a_server_that_recognises_is_named_by_its_connection(
    connection: str, context: Context, audio: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = Scripted()
    with running(script):
        server = {"conn_type": "http", "host": script.address, "password": "sk-secret"}
        monkeypatch.setenv("AIRFLOW_CONN_SPEECH", json.dumps(server))

        def transcribe(model: str = "whisper-1") -> list[dict[str, Any]]:
            operator = TranscribeAudioOperator(
                task_id="transcribe",
                audio=audio,
                options={"engine": "http", "model": model},
                speech_conn_id="speech",
            )
            return operator.execute(context_of(DictStore()))

        transcripts = transcribe()
        assert [each["text"] for each in transcripts] == ["Guten Tag, Welt. (Ja!)"] * 2
        assert {(each["engine"], each["language"]) for each in transcripts} == {("http", "de")}
        assert "sk-secret" not in json.dumps(transcripts)
        assert [each["reused"] for each in transcribe()] == [True, True]
        assert len(script.uploads) == 2, "nothing is recognised twice"
        with pytest.raises(AirflowFailException, match="whisper-1"):
            transcribe("base")
