"""Decodes audio with PyAV: runs in the sandbox only, and gives bytes."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

import av
import av.error

from vod.sandbox.fork_server import Refusal

if TYPE_CHECKING:
    from collections.abc import Generator

_PIECE = 1 << 18
"""Bytes that are sent at a time, at least; eight seconds."""


def decode(file: IO[bytes], *, rate: int, options: dict[str, str]) -> Generator[bytes, None, dict[str, Any]]:
    """Yield the first audio track as mono samples of 16 bits; returns how many packets were damaged."""
    try:
        container = av.open(file, mode="r", options=options, metadata_errors="replace")
    except MemoryError:
        raise
    except (OSError, ValueError, av.FFmpegError) as error:
        raise Refusal("not_media", getattr(error, "strerror", None) or type(error).__name__) from error
    with container:
        if not container.streams.audio:
            raise Refusal("no_audio")
        resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
        samples = bytearray()
        damaged = 0
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
                    frame.pts = None  # a gap in the time stamps would stop the resampler
                    for part in resampler.resample(frame):
                        samples += bytes(part.planes[0])[: part.samples * 2]
                        if len(samples) >= _PIECE:
                            yield bytes(samples)
                            samples.clear()
            for part in resampler.resample(None):
                samples += bytes(part.planes[0])[: part.samples * 2]
        except (OSError, ValueError, av.FFmpegError) as error:
            raise Refusal("not_media", getattr(error, "strerror", None) or type(error).__name__) from error
        if samples:
            yield bytes(samples)
        return {"damaged": damaged}
