"""From a video to its audio: the right track, verified, and under its final name only when it is whole."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import ffmpeg

from vod.errors import InvalidInputError
from vod.media.errors import (
    DestinationError,
    EmptyTrackError,
    FfmpegError,
    LanguageNotFoundError,
    MediaError,
    NoAudioTrackError,
    NoSpaceError,
    TruncatedMediaError,
    UnsupportedTrackError,
)
from vod.media.integrity import lost_bytes
from vod.media.limits import Limits
from vod.media.measure import measure
from vod.media.probe import (
    OPEN_OPTIONS,
    PROBE_TIMEOUT,
    UNKNOWN_CODEC,
    AudioTrack,
    MediaInfo,
    printable,
    probe,
)
from vod.media.process import Complaints, find_ffmpeg, run
from vod.media.verify import LEAST_SOUND, compare, measure_written, playing_time

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

EXTENSIONS = {"MP3": ".mp3", "AAC": ".m4a"}
"""File name extension of each audio format."""

_DISK_FULL = ("No space left on device", "Disk quota exceeded")
_WRITE_ERRORS = (*_DISK_FULL, "Error closing file", "Error writing trailer", "av_interleaved_write_frame()")

_LONGEST_TITLE = 500
"""Characters; one argument of a command has a limit."""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Audio that was written, as verified in the written file.

    :param audio_format: Format asked for, ``MP3`` or ``AAC``.
    :param codec: Codec in the file, ``mp3`` or ``aac``.
    :param duration: Seconds that play, verified against the packets.
    :param size: Bytes.
    :param sample_rate: Hz.
    :param bit_rate: bit/s.
    :param track: The source's track that this is.
    :param copied: Whether the track was taken over as it was, without encoding it again.
    :param warnings: What was odd and still no reason to fail, one sentence each.
    """

    path: Path
    audio_format: str
    codec: str
    duration: float
    size: int
    sample_rate: int
    channels: int
    bit_rate: int | None
    track: AudioTrack
    copied: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Recipe:
    codec: str
    encoder: str
    muxer: str
    demuxer: str
    muxer_options: dict[str, str]


_RECIPES = {
    "MP3": _Recipe("mp3", "libmp3lame", "mp3", "mp3", {}),
    "AAC": _Recipe("aac", "aac", "ipod", "mov", {"movflags": "+faststart"}),
}


def extract(
    source: Path,
    target: Path,
    *,
    audio_format: str = "MP3",
    language: str | None = None,
    bit_rate: int = 128_000,
    reencode: bool = False,
    timeout: float | None = None,
    expected_duration: float | None = None,
    on_progress: Callable[[float], None] | None = None,
    cancelled: threading.Event | None = None,
) -> Extraction:
    """Write one audio track of *source* to *target*.

    The track is the one in *language*, else the one marked default, else the first; tracks without packets
    are passed over. It is copied when it already has the wanted codec. *target* appears only when it is
    complete and replaces what was there; its folder is created. Nothing else is left, however this ends.

    :param audio_format: ``MP3`` or ``AAC`` (in an MP4 container, ``.m4a``).
    :param language: ISO 639-1 or 639-2 code, any case: ``de``, ``ger`` and ``DEU`` are the same.
    :param bit_rate: bit/s, when it is encoded.
    :param reencode: Encode also where a copy would do.
    :param timeout: Seconds; ten minutes plus the source's duration when omitted.
    :param expected_duration: Seconds that the audio must last at least, when something outside the file
        knows: the only way to notice that an MPEG transport stream was cut.
    :param on_progress: Called in this thread with the fraction done, 0 to 1.
    :param cancelled: Set it, from any thread, to stop.
    :raises vod.errors.InvalidInputError: unknown format, or *target* is *source*.
    :raises NoAudioTrackError: the source has no audio track.
    :raises EmptyTrackError: it has audio tracks, and none has packets.
    :raises LanguageNotFoundError: no audio track is in *language*.
    :raises UnsupportedTrackError: the track's codec is unknown.
    :raises UnreadableMediaError: the source cannot be read.
    :raises TruncatedMediaError: the source's end is missing.
    :raises ExtractionTimeoutError: the time was up.
    :raises ExtractionCancelledError: *cancelled* was set.
    :raises NoSpaceError: the destination is full.
    :raises DestinationError: the destination cannot be written to.
    :raises FfmpegNotFoundError: there is no ffmpeg to run.
    :raises FfmpegError: ffmpeg failed otherwise.
    """
    if audio_format not in _RECIPES:
        raise InvalidInputError(
            f"{audio_format!r} is not an audio format of this engine.",
            remedy=f"Use one of {', '.join(_RECIPES)}.",
        )
    try:
        limits = Limits(PROBE_TIMEOUT if timeout is None else timeout, cancelled)
        info = probe(source, limits=limits)
        if not info.audio and (lost := lost_bytes(source)):
            raise TruncatedMediaError(
                f"The file is cut off: at least {lost} bytes are missing, and no audio track is left."
            )
        tracks = choose_tracks(info, language)
        job = _Job(
            source=source,
            target=target,
            partial=_reserve(source, target),
            info=info,
            audio_format=audio_format,
            bit_rate=bit_rate,
            limits=replace(limits, timeout=600 + (info.duration or 0) if timeout is None else timeout),
            expected_duration=expected_duration,
            on_progress=on_progress,
        )
        try:
            extraction = job.first_with_packets(tracks, reencode=reencode)
            _publish(job.partial, target)
        finally:
            job.partial.unlink(missing_ok=True)
    except (MediaError, InvalidInputError) as error:
        error.asset = error.asset or printable(source)
        raise
    if on_progress is not None:
        on_progress(1.0)
    return extraction


