"""What can be asked of the ffmpeg engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal

from vod.errors import InvalidInputError
from vod.locations import variant_of
from vod.media.languages import canonical
from vod.storage.sources import DOWNLOAD_LIMIT

GAPS = ("silence", "close")
"""What can become of gaps in the sound."""
TRUNCATED = ("fail", "keep")
"""What can become of a source whose end is missing."""

_SAME_SOUND = frozenset({"speech", "timeout", "max_bytes", "processes"})
"""Options that change nothing in the audio itself."""


def _language(value: Any) -> str:
    return canonical(str(value))


def _switch(value: Any) -> bool:
    return {"true": True, "false": False}[str(value).lower()]


def _number_or_word(value: Any) -> int | str:
    return int(value) if str(value).isdecimal() else str(value)


def _option(default: Any, read: Callable[[Any], Any], kind: str) -> Any:
    """:param read: Makes the value of what a template or a command line may have made text."""
    return field(default=default, metadata={"read": read, "kind": kind})


@dataclass(frozen=True, kw_only=True)
class FfmpegOptions:
    """What is asked of every asset of a batch, besides its format.

    Values are read as :meth:`from_mapping` reads them, so that what means the same is the same.

    :param language: Of the audio track, a code or a name: ``ger`` and ``German`` become ``de``. The default
        track when omitted.
    :param track: Which audio track: its number from 0, ``all``, ``mix`` (all in one), ``speech`` (commentary,
        audio description, music and effects come last), or a mark such as ``original``, ``dub`` or
        ``comment``. The default track when omitted.
    :param start: Seconds into the source at which to start.
    :param duration: Seconds to take; to the end when omitted.
    :param bit_rate: bit/s of what is encoded; the format's own when omitted.
    :param sample_rate: Hz; the source's when omitted, or the nearest that the encoder knows.
    :param channels: A number of channels to mix to, or the one channel to take: ``left``, ``right`` or
        ``center``; the source's when omitted.
    :param loudness: Integrated loudness in LUFS (EBU R128) that the sound is brought to by one gain for the
        whole.
    :param reencode: Encode also where a copy would do.
    :param speech: Write also a 16 kHz mono WAV for speech recognition, from the same decoding.
    :param gaps: What becomes of gaps in the sound: ``silence`` keeps every sound at its time in the video,
        ``close`` joins what there is.
    :param truncated: ``fail`` when the end of a source is missing, or ``keep`` what there is.
    :param strict: Fail when frames of a source cannot be decoded.
    :param keep_tags: Take over all tags of the source.
    :param timeout: Seconds for one asset; its own duration and ten minutes when omitted.
    :param max_bytes: Bytes of a source that is fetched at most.
    :param processes: ffmpeg processes at a time; one a core when omitted.
    """

    language: str | None = _option(None, _language, "text")
    track: int | str | None = _option(None, _number_or_word, "a number or a word")
    start: float = _option(0.0, float, "a number of seconds")
    duration: float | None = _option(None, float, "a number of seconds")
    bit_rate: int | None = _option(None, int, "a whole number of bit/s")
    sample_rate: int | None = _option(None, int, "a whole number of Hz")
    channels: int | str | None = _option(None, _number_or_word, "a number, left, right or center")
    loudness: float | None = _option(None, float, "a number of LUFS")
    reencode: bool = _option(False, _switch, "true or false")
    speech: bool = _option(False, _switch, "true or false")
    gaps: Literal["silence", "close"] = _option("silence", str, "silence or close")
    truncated: Literal["fail", "keep"] = _option("fail", str, "fail or keep")
    strict: bool = _option(False, _switch, "true or false")
    keep_tags: bool = _option(False, _switch, "true or false")
    timeout: float | None = _option(None, float, "a number of seconds")
    max_bytes: int = _option(DOWNLOAD_LIMIT, int, "a whole number of bytes")
    processes: int | None = _option(None, int, "a whole number")

    def __post_init__(self) -> None:
        for option in fields(self):
            if (value := getattr(self, option.name)) is not None:
                object.__setattr__(self, option.name, _read(option, value))
        for name, minimum in (("timeout", 0.0), ("max_bytes", 1), ("processes", 1)):
            value = getattr(self, name)
            if value is not None and not value >= minimum:
                raise InvalidInputError(
                    f"The option {name!r} cannot be {value!r}.", remedy=f"Use {minimum} or more."
                )

        for name, words in (("gaps", GAPS), ("truncated", TRUNCATED)):
            if getattr(self, name) not in words:
                raise InvalidInputError(
                    f"The option {name!r} cannot be {getattr(self, name)!r}.",
                    remedy=f"Use {' or '.join(words)}.",
                )

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> FfmpegOptions:
        """Read options by name; a template may have made text of the values.

        :raises InvalidInputError: there is no such option, or its value is of the wrong kind.
        """
        known = [entry.name for entry in fields(cls)]
        if unknown := sorted(set(given) - set(known)):
            raise InvalidInputError(
                f"The ffmpeg engine has no option {unknown[0][:100]!r}.",
                remedy=f"Use one of {', '.join(known)}.",
            )
        return cls(**{name: value for name, value in given.items() if value not in (None, "", "None")})

    @property
    def changed(self) -> dict[str, Any]:
        """The options that are not at their default."""
        return {
            entry.name: value
            for entry in fields(self)
            if (value := getattr(self, entry.name)) != entry.default
        }

    @property
    def variant(self) -> str:
        """What these options add to the names of an audio's files; see :func:`vod.locations.variant_of`."""
        shaping = {name: value for name, value in self.changed.items() if name not in _SAME_SOUND}
        return variant_of(shaping, self.language)


def _read(option: Field[Any], value: Any) -> Any:
    try:
        return option.metadata["read"](value)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"The option {option.name!r} cannot be {str(value)[:100]!r}.",
            remedy=f"Give {option.metadata['kind']}.",
        ) from error
