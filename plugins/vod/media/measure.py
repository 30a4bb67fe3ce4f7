"""Evidence about one audio track: its packets, counted, instead of what its header claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vod import sandbox
from vod.media.errors import CrashedReaderError
from vod.media.info import read_media

if TYPE_CHECKING:
    from pathlib import Path

    from vod.media.limits import Limits


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the packets of a track say.

    :param sample_rate: Hz.
    :param duration: Seconds from the start of the first packet, or zero, to the end of the last.
    :param sound: Seconds of all packets together: less than *duration* where there are gaps.
    :param stated: Seconds according to the header, without what encoders put before and after the sound.
    :param size: Bytes of all packets.
    :param decodable: Whether sound came out of the decoder.
    :param ends_cleanly: Whether the last packet decodes.
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


def measure(source: Path, index: int = 0, *, limits: Limits, demuxer: str | None = None) -> Measurement:
    """Read every packet of an audio track, decoding only its beginning and its end.

    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    :raises UnreadableMediaError: *source* cannot be opened, or has no such track.
    """
    found = read_media("measure", source, limits, index=index, demuxer=demuxer)
    try:
        return sandbox.build(Measurement, found)
    except sandbox.CrashedError as error:
        raise CrashedReaderError("The decoder crashed while it read this file.") from error
