"""Evidence about one audio track: its packets, counted, instead of what its header claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vod import sandbox
from vod.media.errors import CrashedReaderError
from vod.media.info import read_media
from vod.media.timeline import LONGEST_GAP_OF_STREAMS, Gap

if TYPE_CHECKING:
    from pathlib import Path

    from vod.media.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the packets of a track say.

    :param sample_rate: Hz.
    :param start: When the sound starts on the track's own clock, seconds.
    :param begins: The same on the file's clock, as :attr:`vod.media.info.AudioTrack.start`.
    :param primed: Seconds before it that only warm up the decoder.
    :param has_clock: Whether the container has time stamps of its own.
    :param duration: Seconds from there to the end of the last packet.
    :param sound: Seconds of all packets together: less than *duration* where there are gaps.
    :param stated: Seconds according to the header, without what encoders put before and after the sound.
    :param size: Bytes of all packets.
    :param read: Where in the file the last of them ends, bytes; 0 when unknown.
    :param decodable: Whether sound came out of the decoder.
    :param ends_cleanly: Whether the last packet decodes.
    :param gaps: Where there is no sound in between, on the track's own clock; the first hundred.
    :param gap_seconds: All gaps together.
    :param overlap_seconds: What is there twice.
    :param restarts: How often its time starts again or jumps: other recordings follow the first.
    :param changes: How often the way to decode it changes on the way.
    :param hidden: Packets in between that an edit list leaves out.
    :param encrypted: Whether packets are encrypted.
    :param stopped: Whether the file could not be read on, so that there may be more.
    """

    codec: str
    sample_rate: int
    channels: int
    duration: float
    sound: float
    stated: float | None
    size: int
    decodable: bool
    ends_cleanly: bool
    read: int = 0
    start: float = 0.0
    begins: float = 0.0
    primed: float = 0.0
    has_clock: bool = True
    gaps: tuple[Gap, ...] = ()
    gap_seconds: float = 0.0
    overlap_seconds: float = 0.0
    restarts: int = 0
    changes: int = 0
    hidden: int = 0
    encrypted: bool = False
    stopped: bool = False

    @property
    def has_long_gap(self) -> bool:
        """Whether a gap is longer than ffmpeg believes of MPEG streams."""
        return any(gap.duration > LONGEST_GAP_OF_STREAMS for gap in self.gaps)

    @property
    def is_plain(self) -> bool:
        """Whether the track is one recording without gaps that is decoded in one way, so that it may be
        copied."""
        return not (
            self.gap_seconds
            or self.overlap_seconds
            or self.restarts
            or self.changes
            or self.hidden
            or self.encrypted
        )


def measure(
    source: Path,
    index: int = 0,
    *,
    limits: Limits,
    demuxer: str | None = None,
    decode: bool = False,
) -> Measurement:
    """Read every packet of an audio track, decoding only its beginning and its end.

    :param decode: Decode all of it: what cannot be decoded counts as a gap.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    :raises UnreadableMediaError: *source* cannot be opened, or has no such track.
    """
    found = read_media("measure", source, limits, index=index, demuxer=demuxer, decode=decode)
    try:
        return sandbox.build(Measurement, found)
    except sandbox.CrashedError as error:
        raise CrashedReaderError("The decoder crashed while it read this file.") from error
