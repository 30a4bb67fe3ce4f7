"""Decodes audio with PyAV: runs in the sandbox only, and gives bytes."""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any

import av
import av.error

from vod.media.timeline import GAP, WITHOUT_CLOCK, timeline_of
from vod.sandbox.fork_server import Refusal

if TYPE_CHECKING:
    from collections.abc import Generator

    from av.container import InputContainer

_PIECE = 1 << 18
"""Bytes that are sent at a time, at least; eight seconds."""


def decode(
    file: IO[bytes], *, rate: int, options: dict[str, str], mix: bool = True
) -> Generator[bytes, None, dict[str, Any]]:
    """Yield the first audio track as samples of 16 bits, each at its time on the file's clock.

    Gaps and packets that cannot be decoded are silent, and what overlaps is cut.

    :param mix: All channels as one; else they come side by side, sample by sample. The first bytes are their
        names, as JSON.
    :returns: how many packets were damaged.
    """
    try:
        container = av.open(file, mode="r", options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except (OSError, ValueError, av.FFmpegError) as error:
        raise Refusal("not_media", getattr(error, "strerror", None) or type(error).__name__) from error
    with container:
        if not container.streams.audio:
            raise Refusal("no_audio")
        resampler: av.AudioResampler | None = None
        clock = _Clock(container)
        samples = bytearray()
        bytes_of_sample = damaged = cut = 0
        try:
            for packet in container.demux(audio=0):
                try:
                    frames = packet.decode()
                except MemoryError:
                    raise
                except av.FFmpegError:
                    damaged += 1
                    continue
                for frame in frames:
                    if resampler is None:
                        names = ["mix"] if mix else _names(frame.layout)
                        yield json.dumps(names).encode()
                        bytes_of_sample = 2 * len(names)
                        layout = "mono" if mix else frame.layout
                        resampler = av.AudioResampler(format="s16", layout=layout, rate=rate)
                    silence = round(clock.silence_before(frame) * rate) * bytes_of_sample
                    frame.pts = None  # a gap in the time stamps would stop the resampler
                    cut = max(cut - silence, 0)
                    for at in range(0, silence, _PIECE):
                        yield bytes(samples) + bytes(min(_PIECE, silence - at))
                        samples.clear()
                    for part in resampler.resample(frame):
                        data = bytes(part.planes[0])[: part.samples * bytes_of_sample]
                        samples += data[cut:]
                        cut = max(cut - len(data), 0)
                        if len(samples) >= _PIECE:
                            yield bytes(samples)
                            samples.clear()
            for part in resampler.resample(None) if resampler else ():
                samples += bytes(part.planes[0])[: part.samples * bytes_of_sample]
        except (OSError, ValueError, av.FFmpegError) as error:
            raise Refusal("not_media", getattr(error, "strerror", None) or type(error).__name__) from error
        if samples:
            yield bytes(samples)
        return {"damaged": damaged}


def _names(layout: av.AudioLayout) -> list[str]:
    """``left`` and ``right`` of stereo, ``front left`` and the like of more, else numbers."""
    if layout.nb_channels == 2:
        return ["left", "right"]
    told = [channel.description for channel in layout.channels]
    if len(set(told)) == len(told):
        return told
    return [f"channel {number}" for number in range(1, len(told) + 1)]


class _Clock:
    """Where each frame belongs on the file's clock."""

    def __init__(self, container: InputContainer) -> None:
        self._timeline = timeline_of(container)
        self._starts = (container.start_time or 0) / av.time_base
        self._counts = container.format.name not in WITHOUT_CLOCK

    def silence_before(self, frame: av.AudioFrame) -> float:
        """Seconds of silence before a frame; negative: seconds of sound that are there already."""
        if not self._counts or frame.pts is None or frame.time_base is None:
            return 0.0
        start, first = float(frame.pts * frame.time_base), self._timeline.start is None
        silence = self._timeline.add(start, frame.samples / frame.sample_rate)
        if first and start - self._starts >= GAP:
            return start - self._starts
        return silence
