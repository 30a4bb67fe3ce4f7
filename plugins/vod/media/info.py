"""What is in a media file, read in-process with PyAV."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
from av.stream import Disposition

from vod import containers
from vod.media.errors import MediaError, TruncatedMediaError, UnreadableMediaError
from vod.media.integrity import lost_bytes
from vod.media.languages import canonical
from vod.media.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from av.container import InputContainer

MAX_TRACKS = 256
"""Tracks of all kinds in one file; more is an attack or an accident."""

UNKNOWN_CODEC = "unknown"

DISPOSITIONS = tuple(mark.name for mark in Disposition if mark.name)
"""What a track may be marked as, in ffmpeg's words."""

_LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "tta", "ape", "truehd", "mlp")

OPEN_OPTIONS = {**containers.OPEN_OPTIONS, "max_streams": str(MAX_TRACKS)}
"""Limits for opening a file, the same for PyAV and ffmpeg."""

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
    :param readable: Whether its decoder is one of :data:`vod.containers.DECODERS`.
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
    dispositions: tuple[str, ...] = ()

    def speaks(self, language: str) -> bool:
        """Whether this track is in *language*, an ISO 639 code; never when the file does not say."""
        return self.language is not None and canonical(self.language) == canonical(language)

    def __str__(self) -> str:
        title = f" “{self.title}”" if self.title else ""
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
    """

    container: str
    duration: float | None
    size: int
    bit_rate: int | None
    title: str | None
    audio: tuple[AudioTrack, ...]
    video: VideoTrack | None
    comment: str | None = None


def probe(source: Path, *, limits: Limits | None = None) -> MediaInfo:
    """Read the headers of *source*.

    :param limits: When to stop; after a minute when omitted.
    :raises UnreadableMediaError: it is missing, not a regular file, not permitted, empty, or no media.
    :raises TruncatedMediaError: so much of its end is missing that it cannot be opened.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    """
    try:
        size = _regular_file_size(source)
        with open_media(source, limits or Limits(PROBE_TIMEOUT)) as container:
            tags = _tags(container)
            return MediaInfo(
                container=_container_name(container.format.name, source),
                duration=container.duration / av.time_base if container.duration else None,
                size=size,
                bit_rate=container.bit_rate or None,
                title=tags.get("title") or None,
                comment=tags.get("comment") or None,
                audio=tuple(_audio_track(container, index) for index in range(len(container.streams.audio))),
                video=_video_track(container),
            )
    except MediaError as error:
        error.asset = error.asset or printable(source)
        raise


@contextlib.contextmanager
def open_media(source: Path, limits: Limits, demuxer: str | None = None) -> Iterator[InputContainer]:
    """Open *source* for reading, within the limits that ffmpeg gets too.

    :param demuxer: ffmpeg's name of the format, when it is known and need not be guessed.
    :raises UnreadableMediaError: it is no media that is read here.
    :raises TruncatedMediaError: so much of its end is missing that it cannot be opened.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say, at the latest at the end.
    """
    try:
        file = _LimitedFile(source, limits)
    except PermissionError as error:
        raise UnreadableMediaError(
            "The file may not be read by this process.", remedy="Give this process permission to read it."
        ) from error
    except OSError as error:
        raise UnreadableMediaError(f"The file cannot be opened: {error.strerror}.") from error
    with contextlib.closing(file):
        try:
            container = av.open(
                file,
                mode="r",
                format=demuxer,
                # Without "replace" one byte of Latin-1 in a title makes the whole file unreadable.
                metadata_errors="replace",
                options=OPEN_OPTIONS,
            )
        except (OSError, ValueError, av.FFmpegError) as error:
            file.check()
            if lost := lost_bytes(source, slack=0):
                raise TruncatedMediaError(
                    f"The file is cut off: at least {lost} bytes are missing, and nothing opens without them."
                ) from error
            raise UnreadableMediaError("This is not a video or audio file that can be read.") from error
        with container:
            yield container
            file.check()


class _LimitedFile:
    """A file that ends when its limits are reached.

    PyAV reading by itself can be busy for minutes in a damaged or sparse file, deaf to Ctrl-C and to being
    cancelled. It swallows what is raised while it reads, so that is kept for :meth:`check`.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self._file = path.open("rb", buffering=0)
        self._limits = limits
        self._failure: BaseException | None = None
        self.tell = self._file.tell
        self.close = self._file.close

    def read(self, size: int) -> bytes:
        if self._failure is None:
            try:
                self._limits.check()
                return self._file.read(size) or b""
            except BaseException as error:  # noqa: BLE001
                self._failure = error
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, OverflowError, ValueError):
            return -1  # a damaged file points anywhere; PyAV would print a traceback

    def check(self) -> None:
        """Raise what ended the file early."""
        if self._failure is not None:
            raise self._failure


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


def _tags(container: InputContainer) -> dict[str, str]:
    """The tags of the whole file, by lower-case name; Ogg has them in its first track."""
    ogg = (
        container.streams.audio[0].metadata
        if "ogg" in container.format.name and container.streams.audio
        else {}
    )
    return {name.lower(): text for name, text in {**ogg, **container.metadata}.items()}


def _audio_track(container: InputContainer, index: int) -> AudioTrack:
    stream = container.streams.audio[index]
    context = stream.codec_context  # None when no decoder is known
    language = (stream.language or "und").lower()
    codec = context.codec.canonical_name if context else UNKNOWN_CODEC
    readable = bool(context and context.codec.name in containers.DECODERS)
    start = _start(container, stream)
    return AudioTrack(
        index=index,
        codec=codec,
        sample_rate=(context.sample_rate or None) if context else None,
        channels=(context.layout.nb_channels or None) if context else None,
        bit_rate=(context.bit_rate or None) if context else None,
        language=None if language == "und" else language,
        default=bool(stream.disposition & Disposition.default),
        title=stream.metadata.get("title") or None,
        duration=_duration(stream, start),
        start=start,
        readable=readable,
        bits=context.format.bits if context and context.format and codec.startswith(_LOSSLESS) else None,
        dispositions=tuple(mark.name for mark in Disposition if mark.name and mark & stream.disposition),
    )


def _start(container: InputContainer, stream: av.AudioStream | av.VideoStream) -> float:
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base) - (container.start_time or 0) / av.time_base


def _duration(stream: av.AudioStream, start: float) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska keeps the track's end in a tag, DURATION or DURATION-eng: 00:00:10.025000000
    tag = next((value for key, value in stream.metadata.items() if key.startswith("DURATION")), "")
    hours, _, rest = tag.partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return max(int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start, 0.0)
    except ValueError:
        return None


def _video_track(container: InputContainer) -> VideoTrack | None:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            context, start = stream.codec_context, _start(container, stream)
            if context is None:
                return VideoTrack(codec=UNKNOWN_CODEC, width=0, height=0, start=start)
            return VideoTrack(
                codec=context.codec.canonical_name, width=context.width, height=context.height, start=start
            )
    return None
