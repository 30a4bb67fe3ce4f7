"""The local engine: reads what is in a media file and extracts its audio with ffmpeg."""

from __future__ import annotations

from vod.media.command import Tags
from vod.media.errors import (
    CorruptFramesError,
    DestinationError,
    DownloadError,
    EmptyTrackError,
    ExtractionCancelledError,
    ExtractionTimeoutError,
    FfmpegError,
    FfmpegNotFoundError,
    LanguageNotFoundError,
    MediaError,
    NoAudioTrackError,
    NoSpaceError,
    TooLargeError,
    TrackNotFoundError,
    TruncatedMediaError,
    UnreadableMediaError,
    UnsupportedTrackError,
)
from vod.media.extract import Extraction, extract, extract_all
from vod.media.formats import EXTENSIONS, FORMATS, SPEECH, Output
from vod.media.limits import Limits
from vod.media.partials import scratch_folder, sweep
from vod.media.probe import AudioTrack, MediaInfo, VideoTrack, probe
from vod.media.process import Ceiling, Progress, find_ffmpeg, inspect
from vod.media.provenance import Written, recognise
from vod.media.tracks import ALL, Selection, choose_tracks

__all__ = [
    "ALL",
    "EXTENSIONS",
    "FORMATS",
    "SPEECH",
    "AudioTrack",
    "Ceiling",
    "CorruptFramesError",
    "DestinationError",
    "DownloadError",
    "EmptyTrackError",
    "Extraction",
    "ExtractionCancelledError",
    "ExtractionTimeoutError",
    "FfmpegError",
    "FfmpegNotFoundError",
    "LanguageNotFoundError",
    "Limits",
    "MediaError",
    "MediaInfo",
    "NoAudioTrackError",
    "NoSpaceError",
    "Output",
    "Progress",
    "Selection",
    "Tags",
    "TooLargeError",
    "TrackNotFoundError",
    "TruncatedMediaError",
    "UnreadableMediaError",
    "UnsupportedTrackError",
    "VideoTrack",
    "Written",
    "choose_tracks",
    "extract",
    "extract_all",
    "find_ffmpeg",
    "inspect",
    "probe",
    "recognise",
    "scratch_folder",
    "sweep",
]
