"""What reads media with PyAV: runs in the sandbox only, and answers in JSON."""

from __future__ import annotations

import array
import contextlib
import os
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any

import av
from av.stream import Disposition

from vod.media import structure
from vod.media.timeline import (
    LONGEST_GAP_OF_STREAMS,
    MPEG_STREAMS,
    RESTART,
    WITHOUT_CLOCK,
    Timeline,
    timeline_of,
)
from vod.sandbox import MAX_LENGTH_TEXT
from vod.sandbox.fork_server import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer

UNKNOWN_CODEC = "unknown"
MAX_CHANNELS = 64

_STEADY = {
    *("aac", "mp3", "mp2", "mp1", "ac3", "eac3", "alac", "amrnb", "amrwb", "amr_nb", "amr_wb", "gsm"),
    *("wmav1", "wmav2", "dts", "nellymoser", "qcelp", "evrc"),
}
"""Codecs whose frames are all equally long."""
_FRAMES = (1024, 2048, 1152, 576, 960, 1920, 1536, 4096, 480, 512, 160, 320)
"""Samples of a frame in those codecs."""
_LONGEST_FRAME = 8191
"""Bytes of a frame in those of them that are read without a container."""
_ROUNDING = 0.0011
_FIRST_SAMPLES = 12
"""Of the picture, which ffmpeg looks at to know when it starts."""
_PROBED = 5_000_000
"""Bytes that ffmpeg reads at most to know its streams."""
_USUAL = 8
_LONGEST_END = 0.1
"""Seconds at the end that an edit list leaves out and a copy may have all the same."""

_CHANGES = {"new_extradata", "param_change"}
"""What is beside a packet that is to be decoded in another way than those before."""

_LOSSLESS = ("pcm_", "flac", "alac", "wavpack", "tta", "ape", "truehd", "mlp")


def probe(file: IO[bytes], *, options: dict[str, str]) -> dict[str, Any]:
    """Read the headers; the fields of :class:`vod.media.info.MediaInfo`, with ffmpeg's name of the container.

    :param options: For opening the file.
    """
    with _opened(file, options) as container:
        tags = _tags(container)
        readable = options["codec_whitelist"].split(",")
        sounds = structure.sounds(file, container.format.name)
        audio = [
            _audio_track(container, index, readable, _sound_of(stream, index, sounds, container))
            for index, stream in enumerate(container.streams.audio)
        ]
        seen = {track["codec"] for track in audio}
        numbers = {stream.id for stream in container.streams}
        hidden = {sound.codec for sound in sounds if sound.codec in structure.WITHOUT_DECODER}
        return {
            "container": container.format.name,
            "duration": container.duration / av.time_base if container.duration else None,
            "bit_rate": container.bit_rate or None,
            "title": tags.get("title", "")[:MAX_LENGTH_TEXT] or None,
            "comment": tags.get("comment", "")[:MAX_LENGTH_TEXT] or None,
            "audio": audio,
            "not_decoded": sorted(hidden - seen),
            "not_found": [each.number for each in sounds if each.number and each.number not in numbers],
            "starts_late": container.format.name == "mpeg" and bool(sounds) and not audio,
            "video": _video_track(container),
        }


def measure(
    file: IO[bytes], *, index: int, options: dict[str, str], demuxer: str | None, decode: bool = False
) -> dict[str, Any]:
    """Read every packet of an audio track; the fields of :class:`vod.media.measure.Measurement`.

    :param decode: Decode every packet: what does not decode counts as a gap.
    """

    def survey(timeline: Timeline | None = None) -> dict[str, Any]:
        file.seek(0)
        with _opened(file, options, demuxer) as container:
            if index >= len(container.streams.audio):
                raise Refusal("no_track")
            stream = container.streams.audio[index]
            return _Survey(container, stream, timeline or timeline_of(container), decode=decode).made()

    found = survey()
    if found["restarts"] and _picture_runs_on(file, options, demuxer):
        return survey(Timeline())
    return found


