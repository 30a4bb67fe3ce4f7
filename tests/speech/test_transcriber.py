"""Speech becomes text with times; silence and noise become none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.conftest import word_error_rate
from vod.speech import Transcriber, UnreadableAudioError, UnsupportedLanguageError
from vod.speech.audio import SAMPLE_RATE

from .conftest import WriteWav, decode


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), dtype=np.float32)


@pytest.mark.parametrize("name", ["library.mp4", "train.mkv", "lake.mov"])
def test_sample_word_for_word(
    transcriber: Transcriber, samples: dict[str, str], video: Path, name: str
) -> None:
    audio = video.with_name(name)
    transcription = transcriber.transcribe(audio)
    assert word_error_rate(transcription.text, samples[name]) < 0.2
    assert transcription.language == "en"
    assert transcription.model == "tiny.en"
    assert transcription.duration == pytest.approx(len(decode(audio)) / SAMPLE_RATE, abs=0.001)


def test_segments_are_the_sentences_in_their_place(transcriber: Transcriber, video: Path) -> None:
    transcription = transcriber.transcribe(video)
    assert [segment.text for segment in transcription.segments] == [
        "Welcome to the video library.",
        "Every film in it has a story to tell.",
        "Today we will write it down.",
    ]
    times = [time for segment in transcription.segments for time in (segment.start, segment.end)]
    assert times == sorted(times)
    assert transcription.duration >= times[-1]


def test_long_silences_keep_their_place(transcriber: Transcriber, video: Path, write_wav: WriteWav) -> None:
    speech = decode(video)
    audio = write_wav("gaps.wav", np.concatenate([silence(20), speech, silence(25), speech, silence(30)]))
    transcription = transcriber.transcribe(audio)
    assert len(transcription.segments) == 6
    first, second = transcription.segments[0], transcription.segments[3]
    assert first.start == pytest.approx(20, abs=0.5)
    assert second.start == pytest.approx(20 + len(speech) / SAMPLE_RATE + 25, abs=0.5)


@pytest.mark.parametrize("kind", ["silence", "noise", "hum", "blink"])
def test_where_nobody_speaks_there_is_no_text(
    transcriber: Transcriber, write_wav: WriteWav, kind: str
) -> None:
    time = np.arange(12 * SAMPLE_RATE) / SAMPLE_RATE
    samples = {
        "silence": silence(12),
        "noise": np.random.default_rng(1).normal(0, 0.02, time.size),
        "hum": 0.3 * np.sin(2 * np.pi * 100 * time),
        "blink": silence(0.01),
    }[kind]
    transcription = transcriber.transcribe(write_wav(f"{kind}.wav", samples))
    assert (transcription.text, transcription.segments) == ("", ())
    assert transcription.duration == pytest.approx(samples.size / SAMPLE_RATE)


def test_same_audio_same_text_however_bad_the_audio(
    transcriber: Transcriber, video: Path, write_wav: WriteWav
) -> None:
    speech = decode(video)
    audio = write_wav("noisy.wav", speech + np.random.default_rng(1).normal(0, 0.1, speech.size))
    first = transcriber.transcribe(audio)
    assert first.segments
    assert first == transcriber.transcribe(audio)


def test_language_by_its_regional_name(
    transcriber: Transcriber, video: Path, samples: dict[str, str]
) -> None:
    transcription = transcriber.transcribe(video, language="en_US")
    assert transcription.language == "en"
    assert word_error_rate(transcription.text, samples[video.name]) < 0.2


def test_english_model_refuses_another_language(transcriber: Transcriber, video: Path) -> None:
    with pytest.raises(
        UnsupportedLanguageError, match=r"'tiny.en' knows only English, and 'de' .*multilingual"
    ):
        transcriber.transcribe(video, language="de")
    with pytest.raises(UnsupportedLanguageError):
        transcriber.prepare(language="de")


def test_multilingual_model_names_its_languages() -> None:
    transcriber = Transcriber("large-v3")
    transcriber.__dict__["_whisper"] = SimpleNamespace(supported_languages=["de", "en"])
    transcriber.prepare(language="de-AT")
    with pytest.raises(UnsupportedLanguageError, match=r"does not know the language 'klingon'\. .*de, en"):
        transcriber.prepare(language="klingon")


def test_bad_file_leaves_the_transcriber_usable(
    transcriber: Transcriber, tmp_path: Path, video: Path
) -> None:
    bad = tmp_path / "notes.mp4"
    bad.write_text("not a video")
    with pytest.raises(UnreadableAudioError) as caught:
        transcriber.transcribe(bad)
    assert caught.value.asset == str(bad)
    assert transcriber.transcribe(video).text


def test_windows_change_nothing_but_memory(
    transcriber: Transcriber,
    video: Path,
    samples: dict[str, str],
    write_wav: WriteWav,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Times are those of the whole audio, and each sentence is there once."""
    speech = decode(video)
    audio_file = write_wav("long.wav", np.concatenate([speech, silence(2), speech]))
    monkeypatch.setattr("vod.speech.audio.WINDOW", 7.0)
    monkeypatch.setattr("vod.speech.audio._SEARCH", 4.0)
    parts = transcriber.transcribe(audio_file)
    assert word_error_rate(parts.text, f"{samples[video.name]} {samples[video.name]}") < 0.2
    length = (2 * len(speech)) / SAMPLE_RATE + 2
    assert parts.duration == pytest.approx(length, abs=0.01)
    assert parts.segments[-1].end == pytest.approx(length, abs=1.0)
    times = [word.start for segment in parts.segments for word in segment.words]
    assert times == sorted(times)