def choose_tracks(info: MediaInfo, language: str | None = None) -> list[AudioTrack]:
    """The audio tracks in the order of preference: only those in *language*, default-flagged first.

    :raises NoAudioTrackError: there is no audio track.
    :raises LanguageNotFoundError: there is none in *language*.
    """
    if not info.audio:
        raise NoAudioTrackError("The file has no audio track.")
    wanted = [track for track in info.audio if language is None or track.speaks(language)]
    if not wanted:
        available = ", ".join(str(track) for track in info.audio)
        raise LanguageNotFoundError(f"No audio track is in the language {language!r}; there is: {available}.")
    return sorted(wanted, key=lambda track: not track.default)


@dataclass(frozen=True, kw_only=True)
class _Job:
    source: Path
    target: Path
    partial: Path
    info: MediaInfo
    audio_format: str
    bit_rate: int
    limits: Limits
    expected_duration: float | None
    on_progress: Callable[[float], None] | None

    @property
    def recipe(self) -> _Recipe:
        return _RECIPES[self.audio_format]

    def first_with_packets(self, tracks: list[AudioTrack], *, reencode: bool) -> Extraction:
        empty: list[str] = []
        for track in tracks:
            extraction = None
            if track.codec == self.recipe.codec and not reencode:
                # Not everything that plays can be copied into another container; then it is encoded.
                with contextlib.suppress(FfmpegError):
                    extraction = self._attempt(track, copy=True)
            try:
                extraction = extraction or self._attempt(track, copy=False)
            except FfmpegError:
                if playing_time(measure(self.source, track.index, limits=self.limits)) >= LEAST_SOUND:
                    raise
                empty.append(f"The file announces audio in {track} and has no packets of it.")
                continue
            return replace(extraction, warnings=(*empty, *extraction.warnings))
        raise EmptyTrackError(" ".join(empty))

    def _attempt(self, track: AudioTrack, *, copy: bool) -> Extraction:
        if track.codec == UNKNOWN_CODEC:
            raise UnsupportedTrackError(f"Audio track {track.index} has a codec that is damaged or unknown.")
        code, complaints = run(
            self._command(track, copy=copy),
            limits=self.limits,
            on_position=self._position_reader(track),
        )
        # ffmpeg 5 ends with success when a full disk kept it from writing the end of an MP3.
        if code != 0 or complaints.mention(*_WRITE_ERRORS):
            raise self._failure(code, complaints)
        recipe, limits = self.recipe, self.limits
        written = measure_written(self.partial, codec=recipe.codec, demuxer=recipe.demuxer, limits=limits)
        warnings = compare(
            self.source,
            self.info,
            track,
            written.duration,
            expected=self.expected_duration,
            complaints=complaints.count,
            limits=limits,
        )
        if complaints.count:
            warnings.append(f"ffmpeg complained {complaints.count} times, at last: {complaints.last[-1]}")
        return Extraction(
            path=self.target,
            audio_format=self.audio_format,
            codec=written.codec,
            duration=round(playing_time(written), 3),
            size=self.partial.stat().st_size,
            sample_rate=written.sample_rate,
            channels=written.channels,
            bit_rate=round(written.size * 8 / written.duration),
            track=track,
            copied=copy,
            warnings=tuple(warnings),
        )

    def _command(self, track: AudioTrack, *, copy: bool) -> list[str]:
        recipe = self.recipe
        options: dict[str, str | int] = {
            "c:a": "copy" if copy else recipe.encoder,
            "f": recipe.muxer,
            # The source's tags may hold a place or a name that nobody meant to publish.
            "map_metadata": -1,
            "map_chapters": -1,
            **recipe.muxer_options,
        }
        if not copy:
            options["b:a"] = self.bit_rate
        if self.info.title:
            options["metadata"] = f"title={self.info.title[:_LONGEST_TITLE]}"
        if track.language:
            options["metadata:s:a:0"] = f"language={track.language}"
        source = ffmpeg.input("SOURCE", **OPEN_OPTIONS)[f"a:{track.index}"]
        output = source.output("PARTIAL", **options)
        quiet = output.global_args("-nostdin", "-v", "repeat+error", "-nostats", "-progress", "pipe:1")
        command: list[str] = quiet.compile(cmd=find_ffmpeg(), overwrite_output=True)
        # "file:" keeps a name from being taken for an option, a protocol or a list. The names come in last,
        # because ffmpeg-python takes only UTF-8.
        names = {"SOURCE": f"file:{self.source}", "PARTIAL": f"file:{self.partial}"}
        return [names.get(argument, argument) for argument in command]

    def _position_reader(self, track: AudioTrack) -> Callable[[float], None] | None:
        whole = track.duration or self.info.duration
        report = self.on_progress
        if report is None or not whole:
            return None
        return lambda position: report(min(position / whole, 0.99))

    def _failure(self, code: int, complaints: Complaints) -> MediaError:
        said = complaints.last[-1] if complaints.last else "it gave no reason"
        if complaints.mention(*_DISK_FULL):
            return NoSpaceError(f"There is no space left for {printable(self.target)}.")
        if lost := lost_bytes(self.source):
            return TruncatedMediaError(f"The file is cut off: its last {lost} bytes are missing, and {said}.")
        if code < 0:
            return FfmpegError(f"ffmpeg was ended by signal {-code}: {said}.", remedy="Run it again.")
        return FfmpegError(f"ffmpeg failed with exit code {code}: {said}.")


def _reserve(source: Path, target: Path) -> Path:
    """Create the hidden file beside *target* that is written first."""
    # The target's own name could be too long to be prefixed.
    partial = target.with_name(f".vod-{os.getpid()}-{secrets.token_hex(6)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise DestinationError(f"{printable(target)} is a directory.", remedy="Name a file in it.")
        if target.exists() and not target.is_file():
            raise DestinationError(f"{printable(target)} is a pipe or device.", remedy="Name a regular file.")
        if target.exists() and target.samefile(source):
            raise InvalidInputError(
                "The audio would overwrite its own source.", remedy="Choose another destination."
            )
        partial.touch(exist_ok=False)
    except OSError as error:
        raise _destination_error(target, error) from error
    return partial


def _publish(partial: Path, target: Path) -> None:
    try:
        partial.replace(target)
    except OSError as error:
        raise _destination_error(target, error) from error


def _destination_error(target: Path, error: OSError) -> MediaError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpaceError(f"There is no space left for {printable(target)}.")
    return DestinationError(f"{printable(target)} cannot be written: {error.strerror}.")
