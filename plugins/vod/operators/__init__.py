"""The operators: videos to audio, audio to text. A task holds a batch of assets; each has its own outcome."""

from __future__ import annotations

from vod.operators.extract import ExtractAudioOperator
from vod.operators.transcribe import TranscribeAudioOperator

__all__ = ["ExtractAudioOperator", "TranscribeAudioOperator"]
