"""What reads media with PyAV: runs in the sandbox only, and answers in JSON."""

from __future__ import annotations

import array
import contextlib
import os
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any

import av
from av.stream import Disposition

from vod.sandbox import MAX_LENGTH_TEXT
from vod.sandbox.fork_server import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer

UNKNOWN_CODEC = "unknown"

_LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "tta", "ape", "truehd", "mlp")


def probe(file: IO[bytes], *, options: dict[str, str]) -> dict[str, Any]:
    """Read the headers; the fields of :class:`vod.media.info.MediaInfo`, with ffmpeg's name of the container.

    :param options: For opening the file.
    """
    with _opened(file, options) as container:
        tags = _tags(container)
        readable = options["codec_whitelist"].split(",")
        tracks = range(len(container.streams.audio))
        return {
            "container": container.format.name,
            "duration": container.duration / av.time_base if container.duration else None,
            "bit_rate": container.bit_rate or None,
            "title": tags.get("title", "")[:MAX_LENGTH_TEXT] or None,
            "comment": tags.get("comment", "")[:MAX_LENGTH_TEXT] or None,
            "audio": [_audio_track(container, index, readable) for index in tracks],
            "video": _video_track(container),
        }


def measure(file: IO[bytes], *, index: int, options: dict[str, str], demuxer: str | None) -> dict[str, Any]:
    """Read every packet of an audio track; the fields of :class:`vod.media.measure.Measurement`."""
    with _opened(file, options, demuxer) as container:
        if index >= len(container.streams.audio):
            raise Refusal("no_track")
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
        return {
            "codec": context.codec.canonical_name if context else UNKNOWN_CODEC,
            "sample_rate": context.sample_rate if context else 0,
            "channels": context.layout.nb_channels if context else 0,
            "duration": float((end - start) * time_base) if start is not None else 0.0,
            # Packets whose end is to be thrown away (Opus, Vorbis) count whole and overlap.
            "sound": float(min(sound, end - (start or 0)) * time_base),
            "stated": float(stream.duration * time_base) if stream.duration else None,
            "size": size,
            "decodable": decodable,
            "ends_cleanly": last is not None and _decodes(context, last, silent=True),
        }


def is_heard(
    file: IO[bytes],
    *,
    places: list[float],
    seconds: float,
    threshold: int,
    options: dict[str, str],
    demuxer: str,
) -> bool:
    """Whether a sample is above the *threshold* within some *seconds* at one of the *places* (seconds)."""
    with _opened(file, options, demuxer) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="s16", layout="mono", rate=8000)
        for place in places:
            try:
                container.seek(int(place * av.time_base))
                heard = 0
                for frame in container.decode(stream):
                    for part in resampler.resample(frame):
                        samples = array.array("h", bytes(part.planes[0])[: part.samples * 2])
                        if max(samples) > threshold or min(samples) < -threshold:
                            return True
                    heard += frame.samples
                    if heard > seconds * frame.sample_rate:
                        break
            except (OSError, ValueError, av.FFmpegError):
                continue
    return False


@contextlib.contextmanager
def _opened(file: IO[bytes], options: dict[str, str], demuxer: str | None = None) -> Iterator[InputContainer]:
    try:
        container = av.open(
            SeekableFile(file),
            mode="r",
            format=demuxer,
            # Without "replace" one byte of Latin-1 in a title makes the whole file unreadable.
            metadata_errors="replace",
            options=options,
        )
    except (OSError, ValueError, av.FFmpegError) as error:  # too many tracks are "out of memory" to ffmpeg
        raise Refusal("not_media", getattr(error, "strerror", None) or type(error).__name__) from error
    with container:
        yield container


class SeekableFile:
    """A file that says -1 where PyAV would print a traceback: a damaged file points anywhere."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.read = file.read
        self.tell = file.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go there if it can be."""
        try:
            return self._file.seek(offset, whence)
        except (OSError, OverflowError, ValueError):
            return -1


def _tags(container: InputContainer) -> dict[str, str]:
    """The tags of the whole file, by lower-case name; Ogg has them in its first track."""
    ogg = (
        container.streams.audio[0].metadata
        if "ogg" in container.format.name and container.streams.audio
        else {}
    )
    return {name.lower(): text for name, text in {**ogg, **container.metadata}.items()}


def _audio_track(container: InputContainer, index: int, readable: list[str]) -> dict[str, Any]:
    stream = container.streams.audio[index]
    context = stream.codec_context  # None when no decoder is known
    language = (stream.language or "und").lower()[:MAX_LENGTH_TEXT]
    codec = context.codec.canonical_name if context else UNKNOWN_CODEC
    start = _start(container, stream)
    return {
        "index": index,
        "codec": codec,
        "sample_rate": (context.sample_rate or None) if context else None,
        "channels": (context.layout.nb_channels or None) if context else None,
        "bit_rate": (context.bit_rate or None) if context else None,
        "language": None if language == "und" else language,
        "default": bool(stream.disposition & Disposition.default),
        "title": stream.metadata.get("title", "")[:MAX_LENGTH_TEXT] or None,
        "duration": _duration(stream, start),
        "start": start,
        "readable": bool(context and context.codec.name in readable),
        "bits": context.format.bits if context and context.format and codec.startswith(_LOSSLESS) else None,
        "dispositions": [mark.name for mark in Disposition if mark.name and mark & stream.disposition],
    }


def _start(container: InputContainer, stream: av.AudioStream | av.VideoStream) -> float:
    if stream.start_time is None or stream.time_base is None:
        return 0.0
    return float(stream.start_time * stream.time_base) - (container.start_time or 0) / av.time_base


def _duration(stream: av.AudioStream, start: float) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Matroska keeps the track's end in a tag, DURATION or DURATION-eng: 00:00:10.025000000
    tag = next((value for key, value in stream.metadata.items() if key.startswith("DURATION")), "")
    hours, _, rest = tag.partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return max(int(hours) * 3600 + int(minutes) * 60 + float(seconds) - start, 0.0)
    except ValueError:
        return None


def _video_track(container: InputContainer) -> dict[str, Any] | None:
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            context, start = stream.codec_context, _start(container, stream)
            if context is None:
                return {"codec": UNKNOWN_CODEC, "width": 0, "height": 0, "start": start}
            return {
                "codec": context.codec.canonical_name,
                "width": context.width,
                "height": context.height,
                "start": start,
            }
    return None


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
