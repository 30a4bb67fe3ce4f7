"""The local engine: reads what is in a media file and extracts its audio with ffmpeg."""

from __future__ import annotations

from vod.media.errors import (
    DestinationError,
    EmptyTrackError,
    ExtractionCancelledError,
    ExtractionTimeoutError,
    FfmpegError,
    FfmpegNotFoundError,
    LanguageNotFoundError,
    MediaError,
    NoAudioTrackError,
    NoSpaceError,
    TruncatedMediaError,
    UnreadableMediaError,
    UnsupportedTrackError,
)
from vod.media.extract import EXTENSIONS, Extraction, choose_tracks, extract
from vod.media.probe import AudioTrack, MediaInfo, VideoTrack, probe
from vod.media.process import find_ffmpeg

__all__ = [
    "EXTENSIONS",
    "AudioTrack",
    "DestinationError",
    "EmptyTrackError",
    "Extraction",
    "ExtractionCancelledError",
    "ExtractionTimeoutError",
    "FfmpegError",
    "FfmpegNotFoundError",
    "LanguageNotFoundError",
    "MediaError",
    "MediaInfo",
    "NoAudioTrackError",
    "NoSpaceError",
    "TruncatedMediaError",
    "UnreadableMediaError",
    "UnsupportedTrackError",
    "VideoTrack",
    "choose_tracks",
    "extract",
    "find_ffmpeg",
    "probe",
]
