"""Transcription: speech models, recognition with faster-whisper, caption writers.

Importing this is cheap: the libraries for recognition are loaded at the first use.
"""

from __future__ import annotations

from vod.speech.captions import WRITERS, write
from vod.speech.errors import (
    ModelDownloadError,
    ModelNotFoundError,
    SpeechError,
    SpeechNotInstalledError,
    UnreadableAudioError,
    UnsupportedLanguageError,
    UnusableModelError,
)
from vod.speech.models import DEFAULT_MODEL, resolve_model
from vod.speech.options import SpeechOptions
from vod.speech.transcription import Segment, Transcription, Word

__all__ = [
    "DEFAULT_MODEL",
    "WRITERS",
    "ModelDownloadError",
    "ModelNotFoundError",
    "Segment",
    "SpeechError",
    "SpeechNotInstalledError",
    "SpeechOptions",
    "Transcription",
    "UnreadableAudioError",
    "UnsupportedLanguageError",
    "UnusableModelError",
    "Word",
    "resolve_model",
    "write",
]
