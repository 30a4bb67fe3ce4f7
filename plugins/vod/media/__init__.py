"""What is in a media file, and its audio extracted with ffmpeg.

Importing this is cheap: the libraries that read media are loaded with the first name that needs them, because
Airflow parses DAG files again and again, and they import storage and operators.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vod.media.ahead import Ahead
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
        NoSpaceError,
        TooLargeError,
        TrackNotFoundError,
        TruncatedMediaError,
        UnreadableMediaError,
        UnsupportedTrackError,
        not_done,
    )
    from vod.media.extraction import extract, extract_all
    from vod.media.formats import EXTENSIONS, FORMATS, SPEECH, Output
    from vod.media.info import AudioTrack, MediaInfo, VideoTrack, probe
    from vod.media.limits import Limits
    from vod.media.partials import partial_beside, scratch_folder, sweep
    from vod.media.process import Ceiling, Progress, find_ffmpeg, inspect
    from vod.media.provenance import Written, recognise
    from vod.media.tracks import ALL, Selection, choose_tracks
    from vod.media.writing import Extraction

_MODULES = (
    # Those that load nothing come first.
    *("errors", "limits", "partials", "formats"),
    *("process", "command", "info", "tracks", "provenance", "ahead", "writing", "extraction"),
)

__all__ = [
    "ALL",
    "EXTENSIONS",
    "FORMATS",
    "SPEECH",
    "Ahead",
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
    "not_done",
    "partial_beside",
    "probe",
    "recognise",
    "scratch_folder",
    "sweep",
]


def __getattr__(name: str) -> Any:
    for module in _MODULES if name in __all__ else ():
        loaded = importlib.import_module(f"{__name__}.{module}")
        if hasattr(loaded, name):
            return getattr(loaded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
