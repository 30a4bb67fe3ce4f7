"""Which of a source's audio tracks is meant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vod import sandbox
from vod.errors import InvalidInputError, NoAudioTrackError
from vod.media.errors import LanguageNotFoundError, TrackNotFoundError
from vod.media.info import DISPOSITIONS, probe, read_media
from vod.media.words import is_beside_the_speech

if TYPE_CHECKING:
    from pathlib import Path

    from vod.media.info import AudioTrack, MediaInfo
    from vod.media.limits import Limits

ALL = "all"
MIX = "mix"
SPEECH_FIRST = "speech"

_NOT_SPEECH = {
    "comment",
    "lyrics",
    "karaoke",
    "visual_impaired",
    "clean_effects",
    "descriptions",
    "non_diegetic",
}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What of a source is wanted.

    :param language: ISO 639-1 or 639-2 code, any case: ``de``, ``ger`` and ``DEU`` are the same.
    :param track: Place among the audio tracks, from 0; or ``all``; or ``mix``, all of them in one; or
        ``speech``, which puts commentary,
        audio description, music and effects last; or what a track is marked as, for example ``original``,
        ``dub``, ``comment``. The default track when omitted.
    :param start: Seconds into the source at which to start.
    :param duration: Seconds to take; to the end when omitted.
    :raises InvalidInputError: one of them cannot be.
    """

    language: str | None = None
    track: int | str | None = None
    start: float = 0.0
    duration: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.track, str):
            if self.track.isdecimal():
                object.__setattr__(self, "track", int(self.track))
            elif self.track not in {ALL, MIX, SPEECH_FIRST, *DISPOSITIONS}:
                words = ", ".join((ALL, MIX, SPEECH_FIRST, *DISPOSITIONS))
                raise InvalidInputError(
                    f"{self.track!r} names no audio track.", remedy=f"Use a number from 0, or one of {words}."
                )
        if not 0 <= self.start < 1e7:
            raise InvalidInputError(f"start cannot be {self.start}.", remedy="Use seconds from 0.")
        if self.duration is not None and not 0 < self.duration < 1e7:
            raise InvalidInputError(f"duration cannot be {self.duration}.", remedy="Use seconds above 0.")

    @property
    def trims(self) -> bool:
        """Whether only a piece of the source is wanted."""
        return self.start > 0 or self.duration is not None

    @property
    def end(self) -> float:
        """When the piece ends, seconds; infinite when it goes on to the end of the source."""
        return math.inf if self.duration is None else self.start + self.duration

    @property
    def is_open(self) -> bool:
        """Whether it is left to the extraction which track it takes."""
        return self.track in (None, SPEECH_FIRST)

    def check_against(self, starts: float, ends: float) -> None:
        """See that there can be something at that place.

        :param starts: When the sound starts, seconds.
        :param ends: When the source ends.
        :raises InvalidInputError: there cannot.
        """
        if self.start >= ends or self.end <= starts:
            raise InvalidInputError(
                f"There is no sound from {self.start:.1f} s to {self.end:.1f} s; it lasts {ends:.1f} s.",
                remedy="Choose another start and duration.",
            )


def choose_tracks(
    info: MediaInfo, language: str | None = None, track: int | str | None = None
) -> list[AudioTrack]:
    """The audio tracks that are meant, in the order of preference: default-flagged first.

    :param language: As in :class:`Selection`, and so is *track*.
    :raises NoAudioTrackError: there is no audio track.
    :raises LanguageNotFoundError: no track is in *language*.
    :raises TrackNotFoundError: no track has this number or mark.
    """
    if not info.audio:
        raise NoAudioTrackError("The file has no audio track.")
    available = ", ".join(str(each) for each in info.audio)
    wanted = [each for each in info.audio if language is None or each.speaks(language)]
    if not wanted:
        raise LanguageNotFoundError(f"No audio track is in the language {language!r}; there is: {available}.")
    if track in (ALL, MIX):
        return wanted
    if isinstance(track, int):
        wanted = [each for each in wanted if each.index == track]
    elif track in DISPOSITIONS:
        wanted = [each for each in wanted if track in each.dispositions]
    if not wanted:
        among = f" in the language {language!r}" if language else ""
        raise TrackNotFoundError(f"There is no audio track {track!r}{among}; there is: {available}.")
    return sorted(wanted, key=lambda each: (track == SPEECH_FIRST and not _is_speech(each), not each.default))


def places_of_sound(source: Path, selection: Selection, *, limits: Limits) -> list[tuple[int, int]]:
    """The bytes of a file that hold the tracks that may be meant, and the first bytes of the others.

    :returns: start, and end before, of each piece.
    :raises MediaError: as :func:`vod.media.probe` and :func:`choose_tracks` say.
    """
    info = probe(source, limits=limits)
    tracks = [track.index for track in choose_tracks(info, selection.language, selection.track)]
    found = sandbox.build(_Places, read_media("places", source, limits, tracks=tracks))
    return [(start, end) for start, end in found.ranges if 0 <= start < end <= info.size]


@dataclass(frozen=True)
class _Places:
    ranges: tuple[tuple[int, ...], ...]


def _is_speech(track: AudioTrack) -> bool:
    return not (_NOT_SPEECH & set(track.dispositions) or is_beside_the_speech(track.title or ""))
