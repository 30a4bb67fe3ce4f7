"""A server with OpenAI's protocol is used as it is: right, slow, busy, wrong or hostile."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from tests.speech_server import HELLO, Scripted, Upload, running
from vod.connection import InsecureEndpointError
from vod.errors import InvalidInputError
from vod.hooks import speech_server
from vod.speech import SpeechOptions
from vod.speech.audio import SAMPLE_RATE
from vod.speech.engines import Watch, engine
from vod.speech.engines.http import HttpEngine, Server
from vod.speech.engines.whisper import WhisperEngine
from vod.speech.errors import (
    CancelledError,
    ModelNotFoundError,
    RecognitionTimeoutError,
    ServerAnswerError,
    ServerBusyError,
    ServerRefusedError,
    SpeechError,
    UnreachableServerError,
)
from vod.speech.passages import Passage
from vod.speech.transcribing import transcribe

from .conftest import TINY, WriteWav

OPTIONS = SpeechOptions(engine="http", model="whisper-1")


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    script = Scripted()
    with running(script):
        yield script


@pytest.fixture
def http(scripted: Scripted) -> Iterator[HttpEngine]:
    made = HttpEngine(Server(scripted.address, requests.Session()))
    yield made
    made.close()


@pytest.fixture
def sound(write_wav: WriteWav) -> Path:
    return write_wav("sound.wav", np.sin(np.arange(3 * SAMPLE_RATE) / 10))


def hear(http: HttpEngine, audio: Path, options: SpeechOptions = OPTIONS, **rest: Any) -> list[Passage]:
    return list(http.passages(audio, options, watch=rest.pop("watch", Watch()), **rest))


def test_words_get_the_punctuation_of_the_text(scripted: Scripted, http: HttpEngine, sound: Path) -> None:
    (passage,) = hear(http, sound)
    words = [word for segment in passage.segments for word in segment.words]
    assert [word.text for word in words] == [" Guten", " Tag,", " Welt.", " (Ja!)"]
    assert [word.start for word in words] == [0.5, 0.8, 1.2, 2.0]
    assert words[0].probability == pytest.approx(0.905, abs=0.001)
    assert (passage.start, passage.end, passage.language) == (0.0, 3.0, "de")
    (upload,) = scripted.uploads
    assert upload.path == "/v1/audio/transcriptions"
    assert upload.fields == {
        "model": ["whisper-1"],
        "response_format": ["verbose_json"],
        "timestamp_granularities[]": ["word", "segment"],
    }
    assert upload.seconds == 3.0


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        ("你好。世界。", ["你好", "世界"], ["你好。", "世界。"]),
        (" It's 5 o'clock - now.", [" It's", " 5", " o'clock", " now."], None),
        (" Fünf Äpfel", ["fünf", "äpfel"], [" Fünf", " Äpfel"]),
        (" one $20 two", ["one", "twenty", "dollars", "two"], [" one $20", " two"]),
        (" İki", ["İki"], [" İki"]),
        (" all other words", ["x", "y"], [" all", " other", " words"]),
    ],
)
def test_no_text_is_lost_or_doubled(
    scripted: Scripted,
    http: HttpEngine,
    sound: Path,
    text: str,
    words: list[str],
    expected: list[str] | None,
) -> None:
    timed = [{"word": word, "start": 0.1 * i, "end": 0.1 * i + 0.1} for i, word in enumerate(words)]
    scripted.answers = [
        (200, {}, {"text": text, "words": timed, "segments": [{"start": 0, "end": 1, "text": text}]})
    ]
    (passage,) = hear(http, sound)
    got = [word.text for segment in passage.segments for word in segment.words]
    assert "".join(got) == text
    if expected:
        assert got == expected


def test_a_translation_has_times_without_words(scripted: Scripted, http: HttpEngine, sound: Path) -> None:
    scripted.answers = [
        (200, {}, {"text": "Good day", "segments": [{"start": 1.0, "end": 2.0, "text": " Good day"}]})
    ]
    (passage,) = hear(http, sound, SpeechOptions(engine="http", model="whisper-1", task="translate"))
    assert [(word.text, word.start) for word in passage.segments[0].words] == [
        (" Good", 1.0),
        (" day", pytest.approx(1.57, abs=0.01)),
    ]
    assert scripted.uploads[0].path == "/v1/audio/translations"


def test_what_the_server_itself_doubts_is_dropped(scripted: Scripted, http: HttpEngine, sound: Path) -> None:
    doubtful = {**HELLO["segments"][0], "avg_logprob": -1.9, "no_speech_prob": 0.9}  # type: ignore[index]
    scripted.answers = [(200, {}, {**HELLO, "segments": [doubtful]})]
    (passage,) = hear(http, sound)
    assert (passage.segments, passage.dropped.improbable, passage.language) == ((), 1, "")


@pytest.mark.parametrize(("times", "loops"), [(3, 0), (30, 29)])
def test_a_loop_is_cut_and_a_stammer_is_not(
    scripted: Scripted, http: HttpEngine, sound: Path, times: int, loops: int
) -> None:
    segment = {"start": 0, "end": 3, "text": " We are, uh," + " uh," * (times - 1) + " here."}
    scripted.answers = [(200, {}, {"segments": [segment]})]
    (passage,) = hear(http, sound)
    assert passage.dropped.loops == loops
    assert len([word for segment in passage.segments for word in segment.words]) == 3 + times - loops


def test_long_audio_goes_in_windows_and_goes_on(
    scripted: Scripted, http: HttpEngine, write_wav: WriteWav, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vod.speech.audio.WINDOW", 8.0)
    monkeypatch.setattr("vod.speech.audio._SEARCH", 4.0)
    long = write_wav("long.wav", np.sin(np.arange(30 * SAMPLE_RATE) / 10))
    passages = hear(http, long)
    assert len(passages) == len(scripted.uploads) > 2
    assert passages[-1].end == 30.0
    assert [b.start for b in passages[1:]] == [a.end for a in passages[:-1]]
    assert passages[1].segments[0].start == pytest.approx(passages[1].start + 0.5)
    assert hear(http, long, done=passages[:2]) == passages[2:]
    assert len(scripted.uploads) == 2 * len(passages) - 2
    assert scripted.uploads[-1].fields["language"] == ["de"]  # recognised before


def test_a_busy_server_is_asked_again(scripted: Scripted, http: HttpEngine, sound: Path) -> None:
    scripted.answers = [(429, {"Retry-After": "0"}, {}), (503, {"Retry-After": "0"}, b"x"), (200, {}, HELLO)]
    assert len(hear(http, sound)) == 1
    assert len(scripted.uploads) == 3


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "retryable"),
    [
        (429, {"Retry-After": "0"}, {}, ServerBusyError, True),
        (429, {"Retry-After": "3600"}, {}, ServerBusyError, True),
        (429, {}, {"error": {"code": "insufficient_quota", "message": "no"}}, ServerRefusedError, False),
        (500, {"Retry-After": "0"}, b"<html>", ServerBusyError, True),
        (401, {}, {"error": {"message": "Incorrect API key provided: sk-1"}}, ServerRefusedError, False),
        (404, {}, {"error": {"message": "The model `x` does not exist"}}, ModelNotFoundError, False),
        (404, {}, b"nothing here", ServerAnswerError, False),
        (413, {}, b"too large", ServerRefusedError, False),
        (302, {"Location": "http://127.0.0.1:9/"}, b"", ServerRefusedError, False),
        (200, {}, b"{", ServerAnswerError, False),
        (200, {}, [1], ServerAnswerError, False),
        (200, {}, b"[" * 100_000, ServerAnswerError, False),
        (200, {}, {"text": "no times"}, ServerAnswerError, False),
        (200, {}, {"text": None}, ServerAnswerError, False),
        (200, {}, {"segments": [{"start": "0", "end": 1, "text": "a"}]}, ServerAnswerError, False),
        (200, {}, b'{"segments": [{"start": NaN, "end": 1, "text": "a"}]}', ServerAnswerError, False),
        (200, {}, {"segments": [{"start": 0, "end": 1, "text": 5}]}, ServerAnswerError, False),
        (200, {}, {"segments": [{"start": 0, "end": 10**400, "text": "a"}]}, ServerAnswerError, False),
        (200, {}, {"segments": {"a": 1}, "text": ""}, ServerAnswerError, False),
        (200, {}, {"words": [7], "text": "a"}, ServerAnswerError, False),
        (200, {}, b" " * (33 * 1024 * 1024), ServerAnswerError, False),
    ],
)
def test_every_fault_has_its_type(
    scripted: Scripted,
    http: HttpEngine,
    sound: Path,
    status: int,
    headers: dict[str, str],
    body: Any,
    kind: type[SpeechError],
    retryable: bool,
) -> None:
    scripted.answers = [(status, headers, body)]
    with pytest.raises(kind) as caught:
        hear(http, sound)
    assert caught.value.retryable is retryable
    assert "sk-1" not in str(caught.value)


def test_times_outside_the_audio_are_brought_inside(
    scripted: Scripted, http: HttpEngine, sound: Path
) -> None:
    scripted.answers = [(200, {}, {"segments": [{"start": -5, "end": 1e300, "text": " a b"}]})]
    (passage,) = hear(http, sound)
    assert (passage.segments[0].start, passage.segments[-1].end) == (0.0, 3.0)


def test_silence_is_an_empty_passage(scripted: Scripted, http: HttpEngine, sound: Path) -> None:
    scripted.answers = [(200, {}, {"text": "", "segments": []})]
    assert hear(http, sound) == [Passage(start=0.0, end=3.0)]


def test_a_hanging_server_is_left_at_the_time_limit(
    scripted: Scripted, http: HttpEngine, sound: Path
) -> None:
    scripted.hold = threading.Event()
    with pytest.raises(RecognitionTimeoutError):
        hear(http, sound, SpeechOptions(engine="http", model="whisper-1", time_limit=1.0))


def test_a_cancelled_task_does_not_wait_for_the_server(
    scripted: Scripted, http: HttpEngine, sound: Path
) -> None:
    scripted.hold = threading.Event()
    started: list[float] = []

    def cancelled() -> bool:
        if scripted.uploads and not started:
            started.append(time.monotonic())
        return bool(started)

    with pytest.raises(CancelledError):
        hear(http, sound, watch=Watch(cancelled=cancelled))
    assert time.monotonic() - started[0] < 2


def test_nobody_answers(sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vod.speech.engines.http._TRIES", 2)
    http = HttpEngine(Server("http://127.0.0.1:9", requests.Session()))
    with pytest.raises(UnreachableServerError) as caught:
        hear(http, sound)
    assert caught.value.retryable


def test_what_can_be_known_is_said_before_the_work(scripted: Scripted, http: HttpEngine) -> None:
    http.check(OPTIONS)
    with pytest.raises(ModelNotFoundError, match=r"whisper-1"):
        http.check(SpeechOptions(engine="http", model="base"))
    scripted.models = (401, {}, {})
    with pytest.raises(ServerRefusedError, match="key"):
        http.check(OPTIONS)
    for detail in ({}, {"error": {"message": "Invalid URL (GET /v1/models)"}}, {"detail": "no such model"}):
        scripted.models = (404, {}, detail)
        http.check(OPTIONS)  # a server without the list
    assert not scripted.uploads


@pytest.mark.parametrize("option", [{"vad": {"threshold": 1}}, {"multilingual": True}, {"hotwords": "a"}])
def test_an_option_that_the_protocol_lacks_is_refused(http: HttpEngine, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(option))):
        http.check(SpeechOptions(engine="http", model="whisper-1", **option))


def test_without_a_server_the_engine_says_what_it_needs() -> None:
    with pytest.raises(InvalidInputError, match="speech_conn_id"):
        engine("http")


@pytest.mark.parametrize("path", ["", "/v1", "/v1/"])
def test_the_connections_password_is_the_key(
    scripted: Scripted, sound: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    connection = {"conn_type": "http", "host": scripted.address + path, "password": "sk-secret"}
    monkeypatch.setenv("AIRFLOW_CONN_SPEECH", json.dumps(connection))
    http = engine("http", server=speech_server("speech"))
    http.check(OPTIONS)
    list(http.passages(sound, OPTIONS, watch=Watch()))
    assert scripted.uploads[0].headers["Authorization"] == "Bearer sk-secret"
    assert scripted.uploads[0].path == "/v1/audio/transcriptions"


@pytest.mark.parametrize(
    ("connection", "refused"),
    [
        ({"host": "speech.example", "password": "sk-secret"}, True),
        ({"host": "http://10.0.0.7:8000", "login": "me", "password": "pw"}, True),
        ({"host": "speech.example", "extra": {"Authorization": "Bearer sk-secret"}}, True),
        ({"host": "speech.example", "extra": {"X-Api-Key": "sk-secret"}}, True),
        ({"host": "speech.example", "password": "sk-secret", "extra": {"allow_http": "false"}}, True),
        ({"host": "speech.example"}, False),
        ({"host": "speech.example", "password": "sk-secret", "schema": "https"}, False),
        ({"host": "https://speech.example", "password": "sk-secret"}, False),
        ({"host": "127.0.0.1", "port": 8000, "password": "sk-secret"}, False),
        ({"host": "http://localhost:8000", "password": "sk-secret"}, False),
        ({"host": "speech.example", "password": "sk-secret", "extra": {"allow_http": True}}, False),
    ],
)
def test_a_key_goes_to_another_machine_by_https_only(
    monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], refused: bool
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SPEECH", json.dumps({"conn_type": "http", **connection}))
    if refused:
        with pytest.raises(
            InsecureEndpointError, match=r"'speech' would send its secrets to .* allow_http"
        ) as caught:
            speech_server("speech")
        assert "sk-secret" not in str(caught.value)
    else:
        assert "allow_http" not in speech_server("speech").session.headers


@pytest.mark.slow
def test_a_real_recogniser_behind_the_protocol_gives_the_same_words(
    scripted: Scripted, http: HttpEngine, engine: WhisperEngine, video: Path, tmp_path: Path
) -> None:
    def hears(_: Upload, audio: bytes) -> dict[str, Any]:
        path = tmp_path / "upload.wav"
        path.write_bytes(audio)
        heard = transcribe(path, engine, TINY)
        return {
            "language": "english",
            "text": heard.text,
            "words": [
                {"word": word.text.strip(" .,!?"), "start": word.start, "end": word.end}
                for segment in heard.segments
                for word in segment.words
            ],
            "segments": [
                {"start": segment.start, "end": segment.end, "text": f" {segment.text}"}
                for segment in heard.segments
            ],
        }

    scripted.hears = hears
    direct = transcribe(video, engine, TINY)
    options = SpeechOptions(engine="http", model="tiny.en")
    served = transcribe(video, http, options)
    assert served.text == direct.text
    assert served.text
    assert served.language == "en"
    assert [round(word.start, 2) for segment in served.segments for word in segment.words] == [
        round(word.start, 2) for segment in direct.segments for word in segment.words
    ]
