"""What audio sounds like: whether there is anything to be heard, and how loud it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vod import sandbox
from vod.media.errors import FfmpegError
from vod.media.formats import mixes_equally
from vod.media.info import open_options, read_media
from vod.media.process import QUIET, run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vod.media.info import AudioTrack
    from vod.media.limits import Limits

SILENCE = -70.0
"""dBFS; where no sample is above this there is nothing to be heard. It is below the noise of a quiet room."""

_PLACES = (0.5, 0.25, 0.75, 0.1, 0.9, 0.0)
"""Where to listen first, as parts of the whole."""
_LISTEN = 0.5
"""Seconds to listen at each place."""

_AUDIBLE = 0.001
_CANCELLED = 0.1
"""Of the level of one channel: a mix below it has lost more than 20 dB."""

_HIGHEST_PEAK = -1.0
"""dBTP that a gain for loudness may raise the true peak to (EBU R128)."""


def is_silent(
    program: str,
    path: Path,
    duration: float,
    *,
    limits: Limits,
    index: int = 0,
    demuxer: str | None = None,
) -> bool:
    """Whether no sample of an audio track of *path* is louder than :data:`SILENCE`.

    It listens at a few places, and to all of it only when there is nothing to be heard at any of them.

    :param program: The ffmpeg to run for that.
    :param duration: Seconds.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    """
    threshold = round(32768 * 10 ** (SILENCE / 20))
    places = [duration * place for place in _PLACES]
    if read_media(
        "is_heard",
        path,
        limits,
        index=index,
        places=places,
        seconds=_LISTEN,
        threshold=threshold,
        demuxer=demuxer,
    ):
        return False
    limits_of_input = [part for key, value in open_options().items() for part in (f"-{key}", value)]
    command = [program, *QUIET, "-v", "info", *limits_of_input, "-i", f"file:{path}"]
    _, said = run([*command, "-map", f"0:a:{index}", "-af", "volumedetect", "-f", "null", "-"], limits=limits)
    loudest = _figure(r"max_volume: (\S+) dB", [*said.notes, *said.last])
    return loudest is not None and loudest < SILENCE


def loudest_channel(
    track: AudioTrack, path: Path, duration: float, *, limits: Limits
) -> tuple[int | None, bool]:
    """Which channel is the loudest, if a mix of all is nearly silent because some are inverted.

    A subwoofer's never is: it is no part of a mix.

    :param duration: Seconds.
    :returns: The channel, and whether a mix is nearly silent in places only, so that ``None`` is to be taken.
    """
    found = read_media(
        "levels",
        path,
        limits,
        index=track.index,
        places=[duration * place for place in _PLACES],
        seconds=_LISTEN,
        equal=mixes_equally(track.places),
        demuxer=None,
    )
    places = [
        place for place in sandbox.build(_Heard, found).places if len(place.channels) == len(track.places)
    ]
    # The mean of the power.
    power = [
        sum(level**2 for level in levels)
        for levels in zip(*(place.channels for place in places), strict=True)
    ]
    count = max(len(places), 1)
    whole = _Levels(
        channels=tuple((each / count) ** 0.5 for each in power),
        mixed=(sum(place.mixed**2 for place in places) / count) ** 0.5,
    )
    loudest = _cancelled(whole, track)
    return loudest, loudest is None and any(_cancelled(place, track) is not None for place in places)


def _cancelled(levels: _Levels, track: AudioTrack) -> int | None:
    """The loudest channel where a mix is nearly silent."""
    heard = {
        number: level
        for number, (level, place) in enumerate(zip(levels.channels, track.places, strict=False))
        if not place.startswith("LFE")
    }
    loudest = max(heard, key=lambda number: heard[number], default=None)
    if loudest is None or heard[loudest] < _AUDIBLE or levels.mixed > heard[loudest] * _CANCELLED:
        return None
    return loudest


@dataclass(frozen=True)
class _Levels:
    channels: tuple[float, ...]
    mixed: float


@dataclass(frozen=True)
class _Heard:
    places: tuple[_Levels, ...]


def gain(command: Sequence[str], target: float, *, limits: Limits) -> tuple[float, str | None]:
    """The gain that brings sound to *target* LUFS, and a warning where it cannot be brought there.

    :param command: Measures it with ``ebur128``.
    :raises FfmpegError: it could not be measured.
    """
    code, said = run(command, limits=limits)
    lines = [*said.notes, *said.last]
    integrated, peak = _figure(r"I: +(\S+) LUFS", lines), _figure(r"Peak: +(\S+) dBFS", lines)
    if code != 0 or integrated is None:
        raise FfmpegError("The loudness could not be measured.")
    if integrated <= -70 or peak is None:
        return 0.0, "It is too quiet to have a loudness, which is left as it is."
    wanted = target - integrated
    allowed = _HIGHEST_PEAK - peak
    if wanted > max(allowed, 0):
        reached = integrated + max(allowed, 0)
        return max(allowed, 0), f"Its peaks allow no more than {reached:.1f} LUFS instead of {target:.1f}."
    return wanted, None


def _figure(pattern: str, lines: Sequence[str]) -> float | None:
    found = [match[1] for line in lines if (match := re.search(pattern, line))]
    try:
        return float(found[-1])
    except (IndexError, ValueError):
        return None
