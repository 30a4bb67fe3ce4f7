"""Nothing that is said is passed over: quiet voices after loud ones, and what follows a pause."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import word_error_rate
from tests.speech.conftest import Transcribe, WriteWav, decode
from vod.speech.audio import SAMPLE_RATE
from vod.speech.pieces import Piece, Stretch, cut, find_speech, missed, restored, sounds_at

SAMPLES = Path(__file__).parent.parent.parent / "samples"


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def quiet(sound: np.ndarray) -> np.ndarray:
    """As a person far from the microphone: 40 dB less, with some noise of the room."""
    noise = np.random.default_rng(1).normal(size=len(sound)).astype(np.float32)
    return 0.01 * (sound + 0.05 * noise)


@pytest.fixture(scope="module")
def voices() -> list[np.ndarray]:
    return [decode(SAMPLES / name) for name in ("library.mp4", "lake.mov", "train.mkv")]


def seconds(stretches: list[Stretch], start: float, end: float) -> float:
    """How much of this time is taken for speech."""
    first, last = start * SAMPLE_RATE, end * SAMPLE_RATE
    return sum(max(0, min(each.end, last) - max(each.start, first)) for each in stretches) / SAMPLE_RATE


def noise(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(2).normal(size=int(seconds * SAMPLE_RATE)).astype(np.float32)


def applause(seconds: float) -> np.ndarray:
    claps = np.abs(np.random.default_rng(3).normal(size=int(seconds * 40) + 1)).repeat(SAMPLE_RATE // 40)
    return 2 * noise(seconds) * claps[: int(seconds * SAMPLE_RATE)].astype(np.float32)


@pytest.mark.parametrize("follows", [False, True], ids=["at the end", "in the middle"])
@pytest.mark.parametrize("before", ["voice", "noise", "applause", "voice and noise", "voice and applause"])
def test_a_quiet_voice_after_something_loud(voices: list[np.ndarray], before: str, follows: bool) -> None:
    voice = np.concatenate(voices[:2] * 3)
    sounds = {"voice": voice, "noise": noise(20), "applause": applause(20)}
    loud, question = np.concatenate([sounds[name] for name in before.split(" and ")]), quiet(voices[2])
    parts = [loud, silence(2), question, *([silence(2), voice] if follows else [])]
    found = find_speech(np.concatenate(parts), {})
    start = len(loud) / SAMPLE_RATE + 2
    assert seconds(found, start, start + len(question) / SAMPLE_RATE) > 4
    assert seconds(found, start - 1.3, start - 0.7) < 0.1, "the pause is none"
    assert all(a.end <= b.start for a, b in pairwise(found))


def test_what_is_searched_again_is_not_invented(voices: list[np.ndarray]) -> None:
    """Hum, noise and tones after a voice are no speech, neither at the first nor at the second look."""
    time = np.arange(20 * SAMPLE_RATE) / SAMPLE_RATE
    for sound in (
        silence(20),
        0.3 * np.sin(2 * np.pi * 50 * time),
        0.2 * np.sin(2 * np.pi * 440 * time),
        0.05 * np.random.default_rng(1).normal(size=len(time)),
    ):
        found = find_speech(np.concatenate([voices[0], sound]).astype(np.float32), {})
        assert seconds(found, len(voices[0]) / SAMPLE_RATE + 1, 60) < 0.5


def test_silence_has_no_speech() -> None:
    assert find_speech(silence(5), {}) == []
    assert find_speech(silence(0), {}) == []


@given(st.lists(st.tuples(st.floats(0.1, 30), st.floats(0.0, 20)), max_size=40))
def test_pieces_hold_all_speech_in_its_order(given: list[tuple[float, float]]) -> None:
    stretches, at = list[Stretch](), 0
    for length, pause in given:
        start = at + int(pause * 100)
        at = start + int(length * 100)
        stretches.append(Stretch(start * SAMPLE_RATE // 100, at * SAMPLE_RATE // 100))
    samples = np.arange(at * SAMPLE_RATE // 100, dtype=np.float32)
    pieces = list(cut(samples, stretches))
    expected = [samples[each.start : each.end] for each in stretches]
    assert np.array_equal(
        np.concatenate([*(piece.samples for piece in pieces), silence(0)]),
        np.concatenate([*expected, silence(0)]),
    )
    assert all(len(piece.samples) <= 30 * SAMPLE_RATE for piece in pieces)
    assert len(pieces) <= len(stretches)
    for piece in pieces:
        first = restored(piece.offset + 1e-4, stretches) * SAMPLE_RATE
        assert first == pytest.approx(piece.samples[0], abs=SAMPLE_RATE * 2e-4)


def spoken(*pairs: tuple[float, float]) -> tuple[np.ndarray, list[Stretch]]:
    """Stretches from second to second."""
    stretches = [Stretch(int(a * SAMPLE_RATE), int(b * SAMPLE_RATE)) for a, b in pairs]
    return np.zeros(stretches[-1].end, np.float32), stretches


def test_pieces_are_few_and_part_where_the_pause_is_long() -> None:
    talk = [(at, at + 2.8) for at in range(0, 90, 3)]  # 84 s of speech
    assert len(list(cut(*spoken(*talk)))) == 3
    scenes = [(0.0, 9.0), (9.4, 15.0), (25.0, 33.0), (33.5, 38.0)]
    assert [round(piece.offset, 1) for piece in cut(*spoken(*scenes))] == [0.0, 14.6]
    full = [(0.0, 9.0), (10.0, 19.0), (21.5, 30.0), (30.2, 39.0)]
    assert [round(piece.offset, 1) for piece in cut(*spoken(*full))] == [0.0, 18.0], "not where it is full"


def said(*times: tuple[float, float]) -> list[SimpleNamespace]:
    return [SimpleNamespace(start=start, end=end) for start, end in times]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (said(), []),
        (said((100, 101), (101, 104), (105.5, 106.5), (107, 110)), [(101 + 1, 105.5), (108, 110)]),
        (said((102.5, 103), (103.2, 109.9)), [(100, 102.5), (104.2, 110)]),
        (said((100.1, 105), (101, 102), (103, 104), (105, 106), (107, 107.5), (108.9, 109.4)), []),
    ],
    ids=["nothing at all", "between and at the end", "at the beginning", "nothing missed"],
)
def test_what_no_word_covers(words: list[SimpleNamespace], expected: list[tuple[float, float]]) -> None:
    piece = Piece(100.0, np.arange(10 * SAMPLE_RATE, dtype=np.float32))
    left = list(missed(piece, words))
    assert [(each.offset, each.end) for each in left] == [pytest.approx(times) for times in expected]
    for each in left:
        assert each.samples[0] == round((each.offset - 100) * SAMPLE_RATE)


@pytest.mark.slow
def test_all_of_them_are_heard(
    voices: list[np.ndarray], hear: Transcribe, write_wav: WriteWav, samples: dict[str, str]
) -> None:
    loud, question = np.concatenate(voices[:2] * 3), quiet(voices[2])
    audio = write_wav("talk.wav", np.concatenate([loud, silence(3), question, silence(3), voices[0]]))
    names = ["library.mp4", "lake.mov"] * 3 + ["train.mkv", "library.mp4"]
    transcript = hear(audio)
    assert word_error_rate(transcript.text, " ".join(samples[name] for name in names)) < 0.1
    asked = [each for each in transcript.segments if 54 < each.start < 62]
    assert asked, "in its time"


@pytest.mark.parametrize(
    ("silent", "noise", "begins"), [(0.64, 0.0, 0.64), (0.64, 0.002, 0.64), (0.1, 0.0, 0.0), (0.64, 0.1, 0.0)]
)
def test_a_word_begins_where_it_sounds(silent: float, noise: float, begins: float) -> None:
    """Not in the silence before it, unless that is short, or no silence."""
    sound = 0.3 * np.sin(np.arange(SAMPLE_RATE) / 5)
    sound[: int(silent * SAMPLE_RATE)] = 0
    sound += noise * np.random.default_rng(1).normal(size=len(sound))
    samples = np.concatenate([silence(2), sound.astype(np.float32), silence(1)])
    assert sounds_at(samples, 2.0, 3.0) == pytest.approx(2.0 + begins, abs=0.02)


def test_a_word_without_samples_stays_where_it_is() -> None:
    assert sounds_at(silence(1), 0.2, 0.2) == 0.2
    assert sounds_at(silence(1), 0.2, 0.9) == 0.2
    assert sounds_at(silence(1), 5.0, 6.0) == 5.0
