from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vod.speech import SpeechOptions, Transcription
from vod.speech.audio import SAMPLE_RATE, windows
from vod.speech.engines.whisper import WhisperEngine
from vod.speech.transcribing import transcribe

Samples = NDArray[np.floating]
WriteWav = Callable[[str, Samples], Path]
Transcribe = Callable[..., Transcription]

TINY = SpeechOptions(model="tiny.en", cpu_threads=1)


@pytest.fixture(scope="session")
def engine() -> Iterator[WhisperEngine]:
    """One loaded model for all tests."""
    engine = WhisperEngine()
    yield engine
    engine.close()


@pytest.fixture
def hear(engine: WhisperEngine) -> Transcribe:
    """Transcribe a file with the small English model, or other options."""

    def hear(audio: Path, options: SpeechOptions = TINY) -> Transcription:
        return transcribe(audio, engine, options)

    return hear


@pytest.fixture
def write_wav(tmp_path: Path) -> WriteWav:
    def write(name: str, samples: Samples) -> Path:
        path = tmp_path / name
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        return path

    return write


def decode(path: Path) -> np.ndarray:
    """All windows of a file, between -1 and 1."""
    return np.concatenate([samples for _, samples in windows(path)]).astype(np.float32) / 32768
