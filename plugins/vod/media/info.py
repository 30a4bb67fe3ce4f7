"""What is in a media file, read in the sandbox with PyAV."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vod import allowed_formats, sandbox
from vod.media.errors import (
    CrashedReaderError,
    MediaError,
    ReaderNotStartedError,
    TooLargeError,
    TruncatedMediaError,
    UnreadableMediaError,
)
from vod.media.integrity import lost_bytes, playlist_kind
from vod.media.languages import canonical, matches
from vod.media.limits import Limits

if TYPE_CHECKING:
    from pathlib import Path

MAX_TRACKS = 256
"""Tracks of all kinds in one file; more is an attack or an accident."""

_MAX_LENGTH_TITLE = 80
"""Characters of a track's title where tracks are listed."""

UNKNOWN_CODEC = "unknown"

DISPOSITIONS = (
    *("default", "dub", "original", "comment", "lyrics", "karaoke", "forced", "hearing_impaired"),
    *("visual_impaired", "clean_effects", "attached_pic", "timed_thumbnails", "non_diegetic", "captions"),
    *("descriptions", "metadata", "dependent", "still_image", "multilayer"),
)
"""What a track may be marked as, in ffmpeg's words."""


def open_options() -> dict[str, str]:
    """Limits for opening a file, the same for PyAV and ffmpeg."""
    return {**allowed_formats.open_options(), "max_streams": str(MAX_TRACKS)}


PROBE_TIMEOUT = 60.0
"""Seconds for reading headers."""


@dataclass(frozen=True, kw_only=True)
class AudioTrack:
    """One audio track of a source.

    :param index: Place among the audio tracks, from 0 (ffmpeg's ``0:a:index``).
    :param codec: ffmpeg's name of the codec, for example ``aac``; ``unknown`` when it has none for it.
    :param sample_rate: Hz.
    :param bit_rate: bit/s.
    :param language: ISO 639-2 code as written in the file, or ``None``.
    :param default: Whether the file marks this track as the one to play.
    :param duration: Seconds that the file claims for this track. Headers lie: compare with what was written.
    :param start: Seconds on the file's clock at which it starts, on which the earliest track starts at 0.
    :param bits: Bits of a sample, of a codec that loses nothing.
    :param readable: Whether its decoder is one of :data:`vod.allowed_formats.DECODERS`.
    :param places: Where each channel is heard, in ffmpeg's words: ``FL``, ``FR``, ``FC``; ``NONE`` when the
        file does not say.
    :param encrypted: Whether it is encrypted, so that there is nothing to be heard without a key.
    :param partly_encrypted: Whether this is so of a piece of it, which is lost.
    :param pauses: Whether its edit list has silence in the middle, where ffmpeg plays other sound again.
    :param dispositions: What the file marks it as, in ffmpeg's words, for example ``default``, ``comment``.
    """

    index: int
    codec: str
    sample_rate: int | None
    channels: int | None
    bit_rate: int | None
    language: str | None
    default: bool
    title: str | None
    duration: float | None
    start: float = 0.0
    bits: int | None = None
    readable: bool = True
    places: tuple[str, ...] = ()
    encrypted: bool = False
    partly_encrypted: bool = False
    pauses: bool = False
    dispositions: tuple[str, ...] = ()

    def speaks(self, language: str) -> bool:
        """Whether this track is in *language*, a code or a name; ``und`` is what the file does not say."""
        if self.language is None:
            return canonical(language) == "und"
        return matches(self.language, language)

    def __str__(self) -> str:
        title = f" “{self.title[:_MAX_LENGTH_TITLE]}”" if self.title else ""
        return f"{self.language or 'no language'} (track {self.index}, {self.codec}{title})"


