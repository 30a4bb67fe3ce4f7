"""Evidence about one audio track: its packets, counted, instead of what its header claims."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av

from vod.media.errors import UnreadableMediaError
from vod.media.info import UNKNOWN_CODEC, open_media

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
    with open_media(source, limits, demuxer) as container:
        if index >= len(container.streams.audio):
            raise UnreadableMediaError(f"The file has no audio track {index}.")
        stream = container.streams.audio[index]
        context = stream.codec_context
        time_base = stream.time_base or Fraction(0)
        size = sound = end = 0
        start: int | None = None
        decodable = False
        last: av.Packet[av.AudioStream] | None = None
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                size += packet.size
                sound += packet.duration or 0
                if packet.pts is not None:
                    ends = packet.pts + (packet.duration or 0)
                    # What comes before zero is for the decoder to warm up, and is not played.
                    start, end = (max(packet.pts, 0), ends) if start is None else (start, max(end, ends))
                if not decodable:
                    decodable = _decodes(context, packet)
                last = packet
        except IndexError:
            pass  # after the last packet, PyAV stumbles over tracks that turned up on the way (damaged TS)
        except (OSError, ValueError, av.FFmpegError):
            last = None
        return Measurement(
            codec=context.codec.canonical_name if context else UNKNOWN_CODEC,
            sample_rate=context.sample_rate if context else 0,
            channels=context.layout.nb_channels if context else 0,
            duration=float((end - start) * time_base) if start is not None else 0.0,
            # Packets whose end is to be thrown away (Opus, Vorbis) count whole and overlap.
            sound=float(min(sound, end - (start or 0)) * time_base),
            stated=float(stream.duration * time_base) if stream.duration else None,
            size=size,
            decodable=decodable,
            ends_cleanly=last is not None and _decodes(context, last, silent=True),
        )


def _decodes(
    context: av.AudioCodecContext | None, packet: av.Packet[av.AudioStream], *, silent: bool = False
) -> bool:
    """Whether the decoder takes *packet*, and, unless *silent*, gives sound for it."""
    if context is None:
        return False
    try:
        frames = context.decode(packet)
    except (OSError, ValueError, av.FFmpegError):
        return False
    return silent or bool(frames)
