"""Which speech engine hears what: fallback from one to the other, all tracks of a video, what is refused."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from tests.conftest import DictStore, context_of
from tests.operators.conftest import Context, extract
from tests.speech_server import HELLO, Scripted, running
from vod.batch.outcomes import AssetsFailedError
from vod.locations import local_path
from vod.operators import TranscribeAudioOperator
from vod.speech import SpeechOptions, Transcription
from vod.speech.engines import http
from vod.speech.engines.whisper import WhisperEngine

TINY = {"engine": "whisper", "model": "tiny.en"}
SERVER = {"engine": "http", "model": "whisper-1"}


@pytest.fixture(autouse=True)
def _one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """No second one to tell the language: loading it takes longer than all the rest."""
    monkeypatch.setattr("vod.speech.models.installed_multilingual", lambda: None)


@pytest.fixture
def audio(connection: str, context: Context, video: Path, tmp_path: Path) -> list[dict[str, Any]]:
    return extract(context, [str(video)], engine="ffmpeg", destination=str(tmp_path / "audio"))


@pytest.fixture
def both(connection: str, context: Context, video: Path, tmp_path: Path) -> list[dict[str, Any]]:
    """A video with an English and a German track."""
    train, out = str(video.with_name("train.mkv")), str(tmp_path / "audio")
    return extract(context, [train], engine="ffmpeg", destination=out, options={"track": "all"})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.setattr(http, "_TRIES", 1)
    with running(script := Scripted()):
        connection = {"conn_type": "http", "host": script.address, "password": "sk-secret"}
        monkeypatch.setenv("AIRFLOW_CONN_SPEECH", json.dumps(connection))
        yield script


def transcribe(
    audio: list[dict[str, Any]], store: DictStore | None = None, **options: Any
) -> list[dict[str, Any]]:
    operator = TranscribeAudioOperator(
        task_id="transcribe", audio=audio, speech_conn_id="speech", captions="txt", **options
    )
    return operator.execute(context_of(store or DictStore()))


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((503, {}, {}), "speech_server_busy"),
        pytest.param(
            (429, {}, {"error": {"code": "insufficient_quota", "message": "x"}}),
            "speech_server_refused",
            marks=pytest.mark.slow,
        ),
        pytest.param((200, {}, {"text": "no times"}), "speech_server_answer", marks=pytest.mark.slow),
    ],
)
def test_what_the_server_does_not_do_is_done_here(
    server: Scripted, audio: list[dict[str, Any]], answer: Any, outcome: str
) -> None:
    server.answers = [answer]
    store = DictStore()
    [record] = transcribe(audio, store, options=SERVER, fallback=TINY)
    assert (record["outcome"], record["model"]) == ("transcribed", "tiny.en")
    assert "video library" in record["text"]
    assert record["fell_back"].startswith("http: ")
    assert f"[{outcome}]" in record["fell_back"]
    uploads = len(server.uploads)
    assert transcribe(audio, store, options=SERVER, fallback=TINY) == [record], "cleared"
    assert len(server.uploads) == uploads, "what the fallback has done stays done"


def test_a_server_that_is_away_is_left_out_at_once(
    audio: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_TRIES", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    address = {"conn_type": "http", "host": f"http://127.0.0.1:{port}"}
    monkeypatch.setenv("AIRFLOW_CONN_SPEECH", json.dumps(address))
    [record] = transcribe(audio, options=SERVER, fallback=TINY)
    assert "[speech_server_unreachable]" in record["fell_back"]


@pytest.mark.slow
def test_a_fallback_that_is_away_takes_nothing_from_the_first(
    audio: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "_TRIES", 1)
    monkeypatch.setenv("AIRFLOW_CONN_SPEECH", '{"conn_type": "http", "host": "http://127.0.0.1:1"}')
    [record] = transcribe(audio, options=TINY, fallback=SERVER)
    assert "fell_back" not in record


def test_a_wrong_key_is_nothing_for_a_fallback(server: Scripted, audio: list[dict[str, Any]]) -> None:
    server.models = (401, {}, {})
    with pytest.raises(AirflowFailException, match="does not accept the key"):
        transcribe(audio, options=SERVER, fallback=TINY)


@pytest.mark.slow
def test_a_crash_on_the_worker_goes_to_the_server(
    server: Scripted, audio: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    recognise = WhisperEngine.passages

    def deadly(engine: WhisperEngine, *arguments: Any, **more: Any) -> Any:
        os.kill(engine.pid or 0, signal.SIGKILL)
        return recognise(engine, *arguments, **more)

    monkeypatch.setattr(WhisperEngine, "passages", deadly)
    [record] = transcribe(audio, options=TINY, fallback={"engine": "http", "model": "whisper-1"})
    assert (record["engine"], record["text"]) == ("http", "Guten Tag, Welt. (Ja!)")
    assert "[recogniser_crashed]" in record["fell_back"]
    with pytest.raises(AssetsFailedError):
        transcribe(audio, options={**TINY, "beam_size": 1})


def test_a_bad_file_is_bad_for_all_engines(
    server: Scripted, audio: list[dict[str, Any]], tmp_path: Path
) -> None:
    (local_path(audio[0]["uri"]) or Path()).write_bytes(b"no audio")
    with pytest.raises(AirflowFailException, match=r"\[unreadable\]"):
        _final(audio, options=SERVER, fallback=TINY)
    assert not server.uploads


def _final(audio: list[dict[str, Any]], **options: Any) -> None:
    try:
        transcribe(audio, **options)
    except AssetsFailedError as error:
        raise AirflowFailException(str(error)) from error


def test_both_fail_and_both_are_told(server: Scripted, audio: list[dict[str, Any]]) -> None:
    server.answers = [(503, {}, {})]
    with pytest.raises(
        AssetsFailedError, match=r"time limit.*Before that, http: .*503.*speech_server_busy"
    ) as caught:
        transcribe(audio, options=SERVER, fallback={**TINY, "time_limit": 0.001})
    assert caught.value.retryable, "the server may be back by then"


@pytest.mark.parametrize(
    ("fallback", "sentence"),
    [
        ("parrot", "'parrot' is unknown"),
        ("http", "itself"),
        ({"engine": "whisper", "model": "base", "colour": 1}, "'colour'"),
        ({"engine": "whisper", "model": "/no/such/model"}, "/no/such/model"),
    ],
)
def test_a_fallback_that_cannot_work_is_said_before_anything_is_sent(
    server: Scripted, audio: list[dict[str, Any]], fallback: Any, sentence: str
) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        transcribe(audio, options=SERVER, fallback=fallback)
    assert not server.uploads


def test_a_site_may_name_server_and_fallback(connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    site = {**SERVER, "speech_conn_id": "speech", "fallback": TINY, "models": "/models", "channels": "left"}
    monkeypatch.setenv("AIRFLOW__VOD__SPEECH", json.dumps(site))
    settings = TranscribeAudioOperator(task_id="t", audio=[], language="")._speech_settings()
    assert settings.options == SpeechOptions(engine="http", model="whisper-1", channels="left")
    assert settings.fallback == SpeechOptions(model="tiny.en", channels="left")
    assert (settings.speech_conn_id, settings.models) == ("speech", "/models")
    own = TranscribeAudioOperator(task_id="t", audio=[], fallback="whisper", speech_conn_id="other")
    settings = own._speech_settings()
    assert settings.fallback == SpeechOptions(model="base", channels="left"), "each engine has its own model"
    assert settings.speech_conn_id == "other"


def answer(language: str, text: str) -> dict[str, Any]:
    said = deepcopy(HELLO)
    return {**said, "language": language, "text": text, "segments": [{**said["segments"][0], "text": text}]}


def test_all_tracks_lie_side_by_side(server: Scripted, both: list[dict[str, Any]], tmp_path: Path) -> None:
    server.answers = [(200, {}, answer("english", " Guten Tag, Welt. Ja")), (200, {}, HELLO)]
    [record] = transcribe(both, options={**SERVER, "language": "en"})
    assert [upload.fields.get("language") for upload in server.uploads] == [["en"], None]
    [other] = record["others"]
    assert (record["language"], other["language"], other["track"]) == ("en", "de", 1)
    names = {path.name for path in (tmp_path / "audio").glob("*.json")}
    assert len(names) == 2
    assert {name.split(".")[-2] for name in names} == {"en", "de"}
    path = local_path(other["uris"]["json"]) or Path()
    spoken = Transcription.from_json(path.read_text())
    assert (spoken.track, spoken.language) == (1, "de")
    store = DictStore()
    transcribe(both, store, options={**SERVER, "language": "en"})
    assert len(server.uploads) == 2, "neither is recognised twice"
    path.unlink()
    transcribe(both, store, options={**SERVER, "language": "en"})
    assert len(server.uploads) == 3, "what was deleted is recognised again, and nothing else"
    assert path.exists()


def test_tracks_of_one_language_do_not_overwrite_each_other(
    server: Scripted, both: list[dict[str, Any]]
) -> None:
    server.answers = [(200, {}, answer("german", " Guten Tag. Eins")), (200, {}, answer("german", " Zwei"))]
    server.answers[1][2]["words"] = [{"word": "Zwei", "start": 0.5, "end": 0.8}]
    [record] = transcribe(both, options=SERVER)
    texts = [
        (local_path(uris["txt"]) or Path()).read_text()
        for uris in (record["uris"], record["others"][0]["uris"])
    ]
    assert texts[0] != texts[1]
    assert record["others"][0]["uris"]["txt"].endswith(".de.track1.txt")


def test_a_track_that_cannot_be_heard_is_a_doubt_about_the_whole(
    server: Scripted, both: list[dict[str, Any]]
) -> None:
    (local_path(both[0]["others"][0]["uri"]) or Path()).write_bytes(b"no audio")
    [record] = transcribe(both, options=SERVER)
    assert (record["outcome"], record["others"][0]["outcome"]) == ("doubtful", "unreadable")
    assert record["warnings"][0].startswith("Track 1 (ger): ")


def test_channels_by_themselves_come_from_the_audio_that_has_them(
    server: Scripted, connection: str, context: Context, video: Path, tmp_path: Path
) -> None:
    [record] = extract(
        context,
        [str(video)],
        engine="ffmpeg",
        destination=str(tmp_path / "audio"),
        options={"speech": True, "channels": 2},
    )
    transcribe([record], options={**SERVER, "channels": "split"})
    (local_path(record["speech_uri"]) or Path()).unlink()
    transcribe([record], options={**SERVER, "channels": "left"})
    assert len(server.uploads) == 2
