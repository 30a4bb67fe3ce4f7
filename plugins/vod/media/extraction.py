"""From a video to its audio: the right tracks, and what has to be made of them before they are written."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from vod.errors import VodError
from vod.media import command
from vod.media.command import Tags
from vod.media.errors import FfmpegError, MediaError, UndecodableTrackError
from vod.media.formats import Output
from vod.media.info import PROBE_TIMEOUT, AudioTrack, printable
from vod.media.limits import Limits
from vod.media.process import Complaints, Progress, find_ffmpeg
from vod.media.source import Source, open_source
from vod.media.tracks import ALL, MIX, Selection, choose_tracks
from vod.media.writing import Extraction, Writing, numbered, reserve

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from vod.media.ahead import Ahead
    from vod.media.process import Ceiling

MAX_SECONDS = 6 * 3600.0
"""Seconds that an extraction may take when no timeout is given; headers lie."""


def extract(
    source: Path,
    target: Path,
    *,
    audio_format: str = "MP3",
    language: str | None = None,
    bit_rate: int | None = None,
    reencode: bool = False,
    timeout: float | None = None,
    expected_duration: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancelled: threading.Event | None = None,
) -> Extraction:
    """Write one audio track of *source* to *target*: :func:`extract_all` for the usual case."""
    return extract_all(
        source,
        {target: Output(audio_format=audio_format, bit_rate=bit_rate, reencode=reencode)},
        Selection(language=language),
        timeout=timeout,
        expected_duration=expected_duration,
        on_progress=on_progress,
        cancelled=cancelled,
    )[0]


def extract_all(
    source: Path,
    outputs: Mapping[Path, Output],
    selection: Selection | None = None,
    *,
    tags: Tags | None = None,
    gaps: Literal["silence", "close"] = "silence",
    truncated: Literal["fail", "keep"] = "fail",
    strict: bool = False,
    program: str | None = None,
    timeout: float | None = None,
    ceiling: Ceiling | None = None,
    expected_duration: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancelled: threading.Event | None = None,
    ahead: Ahead | None = None,
) -> list[Extraction]:
    """Write the audio of *source*, read and decoded once, to each path of *outputs*.

    Tracks without packets are passed over. A track is copied when it already is what an output asks for. A
    path appears only when its file is complete and replaces what was there; its folder is created. Nothing
    else is left, however this ends.

    :param outputs: What is to be at each path. When the selection is of all tracks, this is for the first of
        them; the paths of the others have the track's number before the extension: ``talk.1.mp3``.
    :param gaps: What becomes of gaps in the sound, and of packets that cannot be decoded: ``silence`` keeps
        every sound at its time in the video, ``close`` joins what there is. Overlaps are cut.
    :param truncated: ``keep`` extracts what there is of a source whose end is missing.
    :param strict: Fail when frames cannot be decoded, instead of doing without them. Copies are decoded too.
    :param program: The ffmpeg to run; the one that :func:`find_ffmpeg` finds when omitted.
    :param timeout: Seconds; ten minutes plus the source's duration when omitted, six hours at most.
    :param expected_duration: Seconds that the source lasts, when something outside the file knows: the only
        way to notice that an MPEG transport stream was cut.
    :param on_progress: Called in this thread, now and then.
    :param cancelled: Set it, from any thread, to stop.
    :param ahead: What was begun with the same wishes while the source was fetched.
    :returns: One element an output, for each track in turn.
    :raises vod.errors.InvalidInputError: a path is *source*, or the piece lies outside of it.
    :raises NoAudioTrackError: the source has no audio track.
    :raises EmptyTrackError: it has audio tracks, and none has packets.
    :raises LanguageNotFoundError, TrackNotFoundError: no audio track is what was selected.
    :raises UnsupportedTrackError: the track's codec is unknown.
    :raises UnreadableMediaError: the source cannot be read.
    :raises TruncatedMediaError: the source's end is missing.
    :raises CorruptFramesError: frames cannot be decoded, with *strict*.
    :raises TooLargeError: the audio or the memory for it goes beyond the *ceiling*.
    :raises ExtractionTimeoutError: the time was up.
    :raises ExtractionCancelledError: *cancelled* was set.
    :raises NoSpaceError: the destination is full.
    :raises DestinationError: the destination cannot be written to.
    :raises FfmpegNotFoundError: there is no ffmpeg to run, or it lacks the encoder.
    :raises FfmpegError: ffmpeg failed otherwise.
    """
    selection = selection or Selection()
    try:
        limits = Limits(PROBE_TIMEOUT if timeout is None else timeout, cancelled)
        opened = open_source(source, program=program or find_ffmpeg(), limits=limits)
        tracks = choose_tracks(opened.info, selection.language, selection.track)
        usual = min(600 + (opened.info.duration or 0), MAX_SECONDS)
        limits = replace(limits, timeout=usual if timeout is None else timeout)
        writing = Writing(
            source=replace(opened, limits=limits),
            outputs=outputs,
            selection=selection,
            tags=tags or Tags(),
            gaps=gaps,
            truncated=truncated,
            strict=strict,
            ceiling=ceiling,
            expected_duration=expected_duration,
            on_progress=on_progress,
            ahead=ahead,
        )
        job = _Job(writing)
        ways = {ALL: job.all_of, MIX: job.mix_of}
        extractions = ways.get(str(selection.track), job.first_with_sound)(tracks)
    except VodError as error:
        error.asset = error.asset or printable(source)
        raise
    if on_progress is not None:
        on_progress(Progress(1.0, left=0.0))
    return extractions


@dataclass(frozen=True)
class _Job:
    writing: Writing

    @property
    def source(self) -> Source:
        return self.writing.source

    def first_with_sound(self, tracks: list[AudioTrack]) -> list[Extraction]:
        """The first track that can be extracted and is heard; without one, the first that can be."""
        usable, passed_over = self.source.usable(tracks)
        chosen = usable[:1]
        if len(usable) > 1 and self.writing.selection.is_open:
            heard, silent = self.source.first_heard(usable)
            passed_over += silent
            chosen = [heard, *(track for track in usable if track != heard)]
        extractions = self._one_by_one(chosen, passed_over, UndecodableTrackError, enough=1)
        passed_over += self.source.taken_over(extractions[0].track)
        return [replace(each, warnings=(*passed_over, *each.warnings)) for each in extractions]

    def all_of(self, tracks: list[AudioTrack]) -> list[Extraction]:
        """Every track that can be extracted."""
        usable, passed_over = self.source.usable(tracks, [*self.writing.outputs.values()])
        extractions: list[Extraction] = []
        if not any(map(self._is_decoded_first, usable)):
            # ffmpeg stops writing all of them when it cannot write one.
            with contextlib.suppress(FfmpegError, UndecodableTrackError):
                extractions = self._written(usable)
        first, *others = extractions or self._one_by_one(
            usable, passed_over, FfmpegError, UndecodableTrackError
        )
        return [replace(first, warnings=(*passed_over, *first.warnings)), *others]

    def mix_of(self, tracks: list[AudioTrack]) -> list[Extraction]:
        """All tracks that can be extracted, in one."""
        usable, passed_over = self.source.usable(tracks)
        if len(usable) == 1:
            extractions = self._written(usable)
        else:
            with contextlib.ExitStack() as partials:
                mixed = reserve(self.source.path, self.writing.target, partials)
                path, info = self.source.path, self.source.info
                # Without the shortest first, ffmpeg 5 ends where another ends.
                parts = sorted(usable, key=lambda track: self.source.ends([track]))
                complaints = None
                if self._any_changes(parts):
                    path = reserve(self.source.path, self.writing.target, partials)
                    complaints = self._decode(parts, path, timed=True)
                    info = replace(info, container=command.DECODED)
                    parts = [replace(track, index=number) for number, track in enumerate(parts)]
                line = command.mix(
                    self.source.program, path, info, parts, mixed, has_long_gap=self._has_long_gap(usable)
                )
                mixing = self.writing.run(line, usable[0])
                extractions = self._written_from(mixed, usable, complaints or mixing, start=0.0)
            if all(each.silent for each in extractions) and self.source.is_heard(usable):
                passed_over.append("The tracks cancel each other, as some are inverted: extract one of them.")
        return [replace(each, warnings=(*passed_over, *each.warnings)) for each in extractions]

    def _one_by_one(
        self,
        tracks: list[AudioTrack],
        passed_over: list[str],
        *failures: type[MediaError],
        enough: int | None = None,
    ) -> list[Extraction]:
        """The audio of *tracks*, each for itself, without those in which one of the *failures* happens.

        :param passed_over: Gets why the others are not there.
        :param enough: How many tracks are wanted; all when ``None``.
        """
        extractions: list[Extraction] = []
        failed: list[MediaError] = []
        for number, track in enumerate(tracks):
            paths = {numbered(path, track): output for path, output in self.writing.outputs.items()}
            job = _Job(replace(self.writing, outputs=paths)) if extractions else self
            try:
                extractions += job._written([track])
            except failures as error:
                failed.append(error)
                passed_over.append(f"Audio track {track.index} was passed over: {error.message}")
            if number + 1 - len(failed) == enough:
                break
        if not extractions:
            raise failed[0]
        return extractions

    def _any_changes(self, tracks: list[AudioTrack]) -> bool:
        return any(self.source.survey(track).changes for track in tracks)

    def _has_long_gap(self, tracks: list[AudioTrack]) -> bool:
        return any(self.source.survey(track).has_long_gap for track in tracks)

    def _written(self, tracks: list[AudioTrack]) -> list[Extraction]:
        """The audio of *tracks* under its final names."""
        if any(map(self._is_decoded_first, tracks)):
            return self._decoded_first(*tracks)  # several are written at once only where none is
        return self.writing.write(tracks)

    def _is_decoded_first(self, track: AudioTrack) -> bool:
        """Whether ffmpeg cannot do it at once. Where a track changes on the way it begins its filters again,
        and what they know of time, channels and loudness would be that of one part. Where the survey could
        not read on, ffmpeg may, and find the end of a piece by the clock of what follows."""
        survey, selection = self.source.survey(track), self.writing.selection
        goes_on = survey.stopped and selection.trims and selection.end > self.source.ends([track])
        return bool(survey.changes or goes_on)

    def _decoded_first(self, track: AudioTrack) -> list[Extraction]:
        """The audio of a track, from all of its sound."""
        with contextlib.ExitStack() as partials:
            decoded = reserve(self.source.path, self.writing.target, partials)
            survey = self.source.survey(track)
            timed = survey.has_clock and not survey.restarts
            complaints = self._decode([track], decoded, timed=timed)
            extractions = self._written_from(decoded, [track], complaints, start=track.start)
        warnings = ["The way the sound is encoded changes on the way."] if survey.changes else []
        if survey.changes and any(
            isinstance(output.channels, str) for output in self.writing.outputs.values()
        ):
            warnings.append("Where it has other channels than at its start, the one asked for may be silent.")
        return [replace(each, warnings=(*warnings, *each.warnings)) for each in extractions]

    def _decode(self, tracks: list[AudioTrack], target: Path, *, timed: bool) -> Complaints:
        line = command.decoding(
            *(self.source.program, self.source.path, tracks, target),
            timed=timed,
            has_long_gap=self._has_long_gap(tracks),
        )
        return self.writing.run(line, tracks[0])

    def _written_from(
        self, made: Path, tracks: list[AudioTrack], complaints: Complaints, *, start: float
    ) -> list[Extraction]:
        """What was asked for, from sound that was made of *tracks* before.

        :param start: When it starts, on the clock of the source; seconds.
        """
        track, *more = tracks
        opened = open_source(made, program=self.source.program, limits=self.source.limits)
        [sound] = opened.info.audio
        sound = replace(sound, start=start, language=None if more else track.language)
        info = replace(
            opened.info,
            container=command.DECODED,
            title=self.source.info.title,
            audio=(sound,),
            video=self.source.info.video,
        )
        source = replace(opened, info=info)
        ends = start + source.survey(sound).duration
        told = [self._told_of_made(each, ends, complaints) for each in tracks]
        writing = replace(
            self.writing,
            source=source,
            tags=replace(self.writing.tags, track=track.index),
            expected_duration=None,
            ahead=None,
        )
        others = tuple(each for each in self.source.info.audio if each.index != track.index)
        return [
            replace(
                each,
                track=track,
                alternatives=others,
                copied=False,
                corrupt_frames=complaints.corrupt,
                missing=max((missing for _, missing in told if missing is not None), default=None),
                warnings=(
                    *dict.fromkeys(warning for warnings, _ in told for warning in warnings),
                    *each.warnings,
                ),
            )
            for each in writing.write([sound])
        ]

    def _told_of_made(
        self, track: AudioTrack, ends: float, complaints: Complaints
    ) -> tuple[list[str], float | None]:
        """:meth:`Writing.told` of sound that was made of *track* and *ends* at that second of the source."""
        survey = self.source.survey(track)
        writing, starts, until = self.writing, track.start, ends
        if survey.changes and not survey.has_clock:
            # The packets are not as long as they say, nor is it known how long they should be.
            info = replace(self.source.info, duration=None)
            writing = replace(writing, source=replace(self.source, info=info))
            survey, track = (
                replace(survey, duration=ends - starts, sound=ends - starts),
                replace(track, duration=None),
            )
        else:
            until = min(ends, starts + survey.duration)
        selection = self.writing.selection
        if selection.trims:
            starts = max(starts, selection.start)
            until = min(until, selection.end)
        filled = survey.has_clock and not survey.restarts
        return writing.told(track, until - starts, survey, complaints, filled=filled)