def _picture_runs_on(file: IO[bytes], options: dict[str, str], demuxer: str | None) -> bool:
    """Whether an MPEG stream is one recording by its picture, so that its sound has only a gap."""
    file.seek(0)
    with _opened(file, options, demuxer) as container:
        if container.format.name not in MPEG_STREAMS or not container.streams.video:
            return False
        picture, last, longest = container.streams.video[0], None, LONGEST_GAP_OF_STREAMS
        with contextlib.suppress(IndexError, OSError, ValueError, av.FFmpegError):
            for packet in container.demux(picture):
                if packet.dts is None or packet.time_base is None:
                    continue
                time = float(packet.dts * packet.time_base)
                if last is not None and not -RESTART < time - last < longest:
                    return False
                last = time
        return last is not None


class _Survey:
    """Everything that the packets of one track say."""

    def __init__(
        self, container: InputContainer, stream: av.AudioStream, timeline: Timeline, *, decode: bool
    ) -> None:
        self._container = container
        self._stream = stream
        self._context = stream.codec_context
        base = stream.time_base or Fraction(0)
        self._ticks, self._second = base.numerator, base.denominator
        codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
        self._header = _HEADERS.get(codec)
        self._is_steady = codec in _STEADY
        self._decode = decode
        self._timeline = timeline
        self._size = self._read = self._packets = self._changes = self._hidden = self._left_out = 0
        self._decodable = self._encrypted = self._stopped = False
        self._frame = self._heard = self._stale = 0.0
        self._played = self._warm_up = 0.0
        self._signature: bytes | None = None
        self._last: av.Packet[av.AudioStream] | None = None
        self._waiting: list[av.Packet[av.AudioStream]] = []

    def made(self) -> dict[str, Any]:
        try:
            for packet in self._container.demux(self._stream):
                if packet.size:
                    self._take(packet)
        except IndexError:
            pass  # after the last packet, PyAV stumbles over tracks that turned up on the way (damaged TS)
        except (OSError, ValueError, av.FFmpegError):
            self._last, self._stopped = None, True
        self._count_waiting()
        context, line, last = self._context, self._timeline, self._last
        start = max(line.start or 0.0, 0.0, self._plays_from())
        if self._left_out * self._frame > _LONGEST_END:
            self._hidden += self._left_out
        duration = self._played if line.restarts else line.end - start
        return {
            "codec": context.codec.canonical_name if context else UNKNOWN_CODEC,
            "sample_rate": context.sample_rate if context else 0,
            "channels": context.layout.nb_channels if context else 0,
            "start": start,
            "begins": start - (self._container.start_time or 0) / av.time_base,
            "duration": max(duration, 0.0) if line.start is not None else 0.0,
            # Packets whose end is to be thrown away (Opus, Vorbis) count whole and overlap.
            "sound": max(min(self._played, duration), 0.0),
            "primed": start - max(line.start or 0.0, 0.0),
            "has_clock": self._container.format.name not in WITHOUT_CLOCK,
            "stated": self._seconds(self._stream.duration) if self._stream.duration else None,
            "size": self._size,
            "read": self._read,
            "decodable": self._decodable,
            "ends_cleanly": last is not None
            and (_decoded(context, last) is not None or self._is_no_frame(last)),
            "gaps": [gap.__dict__ for gap in line.gaps],
            "gap_seconds": line.gap_seconds,
            "overlap_seconds": line.overlap_seconds,
            "restarts": line.restarts,
            "changes": self._changes,
            "hidden": self._hidden,
            "encrypted": self._encrypted,
            "stopped": self._stopped,
        }

    def _is_no_frame(self, packet: av.Packet[av.AudioStream]) -> bool:
        """Whether a packet is, or has within it, what follows the sound of a raw stream, such as tags."""
        if not self._signature or not self._header:
            return False
        is_too_long = self._is_steady and packet.size > _LONGEST_FRAME
        return is_too_long or not self._header(bytes(memoryview(packet)[:_HEADER]))

    def _take(self, packet: av.Packet[av.AudioStream]) -> None:
        self._size += packet.size
        self._packets += 1
        self._read = max(self._read, packet.pos + packet.size if packet.pos is not None else 0)
        self._last = packet
        changes = self._changes
        beside = {side.data_type for side in packet.iter_sidedata()}
        if beside:
            self._encrypted = self._encrypted or "encryption_info" in beside
            self._changes += self._packets > 1 and bool(_CHANGES & beside)
        if self._header and (signature := self._header(bytes(memoryview(packet)[:_HEADER]))):
            if self._signature and signature != self._signature:
                self._changes += 1
            self._signature = signature
        changed = self._changes > changes
        if not self._decodable or self._decode or changed:
            frames = _decoded(self._context, packet)
            if frames == [] and not self._decodable and packet.pts is not None:
                self._warm_up = self._seconds(packet.pts + (packet.duration or 0))
            self._decodable = self._decodable or bool(frames)
            if frames:
                self._heard = sum(frame.samples for frame in frames) / frames[0].sample_rate
            if self._decode and self._decodable and not frames:
                return  # it leaves a gap
        if changed and self._is_steady:
            self._count_waiting()
            self._stale, self._frame = self._frame, self._heard
        # The usual length of a packet is known after some of them.
        if len(self._waiting) < _USUAL and not self._frame:
            self._waiting.append(packet)
            return
        self._count_waiting()
        self._count(packet)

    def _count_waiting(self) -> None:
        if self._waiting:
            lengths = [self._length(packet) for packet in self._waiting]
            self._frame = self._exact(max(lengths, key=lengths.count))
            waiting, self._waiting = self._waiting, []
            for packet in waiting:
                self._count(packet)

    def _seconds(self, ticks: int) -> float:
        # A Fraction would be as exact, and take most of the time that reading takes.
        return ticks * self._ticks / self._second

    def _length(self, packet: av.Packet[av.AudioStream]) -> float:
        """Seconds that a packet lasts; ffmpeg does not know it of sound that it found after its probing."""
        return self._seconds(packet.duration) if packet.duration else self._heard

    def _exact(self, length: float) -> float:
        """The usual length of a packet; Matroska and FLV round it to milliseconds."""
        rate = self._context.sample_rate if self._context else 0
        for samples in _FRAMES if rate else ():
            if abs(samples / rate - length) <= _ROUNDING:
                return samples / rate
        return length

    def _count(self, packet: av.Packet[av.AudioStream]) -> None:
        if packet.is_discard:  # outside of what the file's edit list plays
            self._left_out += self._played > 0
            return
        self._hidden, self._left_out = self._hidden + self._left_out, 0
        length = self._length(packet)
        if self._frame and min(abs(length - self._frame), abs(length - self._stale)) <= _ROUNDING:
            length = self._frame  # FLV goes on with the length from before a change
        elif self._frame and self._is_steady and length > 1.5 * self._frame:
            length = self._frame  # in MP4 the packet before a gap lasts as long as the gap
        self._played += length
        if packet.pts is None:
            self._timeline.end += length if self._timeline.start is not None else 0.0
        else:
            self._timeline.add(self._seconds(packet.pts), length)

    def _plays_from(self) -> float:
        """Where the sound starts by the header and the decoder, after what only warms that up."""
        start = self._stream.start_time
        found = max(self._seconds(start) if start is not None else 0.0, self._warm_up)
        extradata = (self._context.extradata if self._context else None) or b""
        first = self._timeline.start or 0.0
        if extradata.startswith(b"OpusHead") and first >= 0:
            found = max(found, first + int.from_bytes(extradata[10:12], "little") / 48_000)
        return found


