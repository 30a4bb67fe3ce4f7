"""The audio formats that are written here: encoders, containers, and what needs no encoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vod.errors import InvalidInputError
from vod.media.errors import ChannelNotFoundError, UnsupportedTrackError

if TYPE_CHECKING:
    from vod.media.info import AudioTrack


@dataclass(frozen=True, kw_only=True)
class Format:
    """How one format is written and read back.

    :param codecs: What its container may hold; a track that has one of these can be copied.
    :param bit_rate: bit/s when no other is asked for; ``None`` for lossless formats.
    :param speed: Encoder options that make it faster; by the benchmarks the quality is the same.
    :param speed_from: Lowest bit rate, in bit/s, at which they are used.
    :param sample_rates: What the encoder takes, in Hz; all when empty.
    """

    extension: str
    codecs: frozenset[str]
    encoder: str
    muxer: str
    demuxer: str
    bit_rate: int | None = None
    speed: dict[str, str] = field(default_factory=dict)
    speed_from: int = 0
    muxer_options: dict[str, str] = field(default_factory=dict)
    max_channels: int = 8
    sample_rates: tuple[int, ...] = ()


FORMATS = {
    "MP3": Format(
        extension=".mp3",
        codecs=frozenset({"mp3"}),
        encoder="libmp3lame",
        muxer="mp3",
        demuxer="mp3",
        bit_rate=128_000,
        speed={"compression_level": "7"},
        max_channels=2,
        sample_rates=(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    ),
    "AAC": Format(
        extension=".m4a",
        codecs=frozenset({"aac"}),
        encoder="aac",
        muxer="ipod",
        demuxer="mov",
        bit_rate=128_000,
        speed={"aac_coder": "fast"},
        speed_from=128_000,
        muxer_options={"movflags": "+faststart"},
        sample_rates=(
            *(8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200),
            96_000,
        ),
    ),
    "WAV": Format(
        extension=".wav",
        codecs=frozenset({"pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le"}),
        encoder="pcm_s16le",
        muxer="wav",
        demuxer="wav",
        # Above 4 GB, RIFF's lengths overflow.
        muxer_options={"rf64": "auto"},
        max_channels=64,
    ),
    "FLAC": Format(
        extension=".flac", codecs=frozenset({"flac"}), encoder="flac", muxer="flac", demuxer="flac"
    ),
    "OPUS": Format(
        extension=".opus",
        codecs=frozenset({"opus"}),
        encoder="libopus",
        muxer="opus",
        demuxer="ogg",
        bit_rate=96_000,
        sample_rates=(8_000, 12_000, 16_000, 24_000, 48_000),
    ),
}

EXTENSIONS = {name: form.extension for name, form in FORMATS.items()}
"""File name extension of each audio format."""

SPEECH_RATE = 16_000
"""Hz, of what speech recognition takes."""

_MOST_MIXED = 8
"""Channels that ffmpeg knows how to mix."""
_PLACES = {"left": "FL", "right": "FR", "center": "FC"}


def _require(name: str, value: float | None, minimum: float, maximum: float) -> None:
    if value is not None and not (minimum <= value <= maximum):
        raise InvalidInputError(f"{name} cannot be {value}.", remedy=f"Use {minimum} to {maximum}.")


@dataclass(frozen=True, kw_only=True)
class Output:
    """What one file shall be.

    A track that already has the format's codec is copied, unless something here, or trimming, asks for other
    samples than it has.

    :param audio_format: A key of :data:`FORMATS`. AAC is in an MP4 container, ``.m4a``; OPUS in Ogg.
    :param bit_rate: bit/s when it is encoded; the format's own when omitted.
    :param sample_rate: Hz; the source's when omitted, or the nearest that the encoder knows.
    :param channels: A number of channels to mix to, or the one channel to take, ``left``, ``right`` or
        ``center``; the source's when omitted. MP3 holds two at most and is mixed down.
    :param loudness: Integrated loudness in LUFS (EBU R128) that the sound is brought to by one gain for the
        whole; less where its true peak would rise above -1 dBTP.
    :param reencode: Encode also where a copy would do.
    :raises InvalidInputError: one of them cannot be.
    """

    audio_format: str = "MP3"
    bit_rate: int | None = None
    sample_rate: int | None = None
    channels: int | str | None = None
    loudness: float | None = None
    reencode: bool = False

    def __post_init__(self) -> None:
        if self.audio_format not in FORMATS:
            raise InvalidInputError(
                f"{self.audio_format!r} is not an audio format of this engine.",
                remedy=f"Use one of {', '.join(FORMATS)}.",
            )
        _require("bit_rate", self.bit_rate, 8_000, 1_000_000)
        _require("sample_rate", self.sample_rate, 8_000, 192_000)
        if self.sample_rate and self.form.sample_rates and self.sample_rate not in self.form.sample_rates:
            raise InvalidInputError(
                f"{self.audio_format} cannot have a sample rate of {self.sample_rate} Hz.",
                remedy=f"Use one of {', '.join(map(str, self.form.sample_rates))}.",
            )
        _require("loudness", self.loudness, -70, -5)
        if isinstance(self.channels, str):
            if self.channels not in _PLACES:
                raise InvalidInputError(
                    f"channels cannot be {self.channels!r}.",
                    remedy=f"Use a number, or one of {', '.join(_PLACES)}.",
                )
        else:
            _require("channels", self.channels, 1, self.form.max_channels)

    @property
    def form(self) -> Format:
        """How the format is written."""
        return FORMATS[self.audio_format]

    @property
    def is_for_speech(self) -> bool:
        """Whether speech recognition takes it as it is."""
        return self.audio_format == "WAV" and self.sample_rate == SPEECH_RATE

    def keeps(self, codec: str, sample_rate: int | None, channels: int | None) -> bool:
        """Whether a track with these properties can be taken over as it is."""
        return (
            codec in ({"pcm_s16le"} if self.is_for_speech else self.form.codecs)
            and not self.reencode
            and self.loudness is None
            and self.sample_rate in (None, sample_rate)
            and self.channels in (None, channels)
        )

    def mixes_to(self, channels: int) -> int:
        """How many channels it has, of a track with *channels*."""
        if isinstance(self.channels, str):
            return 1
        if self.channels is not None:
            return self.channels
        return min(channels, self.form.max_channels) if self.audio_format == "MP3" else channels

    def may_cancel(self, places: Sequence[str]) -> bool:
        """Whether channels of a track are mixed so that inverted ones cancel others."""
        count = len(places)
        if isinstance(self.channels, str) or count < 2:
            return False
        target = self.mixes_to(count)
        return target == 1 or (target < count and mixes_equally(places))

    def require(self, track: AudioTrack) -> None:
        """See that a track with these channels can become this.

        :raises ChannelNotFoundError: the one that was asked for is not there.
        :raises UnsupportedTrackError: there are more than the format holds.
        """
        places = track.places
        if isinstance(self.channels, str) and len(places) > 1 and self._place(places) is None:
            there = ", ".join(places) if is_laid_out(places) else f"{len(places)} without names"
            raise ChannelNotFoundError(
                f"Audio track {track.index} has no channel {self.channels!r}; it has {there}."
            )
        if self.mixes_to(len(places)) > self.form.max_channels:
            raise UnsupportedTrackError(
                f"Audio track {track.index} has {len(places)} channels, and {self.audio_format} holds at "
                f"most {self.form.max_channels}.",
                remedy="Ask for fewer, for example channels=2, or for WAV.",
            )

    def _place(self, places: Sequence[str]) -> str | None:
        """ffmpeg's name of the one channel to take."""
        assert isinstance(self.channels, str)
        if is_laid_out(places):
            place = _PLACES[self.channels]
            return place if place in places else None
        return {"left": "c0", "right": "c1"}.get(self.channels)

    def filters(self, places: Sequence[str], gain: float, take: int | None = None) -> list[str]:
        """ffmpeg's filters for a track with these channels.

        :param places: As in :attr:`vod.media.info.AudioTrack.places`.
        :param gain: dB, as measured for :attr:`loudness`.
        :param take: The one channel to take instead of a mix, whose channels cancel each other.
        """
        filters = [f"volume={gain:.2f}dB"] if gain else []
        count, target = len(places), self.mixes_to(len(places))
        if isinstance(self.channels, str):
            if count > 1:
                filters.append(f"pan=mono|c0={self._place(places)}")
        elif take is not None:
            filters.append(_panned(target, f"c{take}"))
        elif target < count and mixes_equally(places):
            # What ffmpeg guesses of channels without names would be a subwoofer's, which is left out.
            equal = "+".join(f"{1 / count:.6f}*c{number}" for number in range(count))
            filters.append(_panned(target, equal))
        elif self.audio_format in ("AAC", "OPUS", "FLAC") and any(name.startswith("T") for name in places):
            filters.append("aformat=channel_layouts=7.1|5.1")  # they have no place for what is overhead
        elif self.audio_format == "OPUS" and target > 2:
            # libopus refuses the layouts with side channels that most 5.1 tracks have.
            filters.append("aformat=channel_layouts=quad|5.0|5.1|6.1|7.1")
        return filters

    def options(self, bits: int | None) -> dict[str, str | int]:
        """ffmpeg's options for encoding a track whose samples have *bits* bits."""
        form = self.form
        options: dict[str, str | int] = {"c:a": form.encoder}
        if rate := self.bit_rate or form.bit_rate:
            options["b:a"] = rate
            if rate >= form.speed_from:
                options |= form.speed
        if self.sample_rate:
            options["ar"] = self.sample_rate
        if isinstance(self.channels, int):
            options["ac"] = self.channels
        fine = (bits or 0) > 16
        if self.audio_format == "WAV" and fine and not self.is_for_speech:
            options["c:a"] = "pcm_s32le"
        if self.audio_format == "FLAC":
            options["sample_fmt"] = "s32" if fine else "s16"
        return options


def _panned(channels: int, mixed: str) -> str:
    layout = {1: "mono", 2: "stereo"}.get(channels, f"{channels}c")
    return "|".join([f"pan={layout}", *(f"c{number}={mixed}" for number in range(channels))])


def is_laid_out(places: Sequence[str]) -> bool:
    """Whether a file says where its channels are heard."""
    return not any(name in ("NONE", "UNK", "") for name in places)


def mixes_equally(places: Sequence[str]) -> bool:
    """Whether a mix of channels has the same share of all: what ffmpeg has no places for."""
    return len(places) > _MOST_MIXED or not is_laid_out(places)


SPEECH = Output(audio_format="WAV", sample_rate=SPEECH_RATE, channels=1)
"""What speech recognition takes: nothing has to be decoded or resampled again."""
