from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vod.speech import Transcriber
from vod.speech.audio import SAMPLE_RATE, windows

Samples = NDArray[np.floating]
WriteWav = Callable[[str, Samples], Path]


@pytest.fixture(scope="session")
def transcriber() -> Transcriber:
    """One loaded model for all tests."""
    transcriber = Transcriber()
    transcriber.prepare()
    return transcriber


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
    """All windows of a file."""
    return np.concatenate([samples for _, samples in windows(path)])