def _of_aac(head: bytes) -> bytes | None:
    """What the header of a frame (ADTS) says about how to decode it: profile, sample rate, channels."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return None
    return bytes([head[2] & 0xFD, head[3] & 0xC0])


def _of_mp3(head: bytes) -> bytes | None:
    """Version and layer, sample rate, mono or not."""
    if len(head) < 4 or head[0] != 0xFF or not _is_mp3(head):
        return None
    return bytes([head[1] & 0xFE, head[2] & 0x0C, head[3] & 0xC0 == 0xC0])


def _of_flac(head: bytes) -> bytes | None:
    """Sample rate, channels, bits of a sample."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xFC != 0xF8:
        return None
    channels = head[3] >> 4
    return bytes([head[2] & 0x0F, 1 if channels >= 8 else channels, head[3] & 0x0E])


def _of_ac3(head: bytes) -> bytes | None:
    """Sample rate, channels, subwoofer or not, of AC-3 and of the first part of E-AC-3."""
    if len(head) < _HEADER or head[:2] != b"\x0b\x77":
        return None
    if head[5] >> 3 > 10:  # E-AC-3, whose other parts only add channels
        return None if head[2] & 0xF8 not in (0x00, 0x80) else bytes([head[4] & 0xC0, head[4] & 0x0F])
    mode = head[6] >> 5
    levels = 2 * ((mode & 1 and mode != 1) + bool(mode & 4) + (mode == 2))  # bits before the subwoofer's
    subwoofer = int.from_bytes(head[6:8], "big") >> (12 - levels) & 1
    return bytes([head[4] & 0xC0, mode << 1 | subwoofer])