@dataclass(frozen=True, kw_only=True)
class VideoTrack:
    """The first picture track that is not a cover; *width* and *height* in pixels, *start* as in audio."""

    codec: str
    width: int
    height: int
    start: float = 0.0


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a file says about itself.

    :param container: Short name, for example ``mp4``, ``mkv``, ``mpegts``.
    :param duration: Seconds, the longest track.
    :param size: Bytes.
    :param bit_rate: bit/s of everything together.
    :param not_decoded: Codecs of sound that is there and that no decoder exists for, keys of
        :data:`vod.media.structure.WITHOUT_DECODER`.
    :param not_found: Numbers (PID in MPEG-TS) of tracks of sound that the file names later than ffmpeg looks.
    :param starts_late: Whether there is sound that ffmpeg does not find, as it starts after what it probes.
    """

    container: str
    duration: float | None
    size: int
    bit_rate: int | None
    title: str | None
    audio: tuple[AudioTrack, ...]
    video: VideoTrack | None
    comment: str | None = None
    not_decoded: tuple[str, ...] = ()
    not_found: tuple[int, ...] = ()
    starts_late: bool = False


def probe(source: Path, *, limits: Limits | None = None) -> MediaInfo:
    """Read the headers of *source*.

    :param limits: When to stop; after a minute when omitted.
    :raises UnreadableMediaError: it is missing, not a regular file, not permitted, empty, or no media.
    :raises TruncatedMediaError: so much of its end is missing that it cannot be opened.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    """
    try:
        size = _regular_file_size(source)
        found = read_media("probe", source, limits or Limits(PROBE_TIMEOUT))
        if isinstance(found, dict):
            found["size"] = size
            found["container"] = _container_name(str(found.get("container")), source)
        try:
            info = sandbox.build(MediaInfo, found)
        except sandbox.CrashedError as error:
            raise CrashedReaderError("The decoder crashed while it read this file.") from error
        if len(info.audio) > MAX_TRACKS:
            raise UnreadableMediaError(f"The file has more than {MAX_TRACKS} tracks.")
    except MediaError as error:
        error.asset = error.asset or printable(source)
        raise
    return info


def read_media(function: str, source: Path, limits: Limits, **arguments: Any) -> Any:
    """Call a function of :mod:`vod.media.sandboxed` on *source*, in the sandbox.

    :returns: what it answers, to be checked with :func:`vod.sandbox.build`.
    :raises UnreadableMediaError: it is no media that is read here, or what reads it crashed.
    :raises TruncatedMediaError: so much of its end is missing that it cannot be opened.
    :raises TooLargeError: reading it takes too much memory.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    """
    limits.check()
    try:
        return sandbox.call(
            "vod.media.sandboxed", function, source, check=limits.check, options=open_options(), **arguments
        )
    except PermissionError as error:
        raise UnreadableMediaError(
            "The file may not be read by this process.", remedy="Give this process permission to read it."
        ) from error
    except OSError as error:
        raise UnreadableMediaError(f"The file cannot be opened: {error.strerror}.") from error
    except sandbox.RefusedError as error:
        if error.kind == "no_track":
            raise UnreadableMediaError("The file has no such audio track.") from error
        if kind := playlist_kind(source):
            raise UnreadableMediaError(
                f"This is a playlist ({kind}), which only names other files.",
                remedy="Name the video itself, or have the playlist's pieces joined into one file.",
            ) from error
        if lost := lost_bytes(source, slack=0):
            raise TruncatedMediaError(
                f"The file is cut off: at least {lost} bytes are missing, and nothing opens without them."
            ) from error
        raise UnreadableMediaError("This is not a video or audio file that can be read.") from error
    except sandbox.OutOfMemoryError as error:
        raise TooLargeError(
            f"Reading the file takes more than {sandbox.MEMORY / 1e9:.3g} GB of memory."
        ) from error
    except sandbox.CrashedError as error:
        raise CrashedReaderError("The decoder crashed while it read this file.") from error
    except sandbox.NotStartedError as error:
        raise ReaderNotStartedError(str(error)) from error


def printable(path: Path) -> str:
    """*path* as text that can always be printed and sent: file names need not be UTF-8."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _regular_file_size(source: Path) -> int:
    try:
        status = source.stat()
    except FileNotFoundError as error:
        raise UnreadableMediaError("The file does not exist.", remedy="Check its name and folder.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableMediaError(f"The file cannot be reached: {reason}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise UnreadableMediaError("This is a directory.", remedy="Name the media files in it one by one.")
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableMediaError("This is a pipe, socket or device.", remedy="Name a regular file.")
    if status.st_size == 0:
        raise UnreadableMediaError("The file is empty.", remedy="Copy or upload the file again, completely.")
    if not os.access(source, os.R_OK):
        raise UnreadableMediaError(
            "The file may not be read by this process.", remedy="Give this process permission to read it."
        )
    return status.st_size


def _container_name(demuxer: str, source: Path) -> str:
    """One name of a demuxer's many: ``mov,mp4,m4a,3gp,3g2,mj2`` reads all six alike, only the name tells."""
    names = demuxer.split(",")
    suffix = source.suffix.lower().removeprefix(".")
    if "matroska" in names:
        return "webm" if suffix == "webm" else "mkv"
    if "mp4" in names:
        return suffix if suffix in names else "mp4"
    return names[0]
