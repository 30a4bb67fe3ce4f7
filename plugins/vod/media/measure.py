"""Evidence about one audio track: its packets, counted, instead of what its header claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import av

from vod.media.probe import UNKNOWN_CODEC, open_media

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the packets of a track say.

    :param sample_rate: Hz.
    :param packets: How many there are.
    :param duration: Seconds from the start of the first packet to the end of the last.
    :param stated: Seconds according to the header, without what encoders put before and after the sound.
    :param size: Bytes of all packets.
    :param decodable: Whether sound came out of the decoder.
    :param ends_cleanly: Whether the last packet is whole and decodes.
    """

    codec: str
    sample_rate: int
    channels: int
    packets: int
    duration: float
    stated: float | None
    size: int
    decodable: bool
    ends_cleanly: bool


def measure(source: Path, index: int = 0, *, demuxer: str | None = None) -> Measurement:
    """Read every packet of an audio track, decoding only its beginning and its end.

    :raises UnreadableMediaError: *source* cannot be opened.
    """
    with open_media(source, demuxer) as container:
        stream = container.streams.audio[index]
        context = stream.codec_context
        packets = size = end = 0
        start: int | None = None
        decodable = False
        last: av.Packet[av.AudioStream] | None = None
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                packets += 1
                size += packet.size
                if packet.pts is not None:
                    start = packet.pts if start is None else start
                    end = max(end, packet.pts + (packet.duration or 0))
                if not decodable:
                    decodable = _decodes(context, packet)
                last = packet
        except (OSError, ValueError, av.FFmpegError):
            last = None
        seconds = float((end - start) * stream.time_base) if start is not None and stream.time_base else 0.0
        return Measurement(
            codec=context.codec.canonical_name if context else UNKNOWN_CODEC,
            sample_rate=context.sample_rate if context else 0,
            channels=context.layout.nb_channels if context else 0,
            packets=packets,
            duration=seconds,
            stated=float(stream.duration * stream.time_base)
            if stream.duration and stream.time_base
            else None,
            size=size,
            decodable=decodable,
            ends_cleanly=last is not None and not last.is_corrupt and _decodes(context, last, silent=True),
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