_HEADER = 8
"""Bytes at the start of a frame that say how to decode it."""
_HEADERS = dict.fromkeys(("mp1", "mp2", "mp3"), _of_mp3) | dict.fromkeys(("ac3", "eac3"), _of_ac3)
_HEADERS |= {"aac": _of_aac, "flac": _of_flac}
"""The codecs whose frames have headers."""


def _is_mp3(head: bytes) -> bool:
    """Whether a header of a frame has no value that is reserved, unlike the padding after the last one."""
    known = head[1] & 0x18 != 0x08 and head[1] & 0x06 != 0
    return head[1] & 0xE0 == 0xE0 and known and head[2] & 0xF0 != 0xF0 and head[2] & 0x0C != 0x0C


def places(file: IO[bytes], *, tracks: list[int], options: dict[str, str]) -> dict[str, list[list[int]]]:
    """Where the samples of audio tracks are, and the first ones of the others: start, and end before."""
    find = _in_fragments if structure.is_fragmented(file) else _indexed
    file.seek(0)
    # Without its edit list: what one reader leaves out another may read.
    with _opened(file, {**options, "advanced_editlist": "0"}) as container:
        wanted = {container.streams.audio[index].index for index in tracks}
        ranges: list[list[int]] = []
        if find is _in_fragments:
            ranges.append([0, min(_PROBED, os.fstat(file.fileno()).st_size)])
        for start, end in find(container, wanted):
            if ranges and ranges[-1][1] == start:
                ranges[-1][1] = end
            else:
                ranges.append([start, end])
        return {"ranges": ranges}


def _indexed(container: InputContainer, wanted: set[int]) -> Iterator[tuple[int, int]]:
    for stream in container.streams:
        # The container has to live as long as its entries are read.
        for number, entry in enumerate(stream.index_entries):
            if number >= _FIRST_SAMPLES and stream.index not in wanted:
                break
            yield entry.pos, entry.pos + entry.size


def _in_fragments(container: InputContainer, wanted: set[int]) -> Iterator[tuple[int, int]]:
    """By reading all: ffmpeg looks at the index of a fragment when it gets there."""
    for packet in container.demux():
        if packet.size and packet.pos is not None and packet.stream.index in wanted:
            yield packet.pos, packet.pos + packet.size


def index_behind(file: IO[bytes], *, options: dict[str, str]) -> dict[str, list[list[int]]]:
    """:func:`vod.media.structure.index_behind`."""
    return structure.index_behind(file)


def is_heard(
    file: IO[bytes],
    *,
    index: int,
    places: list[float],
    seconds: float,
    threshold: int,
    options: dict[str, str],
    demuxer: str | None,
) -> bool:
    """Whether a sample is above the *threshold* within some *seconds* at one of the *places* (seconds)."""
    with _opened(file, options, demuxer) as container:
        stream = container.streams.audio[index]
        for part in _sound_at(container, stream, places, seconds, sample_format="s16", layout="mono"):
            samples = array.array("h", bytes(part.planes[0])[: part.samples * 2])
            if max(samples) > threshold or min(samples) < -threshold:
                return True
    return False


def levels(
    file: IO[bytes],
    *,
    index: int,
    places: list[float],
    seconds: float,
    equal: bool,
    options: dict[str, str],
    demuxer: str | None,
) -> dict[str, list[dict[str, Any]]]:
    """How loud the channels and a mix of them are at each of the *places*: RMS, 1 is full scale.

    :param equal: Whether all channels have the same share of the mix, instead of that of their place.
    """
    with _opened(file, options, demuxer) as container:
        stream = container.streams.audio[index]
        return {"places": [_levels_at(container, stream, place, seconds, equal) for place in places]}


