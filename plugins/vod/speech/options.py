"""What can be told to speech recognition, in one place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, Literal, get_args

from vod.errors import InvalidInputError
from vod.speech.languages import with_usual_code

Channels = Literal["mix", "split", "left", "right"]
Task = Literal["transcribe", "translate"]

_Precision = Literal[
    "auto",
    "default",
    "int8",
    "int8_float32",
    "int8_float16",
    "int8_bfloat16",
    "int16",
    "float16",
    "bfloat16",
    "float32",
]
"""CTranslate2's, which itself says only when a model is loaded that it has no other."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _switch(value: Any) -> bool:
    return {"true": True, "false": False}[str(value).strip().lower()]


def _number(value: Any, least: float, most: float) -> float:
    """Each number in one form, so that all ways to write it have the same fingerprint."""
    number = float(value)
    if isinstance(value, bool) or not least <= number <= most:
        raise ValueError
    return int(number) if number.is_integer() else number


def _whole(value: Any, least: int, most: int) -> int:
    number = _number(value, least, most)
    if not isinstance(number, int):
        raise TypeError
    return number


def _detector(value: Any) -> dict[str, Any]:
    """The names are faster-whisper's, and so for the engine to check."""
    found = {}
    for name, each in dict(value).items():
        most = 1 if name.endswith("threshold") else 1_000_000
        read = partial(_number, least=0, most=most)
        if each is not None:
            found[name] = _read(f"vad.{name}", each, read, f"a number from 0 to {most}")
    return found


def _read(name: str, value: Any, read: Callable[[Any], Any], kind: str) -> Any:
    try:
        return read(value)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InvalidInputError(
            f"The option {name} of speech recognition cannot be {str(value)[:100]!r}.", remedy=f"Give {kind}."
        ) from error


def _taken(read: Callable[[Any], Any], kind: str) -> dict[str, Any]:
    """:param read: Makes the value of what a template may have made text, or raises."""
    return {"read": read, "kind": kind}


def _count(least: int, most: int, unit: str = "") -> dict[str, Any]:
    return _taken(partial(_whole, least=least, most=most), f"a whole number{unit} from {least} to {most}")


def _choice(kind: Any) -> dict[str, Any]:
    """:param kind: A ``Literal``."""
    choices = get_args(kind)
    return _taken({choice: choice for choice in choices}.__getitem__, f"one of: {', '.join(choices)}")


_NAME = _taken(lambda value: _text(value).strip(), "text")
_WORDS = _taken(_text, "text")
_SECONDS = _taken(partial(_number, least=0, most=1e9), "a number of seconds, 0 or more")


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """How speech is recognised. An engine that cannot do what is asked for says so before it starts.

    :param engine: ``whisper``: faster-whisper on the worker; ``http``: a server with OpenAI's
        ``/v1/audio/transcriptions``; ``sis``: Huawei Cloud SIS.
    :param model: A name such as ``base`` or ``large-v3``, a folder, or a Python package that holds a model.
        The default of ``sis`` is ``chinese_16k_media``.
    :param language: Language spoken, a code such as ``de`` or ``pt-BR``, or a name; recognised when empty.
    :param multilingual: Recognise the language of every piece, for audio in which it changes.
    :param task: ``transcribe``, or ``translate`` for an English translation.
    :param device: ``cpu``, ``cuda``, or ``auto``: the GPU where there is one.
    :param compute_type: Precision, see CTranslate2's documentation of quantization; ``auto`` is ``int8`` on
        the CPU and ``float16`` on a GPU.
    :param cpu_threads: Threads of one recognition; 0: the cores of this task's share of the machine.
    :param batch_size: Pieces recognised at once, up to 1024; memory grows with it. 0: chosen by the device.
    :param beam_size: Candidates kept while decoding, 1 to 100.
    :param hotwords: Names and words to expect.
    :param initial_prompt: Text that stands before the audio's; it can come back as text.
    :param vad: Options of the detector of speech by name, see faster-whisper's ``VadOptions``; thresholds are
        from 0 to 1.
    :param channels: ``mix``: all channels as one. ``left``, ``right``: only this one. ``split``: each by
        itself, with its name as the speaker; channels with the same sound are one, without a speaker.
    :param time_limit: Seconds for one audio; 0: ten times its length and ten minutes.
    :param memory_limit: Bytes for the recognising process; 0: no limit.
    :raises InvalidInputError: an option that cannot have this value. Numbers and switches may be text.
    """

    engine: str = field(default="whisper", metadata=_NAME)
    model: str = field(default="base", metadata=_NAME)
    language: str = field(default="", metadata=_NAME)
    multilingual: bool = field(default=False, metadata=_taken(_switch, "true or false"))
    task: Task = field(default="transcribe", metadata=_choice(Task))
    device: str = field(default="auto", metadata=_NAME)
    compute_type: str = field(default="auto", metadata=_choice(_Precision))
    cpu_threads: int = field(default=0, metadata=_count(0, 1024))
    batch_size: int = field(default=0, metadata=_count(0, 1024))
    beam_size: int = field(default=5, metadata=_count(1, 100))
    hotwords: str = field(default="", metadata=_WORDS)
    initial_prompt: str = field(default="", metadata=_WORDS)
    vad: Mapping[str, Any] = field(
        default_factory=dict, metadata=_taken(_detector, "options by name, such as threshold")
    )
    channels: Channels = field(default="mix", metadata=_choice(Channels))
    time_limit: float = field(default=0, metadata=_SECONDS)
    memory_limit: int = field(default=0, metadata=_count(0, 2**50, " of bytes"))

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = _read(entry.name, getattr(self, entry.name), **entry.metadata)
            object.__setattr__(self, entry.name, value)
        object.__setattr__(self, "language", with_usual_code(self.language))
        if self.engine == "sis" and self.model == SpeechOptions.model:
            object.__setattr__(self, "model", "chinese_16k_media")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SpeechOptions:
        """Options by name, as they stand in a connection, a form or the configuration.

        A template may have made text of numbers and switches. ``None`` counts as left out.

        :raises InvalidInputError: an unknown option, or one that cannot have this value.
        """
        known = {entry.name for entry in fields(cls)}
        unknown = sorted(set(values) - known, key=str)
        if unknown:
            raise InvalidInputError(
                f"Speech recognition has no option {str(unknown[0])[:100]!r}.",
                remedy=f"Choose from: {', '.join(sorted(known))}.",
            )
        return cls(**{name: value for name, value in values.items() if value is not None})

    def fingerprint(self) -> str:
        """Stands for all options that can change the text: not for limits, threads and devices."""
        means = {"device", "cpu_threads", "batch_size", "time_limit", "memory_limit"}
        values = {name: value for name, value in asdict(self).items() if name not in means}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
