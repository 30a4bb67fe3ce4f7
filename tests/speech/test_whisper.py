"""What goes wrong in recognition costs one audio, says why, and loses no more than a window."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.media.conftest import ffmpeg
from vod.speech import SpeechOptions, UnusableModelError, resolve_model
from vod.speech.audio import SAMPLE_RATE
from vod.speech.engines import Watch
from vod.speech.engines.whisper import WhisperEngine
from vod.speech.errors import (
    CancelledError,
    OutOfMemoryError,
    RecogniserCrashedError,
    RecognitionTimeoutError,
    UnsupportedLanguageError,
)
from vod.speech.languages import OF_WHISPER
from vod.speech.passages import Passage, from_lines, to_lines
from vod.speech.recogniser import is_foreign, punctuated, without_loops
from vod.speech.transcribing import doubts, transcribe
from vod.speech.transcription import Word

from .conftest import TINY, Transcribe, WriteWav, decode


@pytest.fixture
def own() -> WhisperEngine:
    """An engine that the test may break."""
    return WhisperEngine()


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vod.speech.audio.WINDOW", 8.0)
    monkeypatch.setattr("vod.speech.audio._SEARCH", 4.0)


@pytest.fixture
def long(video: Path, write_wav: WriteWav) -> Path:
    """Three windows, with speech in each."""
    speech = np.concatenate([decode(video), np.zeros(SAMPLE_RATE, np.float32)])
    return write_wav("long.wav", np.tile(speech, 3))


@pytest.mark.slow
def test_a_killed_process_costs_one_audio(own: WhisperEngine, video: Path) -> None:
    def kill(_: float) -> None:
        os.kill(own.pid or 0, signal.SIGKILL)

    own.check(TINY)
    os.kill(own.pid or 0, signal.SIGKILL)
    with pytest.raises(RecogniserCrashedError, match=r"SIGKILL.*memory") as caught:
        transcribe(video, own, TINY)
    assert caught.value.retryable
    assert transcribe(video, own, TINY).text, "the next gets a process of its own"
    own.close()


def test_what_is_recognised_elsewhere_is_checked_without_model_and_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere = WhisperEngine(elsewhere=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    elsewhere.check(SpeechOptions(model="/gpu/ours.en", language="yue", vad={"threshold": 0.5}))
    assert elsewhere.pid is None
    with pytest.raises(UnsupportedLanguageError, match="only English"):
        elsewhere.check(SpeechOptions(model="org/whisper-small.en", language="de"))
    with pytest.raises(UnsupportedLanguageError, match="does not know the language 'xx'"):
        elsewhere.check(SpeechOptions(model="large-v3", language="xx"))


def test_whispers_languages_are_those_of_its_library() -> None:
    tokenizer = pytest.importorskip("faster_whisper.tokenizer")
    assert sorted(OF_WHISPER) == sorted(tokenizer._LANGUAGE_CODES)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.slow
def test_a_retry_goes_on_behind_the_last_window(own: WhisperEngine, long: Path) -> None:
    whole = transcribe(long, own, TINY)
    kept: list[str] = []

    def heard(_: float) -> None:
        if len(kept) == 1:
            os.kill(own.pid or 0, signal.SIGKILL)

    with pytest.raises(RecogniserCrashedError):
        transcribe(long, own, TINY, keep=lambda done: kept.append(to_lines(done)), watch=Watch(heard=heard))
    done = from_lines(kept[-1] + '{"start": 3')
    assert len(done) == len(kept) >= 1
    again: list[float] = []
    resumed = transcribe(long, own, TINY, done=done, watch=Watch(heard=again.append))
    assert again[0] > done[-1].end, "nothing is heard twice"
    assert resumed == whole
    own.close()


def test_lines_with_a_hole_count_up_to_it() -> None:
    first, third = Passage(start=0, end=8), Passage(start=16, end=24)
    assert from_lines(to_lines([first, third])) == [first]
    assert from_lines(to_lines([third])) == []
    sums = [Passage(start=0, end=0.1 + 0.2), Passage(start=0.3, end=0.6)]
    assert from_lines(to_lines(sums)) == sums, "what is added up is not always what is divided"


@pytest.mark.slow
def test_too_little_memory(own: WhisperEngine, video: Path) -> None:
    with pytest.raises((OutOfMemoryError, RecogniserCrashedError, UnusableModelError)):
        transcribe(video, own, replace(TINY, memory_limit=150_000_000))
    assert own.pid is None
    assert transcribe(video, own, TINY).text
    own.close()


def test_a_hang_ends_with_the_time_limit(own: WhisperEngine, video: Path) -> None:
    own.check(TINY)
    os.kill(own.pid or 0, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(RecognitionTimeoutError):
        transcribe(video, own, replace(TINY, time_limit=1.0))
    assert time.monotonic() - started < 10
    assert own.pid is None


def test_cancelled_within_two_seconds(own: WhisperEngine, video: Path) -> None:
    own.check(TINY)
    os.kill(own.pid or 0, signal.SIGSTOP)  # as deep in native code as can be
    cancelled = threading.Event()
    at: list[float] = []

    def cancel() -> None:
        at.append(time.monotonic())
        cancelled.set()

    timer = threading.Timer(0.5, cancel)
    timer.start()
    with pytest.raises(CancelledError):
        transcribe(video, own, TINY, watch=Watch(cancelled=cancelled.is_set))
    assert time.monotonic() - at[0] < 2
    assert own.pid is None


def test_the_process_ends_with_its_caller(video: Path) -> None:
    code = (
        "import sys, time; from vod.speech import SpeechOptions; "
        "from vod.speech.engines.whisper import WhisperEngine; "
        "engine = WhisperEngine(); engine.check(SpeechOptions(model='tiny.en')); "
        "print(engine.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as caller:
        assert caller.stdout is not None
        pid = int(caller.stdout.readline())
        os.kill(pid, 0)
        caller.kill()
    deadline = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_truncated_model(tmp_path: Path, own: WhisperEngine) -> None:
    for file in resolve_model("tiny.en").iterdir():
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data[: len(data) // 2] if file.name == "model.bin" else data)
    with pytest.raises(UnusableModelError, match="cannot be loaded"):
        own.check(SpeechOptions(model=str(tmp_path)))


def test_it_sees_no_secret(own: WhisperEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SECRET", "huaweicloud://ak:sk@")
    own.check(TINY)
    assert b"AIRFLOW" not in Path(f"/proc/{own.pid}/environ").read_bytes()
    own.close()


@pytest.mark.slow
def test_an_english_model_meets_german(hear: Transcribe, video: Path, tmp_path: Path) -> None:
    """The second track of a sample: a synthetic voice, whose language no model is sure of."""
    german = tmp_path / "german.wav"
    ffmpeg("-i", video.with_name("train.mkv"), "-map", "0:a:1", german)
    assert doubts(hear(german))
    assert not doubts(hear(video))


def test_the_words_betray_another_language() -> None:
    def said(probability: float) -> list[list[Word]]:
        return [[replace(word(" la"), probability=probability)] * 20]

    assert not is_foreign(said(0.9), 10.0)
    assert is_foreign(said(0.4), 10.0)
    assert is_foreign(said(0.9), 60.0)
    assert is_foreign([], 60.0)


@pytest.mark.slow
def test_a_modulated_hum_is_no_text(hear: Transcribe, write_wav: WriteWav) -> None:
    at = np.arange(20 * SAMPLE_RATE) / SAMPLE_RATE
    carrier = sum(np.sin(2 * np.pi * 110 * n * at) / n for n in range(1, 8))
    hum = 0.2 * carrier * (1 + np.sin(2 * np.pi * 4 * at)) * (np.sin(2 * np.pi * 0.5 * at) > -0.3)
    assert hear(write_wav("hum.wav", hum)).text == ""


def word(text: str) -> Word:
    return Word(start=0.0, end=0.1, text=text, probability=0.9)


def test_loops_are_cut_and_counted() -> None:
    said = ["Er", " kam", *[" von", " mir,"] * 13, " her."]
    kept, cut = without_loops([word(text) for text in said])
    assert "".join(each.text for each in kept) == "Er kam von mir, her."
    assert cut == 12
    twice = [word(text) for text in [" no", " no", " really"]]
    assert without_loops(twice) == (twice, 0), "people say things twice"


@pytest.mark.parametrize("asked", [{"device": "cuda"}, {"device": "cpu", "compute_type": "float16"}])
def test_what_this_machine_does_not_have_is_not_the_models_fault(asked: dict[str, str]) -> None:
    engine = WhisperEngine()
    try:
        with pytest.raises(UnusableModelError) as caught:
            engine.check(SpeechOptions(model="tiny.en", **asked))
    finally:
        engine.close()
    assert "device and compute_type" in caught.value.remedy


PROMPT = "Well, let us begin."


def heard(text: str, sureness: float) -> list[Any]:
    from faster_whisper import transcribe as theirs

    words = [
        theirs.Word(start=at, end=at + 0.5, word=f" {word}", probability=0.9)
        for at, word in enumerate(text.split())
    ]
    empty = dict.fromkeys(field.name for field in fields(theirs.Segment))
    return [theirs.Segment(**{**empty, "text": text, "words": words, "avg_logprob": sureness})]


@pytest.mark.parametrize(
    ("own", "prompted", "sureness", "expected"),
    [
        ("we go to town then we eat", "We go to town. Then, we eat.", -0.5, "We go to town. Then, we eat."),
        (
            "we go two towns then we eat",
            "Oh, we go to town. Then we eat.",
            -0.5,
            "we go two towns Then we eat.",
        ),
        ("we go two towns then we eat", "We go to town. Then we eat.", -0.1, "We go to town. Then we eat."),
        ("we go to town", "We go to town. Let us begin.", -0.1, "We go to town."),
        ("we go to town", "Well, let us begin.", -0.1, "we go to town"),
        ("we go to town", "", -0.1, "we go to town"),
    ],
)
def test_a_prompt_gives_punctuation_and_no_words(
    own: str, prompted: str, sureness: float, expected: str
) -> None:
    [segment] = punctuated(heard(own, -0.2), heard(prompted, sureness), PROMPT)
    assert "".join(word.word for word in segment.words).strip() == expected
