"""The audio of a source, copied or encoded, verified, and under its final name only when it is whole."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from vod.errors import InvalidInputError
from vod.media import command
from vod.media.command import Piece, Tags
from vod.media.errors import (
    CorruptFramesError,
    DestinationError,
    FfmpegError,
    MediaError,
    NoSpaceError,
    TooLargeError,
    TruncatedMediaError,
    UndecodableTrackError,
    not_done,
)
from vod.media.formats import Output, is_laid_out
from vod.media.info import AudioTrack, printable
from vod.media.integrity import following_bytes, lost_bytes
from vod.media.measure import Measurement
from vod.media.partials import partial_beside
from vod.media.process import Complaints, Progress, inspect, run
from vod.media.sound import gain, is_silent, loudest_channel
from vod.media.source import Source
from vod.media.timeline import GAP, Gap
from vod.media.tracks import Selection
from vod.media.verify import (
    compare,
    compare_copy,
    compare_piece,
    measure_written,
    playing_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vod.media.ahead import Ahead
    from vod.media.process import Ceiling

_DISK_FULL = ("No space left on device", "Disk quota exceeded")
_TOO_MANY_ERRORS = 69
"""ffmpeg's exit code when more than two thirds of a track do not decode."""
_READ_ERROR = "Error during demuxing"
_WRITE_ERRORS = (*_DISK_FULL, "Error closing file", "Error writing trailer", "av_interleaved_write_frame()")


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """Audio that was written, as verified in the written file.

    :param audio_format: Format asked for, a key of :data:`vod.media.formats.FORMATS`.
    :param codec: Codec in the file, for example ``mp3``.
    :param duration: Seconds that play, verified against the packets.
    :param size: Bytes.
    :param sample_rate: Hz.
    :param bit_rate: bit/s.
    :param track: The source's track that this is.
    :param alternatives: The source's other audio tracks.
    :param offset: Seconds after the start of the video at which the audio starts; negative when before it.
    :param copied: Whether the track was taken over as it was, without encoding it again.
    :param silent: Whether there is nothing to be heard.
    :param corrupt_frames: Frames that could not be decoded. In a copy only those that its container marks,
        unless ``strict`` was asked for.
    :param gaps: Where the source has no sound in between, in seconds of this file: there is silence, or it
        was left out.
    :param missing: Seconds of audio that are missing because the source was cut off, as far as is known;
        ``None`` when it is whole.
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
    alternatives: tuple[AudioTrack, ...] = ()
    offset: float = 0.0
    silent: bool = False
    corrupt_frames: int = 0
    gaps: tuple[Gap, ...] = ()
    missing: float | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Writing:
    """What is to be written of a source, and how; the fields are those of
    :func:`vod.media.extraction.extract_all`."""

    source: Source
    outputs: Mapping[Path, Output]
    selection: Selection
    tags: Tags
    gaps: Literal["silence", "close"]
    truncated: Literal["fail", "keep"]
    strict: bool
    ceiling: Ceiling | None
    expected_duration: float | None
    on_progress: Callable[[Progress], None] | None
    ahead: Ahead | None

    @property
    def target(self) -> Path:
        """The first path that is written."""
        return next(iter(self.outputs))

    def write(self, tracks: list[AudioTrack]) -> list[Extraction]:
        """Write the audio of *tracks*, none of which changes on the way, read once."""
        ends = max(self.source.ends(tracks), self.source.info.duration or 0)
        self.selection.check_against(min(track.start for track in tracks), ends)
        copies = any(self._can_copy(track, output) for track in tracks for output in self.outputs.values())
        if copies:
            # Not everything that plays can be copied into another container; then it is encoded.
            with contextlib.suppress(FfmpegError):
                return self._attempt(tracks, copy=True)
        return self._attempt(tracks, copy=False)

    def _can_copy(self, track: AudioTrack, output: Output) -> bool:
        return (
            not self.selection.trims
            and output.keeps(track.codec, track.sample_rate, track.channels)
            and self.source.survey(track).is_plain
        )

    def _attempt(self, tracks: list[AudioTrack], *, copy: bool) -> list[Extraction]:
        with contextlib.ExitStack() as partials:
            pieces: dict[Path, Piece] = {}
            warnings: dict[Path, list[str]] = {}
            for track in tracks:
                for path, output in self.outputs.items():
                    output.require(track)
                    target = path if track is tracks[0] else numbered(path, track)
                    take, told = self._channel_of(track, output)
                    piece = Piece(
                        track=track,
                        output=output,
                        partial=reserve(self.source.path, target, partials),
                        copy=copy and self._can_copy(track, output),
                        gaps=self._gaps_of(track),
                        take=take,
                        has_long_gap=self.source.survey(track).has_long_gap,
                    )
                    pieces[target], warnings[target] = self._amplified(piece)
                    warnings[target] += told
            complaints = self._run(pieces)
            extractions = [
                self._verified(target, piece, complaints, warnings[target])
                for target, piece in pieces.items()
            ]
            for target, piece in pieces.items():
                _publish(piece.partial, target)
            return extractions

    def _gaps_of(self, track: AudioTrack) -> Literal["silence", "close"] | None:
        survey = self.source.survey(track)
        if survey.has_clock and not survey.restarts:
            # What does not decode is found on the way, and missed by the clock.
            return self.gaps if self.gaps == "silence" or not survey.is_plain else None
        # The time of one recording says nothing about that of the next.
        # A filter that counts samples would start again with the next way to decode it.
        return None if survey.is_plain or survey.changes else "close"

    def _channel_of(self, track: AudioTrack, output: Output) -> tuple[int | None, list[str]]:
        """The channel to take where a mix of all would cancel them, and the warning that it is taken."""
        if not output.may_cancel(track.places):
            return None, []
        duration = self.source.survey(track).duration
        channel, in_places = loudest_channel(track, self.source.path, duration, limits=self.source.limits)
        if channel is not None:
            return channel, [_taken(track, channel)]
        warning = "In places a mix of the channels is silent, as some are inverted there: take one of them."
        return None, [warning] * in_places

    def _amplified(self, piece: Piece) -> tuple[Piece, list[str]]:
        target = piece.output.loudness
        if target is None:
            return piece, []
        measuring = command.loudness(
            self.source.program, self.source.path, self.source.info, piece, self.selection
        )
        decibels, warning = gain(measuring, target, limits=self.source.limits)
        return replace(piece, gain=decibels), [warning] if warning else []

    def _run(self, pieces: Mapping[Path, Piece]) -> Complaints:
        line = command.extraction(
            self.source.program,
            self.source.path,
            self.source.info,
            [*pieces.values()],
            self.selection,
            self.tags,
            check=self.strict,
        )
        done = self.ahead and self.ahead.take(line, self.source, [*pieces.values()])
        return done or self.run(line, next(iter(pieces.values())).track)

    def run(self, line: list[str], track: AudioTrack) -> Complaints:
        """Run an ffmpeg that reads *track*; what it complained about.

        :raises MediaError: it failed, as :func:`vod.media.extraction.extract_all` says.
        """
        code, complaints = run(
            line, limits=self.source.limits, on_position=self._position_reader(track), ceiling=self.ceiling
        )
        # ffmpeg 5 ends with success when a full disk kept it from writing the end of an MP3, ffmpeg 9 when it
        # cannot read on.
        stopped = complaints.mention(_READ_ERROR) and self.truncated == "fail"
        if code != 0 or stopped or complaints.mention(*_WRITE_ERRORS):
            raise self._failure(code, complaints)
        if self.strict and complaints.corrupt:
            raise CorruptFramesError(
                f"{complaints.corrupt} frames of the audio cannot be decoded.", frames=complaints.corrupt
            )
        return complaints

    def _verified(
        self, target: Path, piece: Piece, complaints: Complaints, warnings: list[str]
    ) -> Extraction:
        track, form, limits = piece.track, piece.output.form, self.source.limits
        written, survey = measure_written(piece.partial, form, limits=limits), self.source.survey(track)
        if piece.copy:
            compare_copy(written, survey)
        filled = piece.gaps == "silence"
        told, missing = self.told(track, written.duration, survey, complaints, filled=filled)
        gaps = self._gaps_in_file(track, complaints)
        warnings += [*told, *_told_of_gaps(gaps, silent=filled)]
        duration = playing_time(written)
        return Extraction(
            path=target,
            audio_format=piece.output.audio_format,
            codec=written.codec,
            duration=round(duration, 3),
            size=piece.partial.stat().st_size,
            sample_rate=written.sample_rate,
            channels=written.channels,
            bit_rate=round(written.size * 8 / written.duration),
            track=track,
            alternatives=tuple(each for each in self.source.info.audio if each.index != track.index),
            offset=command.start_offset(self.source.info, track, self.selection),
            copied=piece.copy,
            silent=is_silent(
                self.source.program, piece.partial, duration, demuxer=form.demuxer, limits=limits
            ),
            corrupt_frames=complaints.corrupt,
            gaps=gaps,
            missing=missing,
            warnings=tuple(warnings),
        )

    def told(
        self, track: AudioTrack, duration: float, survey: Measurement, complaints: Complaints, *, filled: bool
    ) -> tuple[list[str], float | None]:
        """What is odd about the source, one sentence each, and the seconds that are missing of it.

        :param duration: Seconds of the track that there are in what was written.
        :param filled: Whether silence was put where there was no sound.
        """
        try:
            warnings, missing = self._compared(track, duration, survey, complaints, filled=filled), None
        except TruncatedMediaError as error:
            if self.truncated == "fail":
                raise
            warnings, missing = [error.message], round(error.missing or 0.0, 3)
        if complaints.count:
            warnings.append(f"ffmpeg complained {complaints.count} times, at last: {complaints.last[-1]}")
        if survey.restarts:
            warnings.append(
                f"The file holds {survey.restarts + 1} recordings, one after the other; only in the first "
                "are times in the audio those of the video."
            )
        if following := following_bytes(self.source.path, survey.read):
            warnings.append(
                f"Another recording follows the first in this file: {following} bytes, which are not read."
            )
        return warnings, missing

    def _compared(
        self, track: AudioTrack, duration: float, survey: Measurement, complaints: Complaints, *, filled: bool
    ) -> list[str]:
        path, info = self.source.path, self.source.info
        if self.selection.trims:
            return compare_piece(path, info, track, duration, self.selection)
        return compare(
            path,
            info,
            track,
            duration,
            survey,
            filled=filled,
            expected=self.expected_duration,
            complaints=complaints.count,
        )

    def _gaps_in_file(self, track: AudioTrack, complaints: Complaints) -> tuple[Gap, ...]:
        """Where there is no sound, in seconds of the file that was written with silence in its place."""
        survey = self.source.survey(track)
        if complaints.corrupt and not survey.restarts:
            survey = self.source.survey(track, decode=True)
        starts = max(self.selection.start - track.start, 0.0)
        ends = self.selection.end - track.start
        found = []
        for gap in survey.gaps:
            start = max(gap.start - survey.start, starts)
            end = min(gap.start - survey.start + gap.duration, ends)
            if end - start >= GAP:
                found.append(Gap(start=round(start - starts, 3), duration=round(end - start, 3)))
        return tuple(found)

    def _position_reader(self, track: AudioTrack) -> Callable[[float], None] | None:
        whole = track.duration or self.source.info.duration
        report = self.on_progress
        if report is None or not whole:
            return None
        whole = min(whole - self.selection.start, self.selection.duration or whole)
        began = time.monotonic()

        def read(position: float) -> None:
            fraction = max(min(position / whole, 0.99), 0.0)
            elapsed = time.monotonic() - began
            speed = position / elapsed if elapsed > 0 else None
            report(Progress(fraction, speed, (whole - position) / speed if speed else None))

        return read

    def _failure(self, code: int, complaints: Complaints) -> MediaError:
        said = complaints.last[-1] if complaints.last else "it gave no reason"
        if complaints.mention(*_DISK_FULL):
            return NoSpaceError(f"There is no space left for {printable(self.target)}.")
        if complaints.mention("File too large"):
            return TooLargeError("The audio would be larger than a file may be here.")
        if complaints.mention("Unknown encoder"):
            for output in self.outputs.values():
                inspect(self.source.program).require(output.form.encoder)
        if lost := lost_bytes(self.source.path):
            return TruncatedMediaError(f"The file is cut off: its last {lost} bytes are missing, and {said}.")
        if complaints.mention(_READ_ERROR):
            reason = next(line for line in reversed(complaints.last) if _READ_ERROR in line)
            return FfmpegError(
                f"ffmpeg stopped in the middle of the file. {reason}.",
                remedy="Another version of ffmpeg may read on; or convert the file first.",
            )
        if code == _TOO_MANY_ERRORS:
            return UndecodableTrackError(f"Most of the sound cannot be decoded: {said}.")
        if code < 0:
            return FfmpegError(f"ffmpeg was ended by signal {-code}: {said}.", remedy="Run it again.")
        return FfmpegError(f"ffmpeg failed with exit code {code}: {said}.")


def _told_of_gaps(gaps: tuple[Gap, ...], *, silent: bool) -> list[str]:
    if not gaps:
        return []
    seconds = sum(gap.duration for gap in gaps)
    if len(gaps) == 1:
        return [
            f"The sound has one gap of {seconds:.1f} s, which {'is silent' if silent else 'was left out'}."
        ]
    done = "are silent" if silent else "were left out"
    return [f"The sound has {len(gaps)} gaps of {seconds:.1f} s in all, which {done}."]


def numbered(path: Path, track: AudioTrack) -> Path:
    """The path of another track of the same source: ``talk.1.mp3``."""
    return path.with_name(f"{path.stem}.{track.index}{path.suffix}")


def _taken(track: AudioTrack, channel: int) -> str:
    """The warning that one channel was taken instead of a mix."""
    place = track.places[channel]
    name = {"FL": "left", "FR": "right"}.get(place, place)
    which = name if is_laid_out(track.places) else f"number {channel + 1}"
    return f"A mix of the channels would be silent, as some are inverted: this is the loudest, {which}."


def reserve(source: Path, target: Path, partials: contextlib.ExitStack) -> Path:
    """Create the hidden file beside *target* that is written first."""
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
        return partials.enter_context(partial_beside(target))
    except OSError as error:
        raise not_done(target, "written", error) from error


def _publish(partial: Path, target: Path) -> None:
    try:
        partial.replace(target)
    except OSError as error:
        raise not_done(target, "written", error) from error
