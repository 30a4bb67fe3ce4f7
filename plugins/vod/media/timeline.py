"""The time line of sound: where packets or frames leave a gap, overlap, or start again from the beginning.

The one place that decides it, for extraction and for recognition. Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.container import InputContainer

GAP = 0.04
"""Two frames of most codecs: less is rounding, or the jitter of a recording."""

RESTART = 1.0
"""What goes back further is another recording, not an overlap."""

LONGEST_GAP = 600.0
"""What is longer is another recording, unless the file says how long it lasts and it fits in."""

LONGEST_GAP_OF_STREAMS = 10.0
"""The same for MPEG streams, where joined recordings go on at any time, unless the picture runs on meanwhile.
It is ffmpeg's own limit."""

NO_OFFSET = 0.05
"""A track that starts less than this after the others starts with them: it is encoder delay."""

WITHOUT_CLOCK = {
    *("aac", "ac3", "aiff", "amr", "ape", "au", "dts", "eac3", "flac", "loas", "mp3", "mpc", "mpc8", "w64"),
    *("wav", "wv", "voc", "truehd", "tta"),
}
"""Containers without time stamps, by ffmpeg's names: it counts what it reads."""

MPEG_STREAMS = {"mpegts", "mpeg"}
"""Containers whose recordings can be joined as they are, by ffmpeg's names."""

_MAX_LISTED = 100
_LEAST_JUMP = 0.005
_CLEAR_JUMP = 0.015


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Sound that is not there.

    :param start: Seconds.
    :param duration: Seconds.
    """

    start: float
    duration: float


@dataclass
class Timeline:
    """What became of the sound's time so far.

    Slow drift and jitter leave no gap: only what jumps by half a frame counts, and jumps that cancel each
    other do not.

    :param ends: When the file ends by its own word; a gap that reaches further is none.
    :param longest: The longest gap that is believed when it does not say so.
    :param start: When the sound starts.
    :param end: When it ends, so far.
    :param gaps: The first hundred.
    :param gap_seconds: All of them.
    :param overlap_seconds: What is there twice.
    :param restarts: How often time jumped: other recordings follow.
    """

    ends: float | None = None
    longest: float = LONGEST_GAP
    start: float | None = None
    end: float = 0.0
    gaps: list[Gap] = field(default_factory=list)
    gap_seconds: float = 0.0
    overlap_seconds: float = 0.0
    restarts: int = 0
    _drift: float = 0.0
    _left_at: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether each piece of sound starts where the one before it ends."""
        return not (self.gap_seconds or self.overlap_seconds or self.restarts)

    def add(self, start: float, length: float) -> float:
        """Take the next packet or frame.

        :returns: seconds of silence that belong before it; negative: seconds of it that are there already.
        """
        if self.start is None:
            self.start, self.end = start, start + length
            return 0.0
        jump, before, left_at = start - self.end, self.end, self._left_at
        self.end, self._left_at = start + length, None
        if left_at is not None and abs(start - left_at) < RESTART:
            self.restarts -= 1  # it was one damaged time stamp
            return 0.0
        if abs(jump) < min(max(length / 2, _LEAST_JUMP), _CLEAR_JUMP):
            return 0.0
        if jump < -RESTART or not self._is_believed(start, jump):
            self.restarts += 1
            self._drift, self._left_at = 0.0, before
            return 0.0
        self._drift += jump
        if abs(self._drift) < GAP:
            return 0.0
        drift, self._drift = self._drift, 0.0
        if drift > 0:
            self.gap_seconds += drift
            if len(self.gaps) < _MAX_LISTED:
                self.gaps.append(Gap(start=round(before - drift + jump, 3), duration=round(drift, 3)))
        else:
            self.overlap_seconds -= drift
        return drift

    def _is_believed(self, start: float, jump: float) -> bool:
        if jump <= self.longest:
            return True
        return self.ends is not None and start <= self.ends


def timeline_of(container: InputContainer) -> Timeline:
    """An empty time line that knows which gaps to believe in a file that PyAV has opened."""
    if container.format.name in MPEG_STREAMS:
        return Timeline(longest=LONGEST_GAP_OF_STREAMS)
    if not container.duration:
        return Timeline()
    return Timeline(ends=(max(container.start_time or 0, 0) + container.duration) / 1_000_000)