def _levels_at(
    container: InputContainer, stream: av.AudioStream, place: float, seconds: float, equal: bool
) -> dict[str, Any]:
    mixer = av.AudioResampler(format="fltp", layout="mono")
    channels: list[float] = []
    mixed, count = 0.0, 0
    for part in _sound_at(container, stream, [place], seconds, sample_format="flt", layout=None):
        # PyAV crashes at the ninth plane.
        width = part.layout.nb_channels
        together = _floats(part.planes[0], part.samples * width)
        planes = [together[number::width] for number in range(width)]
        channels = channels or [0.0] * len(planes)
        if len(planes) != len(channels):
            continue
        for number, plane in enumerate(planes):
            channels[number] += sum(sample * sample for sample in plane)
        if equal:
            mixed += sum(sum(samples) ** 2 for samples in zip(*planes, strict=True)) / len(planes) ** 2
        else:
            for frame in mixer.resample(part):
                mixed += sum(sample * sample for sample in _floats(frame.planes[0], frame.samples))
        count += part.samples
    levels = [(each / max(count, 1)) ** 0.5 for each in (*channels, mixed)]
    return {"channels": levels[:-1], "mixed": levels[-1]}


def _floats(plane: av.audio.plane.AudioPlane, samples: int) -> array.array[float]:
    return array.array("f", bytes(plane)[: samples * 4])


def _sound_at(
    container: InputContainer,
    stream: av.AudioStream,
    places: list[float],
    seconds: float,
    *,
    sample_format: str,
    layout: str | None,
) -> Iterator[av.AudioFrame]:
    """Some *seconds* of sound at 8 kHz from each of the *places* that can be read.

    :param layout: The stream's own when it is ``None``.
    """
    resampler = av.AudioResampler(format=sample_format, layout=layout, rate=8000)
    for place in places:
        try:
            container.seek(int(place * av.time_base))
            heard = 0
            for frame in container.decode(stream):
                yield from resampler.resample(frame)
                heard += frame.samples
                if heard > seconds * frame.sample_rate:
                    break
        except (OSError, ValueError, av.FFmpegError):
            continue


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


def _sound_of(
    stream: av.AudioStream, index: int, sounds: list[structure.Sound], container: InputContainer
) -> structure.Sound:
    """What the structure says of a track."""
    by_number = {sound.number: sound for sound in sounds if sound.number}
    if by_number:
        return by_number.get(stream.id, structure.Sound())
    if len(sounds) == len(container.streams.audio):
        return sounds[index]
    if sounds and all(sound.encrypted for sound in sounds):
        return sounds[0]
    return structure.Sound(encrypted="enc_key_id" in stream.metadata)


def _audio_track(
    container: InputContainer, index: int, readable: list[str], sound: structure.Sound
) -> dict[str, Any]:
    stream = container.streams.audio[index]
    context: av.AudioCodecContext | None = stream.codec_context  # None when no decoder is known
    language = (stream.language or "und").lower()[:MAX_LENGTH_TEXT]
    codec = context.codec.canonical_name if context else UNKNOWN_CODEC
    if sound.codec in structure.WITHOUT_DECODER:
        context, codec = None, sound.codec
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
        "places": _places(context) if context else [],
        "encrypted": sound.encrypted,
        "partly_encrypted": sound.partly_encrypted,
        "pauses": sound.pauses,
        "bits": context.format.bits if context and context.format and codec.startswith(_LOSSLESS) else None,
        "dispositions": [mark.name for mark in Disposition if mark.name and mark & stream.disposition],
    }


def _places(context: av.AudioCodecContext) -> list[str]:
    places = [channel.name for channel in context.layout.channels][:MAX_CHANNELS]
    # Of one or two channels everybody knows where they belong.
    usual = {1: ["FC"], 2: ["FL", "FR"]}.get(len(places), places)
    return usual if set(places) == {"NONE"} else places


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


def _decoded(
    context: av.AudioCodecContext | None, packet: av.Packet[av.AudioStream]
) -> list[av.AudioFrame] | None:
    """The sound of *packet*, which may be none yet; ``None`` when the decoder refuses it."""
    if context is None:
        return None
    try:
        return context.decode(packet)
    except (OSError, ValueError, av.FFmpegError):
        return None
