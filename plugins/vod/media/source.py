"""A file whose headers were read: which of its tracks can be extracted, by what all their packets say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vod.media.errors import (
    EmptyTrackError,
    EncryptedTrackError,
    MediaError,
    TruncatedMediaError,
    UndecodableTrackError,
    UnsupportedTrackError,
)
from vod.media.info import UNKNOWN_CODEC, AudioTrack, MediaInfo, probe
from vod.media.integrity import lost_bytes
from vod.media.measure import Measurement, measure
from vod.media.sound import is_silent
from vod.media.structure import WITHOUT_DECODER
from vod.media.timeline import NO_OFFSET, RESTART
from vod.media.verify import MIN_SOUND, playing_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vod.media.formats import Output
    from vod.media.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is known of a file, and found out about its tracks when it is asked for.

    :param program: The ffmpeg to run.
    """

    path: Path
    info: MediaInfo
    program: str
    limits: Limits

    _surveys: dict[tuple[int, bool], Measurement] = field(default_factory=dict)

    def survey(self, track: AudioTrack, *, decode: bool = False) -> Measurement:
        """What all packets of a track say, read once for all outputs; see :func:`measure`."""
        key = (track.index, decode)
        if key not in self._surveys:
            self._surveys[key] = measure(self.path, track.index, limits=self.limits, decode=decode)
        return self._surveys[key]

    def usable(
        self, tracks: list[AudioTrack], outputs: Sequence[Output] = ()
    ) -> tuple[list[AudioTrack], list[str]]:
        """The tracks that can be extracted, and what is wrong with the others.

        :param outputs: What each of them has to be able to become.
        :raises MediaError: there is none; as the most telling of the reasons says.
        """
        usable: list[AudioTrack] = []
        reasons: list[MediaError] = []
        partly: list[str] = []
        for track in tracks:
            if reason := self._unusable(track, outputs):
                reasons.append(reason)
            else:
                usable.append(self._placed(track))
                partly += [f"A part of audio track {track.index} is encrypted."] * track.partly_encrypted
        if len(reasons) == len(tracks) == 1:
            raise reasons[0]
        if not usable:
            kind = type(next((each for each in reasons if not isinstance(each, EmptyTrackError)), reasons[0]))
            raise kind(" ".join(reason.message for reason in reasons))
        return usable, [*(reason.message for reason in reasons), *partly]

    def first_heard(self, tracks: list[AudioTrack]) -> tuple[AudioTrack, list[str]]:
        """The first track that is not silent, and which were passed over; without one, the first."""
        for number, track in enumerate(tracks):
            if not self._is_silent(track):
                return track, [f"Audio track {silent.index} is silent." for silent in tracks[:number]]
        return tracks[0], []

    def is_heard(self, tracks: list[AudioTrack]) -> bool:
        """Whether one of *tracks* is not silent."""
        return not all(self._is_silent(track) for track in tracks)

    def ends(self, tracks: list[AudioTrack]) -> float:
        """When the last of *tracks* ends, seconds."""
        return max(track.start + self.survey(track).duration for track in tracks)

    def taken_over(self, track: AudioTrack) -> list[str]:
        """Which sound goes on under another number where *track* ends in an MPEG transport stream."""
        if self.info.container != "mpegts":
            return []
        survey = self.survey(track)
        ends = survey.begins + survey.duration - RESTART
        # Usually it goes on to the end of the file; then the others need not be read.
        behind = survey.duration * (self.path.stat().st_size - survey.read) / max(survey.read, 1)
        others = [
            other
            for other in self.info.audio
            if other.index != track.index and other.readable and behind > RESTART
        ]
        return [
            *(
                f"Audio track {other.index} starts where track {track.index} ends, and is not read."
                for other in others
                if self._has_sound(other) and self.survey(other).begins >= ends
            ),
            *(
                f"The file has sound under PID {number} that ffmpeg does not find, and which is not read."
                for number in self.info.not_found
            ),
        ]

    def _placed(self, track: AudioTrack) -> AudioTrack:
        """*track* as its packets place it: headers do not tell of sound that starts late in AVI and ASF, nor
        ffmpeg of what starts after the part that it probes."""
        survey, ends = self.survey(track), self.info.duration
        if not survey.has_clock or abs(survey.begins - track.start) <= NO_OFFSET:
            return track
        # What reaches beyond the end of the file was counted from its start.
        fits = track.duration and ends and survey.begins + track.duration <= ends + NO_OFFSET
        return replace(track, start=survey.begins, duration=track.duration if fits else None)

    def _unusable(self, track: AudioTrack, outputs: Sequence[Output]) -> MediaError | None:
        if reason := unsuited(track):
            return reason
        if self.survey(track).encrypted:
            return EncryptedTrackError(f"Audio track {track.index} ({track.codec}) is encrypted.")
        if self._has_sound(track):
            if not self.survey(track).decodable:
                return UndecodableTrackError(f"Audio track {track.index} ({track.codec}) cannot be decoded.")
            try:
                for output in outputs:
                    output.require(track)
            except MediaError as error:
                return error
            return None
        if lost := lost_bytes(self.path):
            return TruncatedMediaError(
                f"The file is cut off: its last {lost} bytes are missing, and the sound with them."
            )
        return EmptyTrackError(
            f"The file announces audio in {track} and holds less than {MIN_SOUND} s of it."
        )

    def _has_sound(self, track: AudioTrack) -> bool:
        found = self.survey(track)
        return min(found.duration, playing_time(found)) >= MIN_SOUND

    def _is_silent(self, track: AudioTrack) -> bool:
        duration = self.survey(track).duration
        return is_silent(self.program, self.path, duration, index=track.index, limits=self.limits)


def open_source(path: Path, *, program: str, limits: Limits) -> Source:
    """Read the headers of a file that has sound.

    :param program: The ffmpeg to run later.
    :raises TruncatedMediaError, UnsupportedTrackError: there is no sound that can be read, for a reason.
    :raises MediaError: as :func:`probe` says.
    """
    info = probe(path, limits=limits)
    if not info.audio and (lost := lost_bytes(path)):
        raise TruncatedMediaError(
            f"The file is cut off: at least {lost} bytes are missing, and no audio track is left."
        )
    if not info.audio and info.not_decoded:
        names = " and ".join(WITHOUT_DECODER[codec] for codec in info.not_decoded)
        raise UnsupportedTrackError(f"The audio is {names}, for which ffmpeg has no decoder.")
    if info.starts_late:
        raise UnsupportedTrackError(
            "The sound starts so late in the file that ffmpeg does not find it.",
            remedy="Copy it into another container first: ffmpeg -probesize 2G -analyzeduration 2G -i FILE "
            "-c copy FILE.mkv.",
        )
    return Source(path=path, info=info, program=program, limits=limits)


def unsuited(track: AudioTrack) -> MediaError | None:
    """Why a track cannot be extracted, by what the headers say."""
    name = f"Audio track {track.index}"
    if track.encrypted:
        return EncryptedTrackError(f"{name} ({track.codec}) is encrypted.")
    if track.codec == UNKNOWN_CODEC:
        return UnsupportedTrackError(f"{name} has a codec that is damaged or unknown.")
    if codec := WITHOUT_DECODER.get(track.codec):
        return UnsupportedTrackError(f"{name} is {codec}, for which ffmpeg has no decoder.")
    if track.pauses:
        return UnsupportedTrackError(
            f"{name} has an edit list with silence in the middle, where ffmpeg plays other sound again."
        )
    if not track.readable:
        return UnsupportedTrackError(f"{name} has the codec {track.codec}, which is not read here.")
    return None
