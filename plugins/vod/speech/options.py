"""What can be told to speech recognition, in one place."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from vod.errors import InvalidInputError

Channels = Literal["mix", "split", "left", "right"]
Task = Literal["transcribe", "translate"]


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """How speech is recognised. An engine that cannot do what is asked for says so before it starts.

    :param engine: ``whisper``: faster-whisper on the worker; ``http``: a server with OpenAI's
        ``/v1/audio/transcriptions``; ``sis``: Huawei Cloud SIS.
    :param model: A name such as ``base`` or ``large-v3``, a folder, or a Python package that holds a model.
        The default of ``sis`` is ``chinese_16k_media``.
    :param language: Language spoken, a code such as ``de`` or ``pt-BR``; recognised when empty.
    :param multilingual: Recognise the language of every piece, for audio in which it changes.
    :param task: ``transcribe``, or ``translate`` for an English translation.
    :param device: ``cpu``, ``cuda``, or ``auto``: the GPU where there is one.
    :param compute_type: Precision, see CTranslate2's documentation of quantization; ``auto`` is ``int8`` on
        the CPU and ``float16`` on a GPU.
    :param cpu_threads: Threads of one recognition; 0: the cores of this task's share of the machine.
    :param batch_size: Pieces recognised at once; memory grows with it. 0: chosen by the device.
    :param beam_size: Candidates kept while decoding.
    :param hotwords: Names and words to expect.
    :param initial_prompt: Text that stands before the audio's; it can come back as text.
    :param vad: Options of the detector of speech, see faster-whisper's ``VadOptions``.
    :param channels: ``mix``: all channels as one. ``left``, ``right``: only this one. ``split``: each by
        itself, with its name as the speaker; channels with the same sound are one, without a speaker.
    :param time_limit: Seconds for one audio; 0: ten times its length and ten minutes.
    :param memory_limit: Bytes for the recognising process; 0: no limit.
    :raises InvalidInputError: channels or a task that there are not.
    """

    engine: str = "whisper"
    model: str = "base"
    language: str = ""
    multilingual: bool = False
    task: Task = "transcribe"
    device: str = "auto"
    compute_type: str = "auto"
    cpu_threads: int = 0
    batch_size: int = 0
    beam_size: int = 5
    hotwords: str = ""
    initial_prompt: str = ""
    vad: Mapping[str, Any] = field(default_factory=dict)
    channels: Channels = "mix"
    time_limit: float = 0
    memory_limit: int = 0

    def __post_init__(self) -> None:
        if self.engine == "sis" and self.model == SpeechOptions.model:
            object.__setattr__(self, "model", "chinese_16k_media")
        for name, choices in {"channels": get_args(Channels), "task": get_args(Task)}.items():
            if getattr(self, name) not in choices:
                raise InvalidInputError(
                    f"The option {name} of speech recognition cannot be {getattr(self, name)!r}.",
                    remedy=f"Choose one of: {', '.join(choices)}.",
                )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SpeechOptions:
        """Options by name, as they stand in a connection, a form or the configuration.

        :raises InvalidInputError: an unknown option, or one that cannot have this value.
        """
        known = {entry.name for entry in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InvalidInputError(
                f"Speech recognition has no option {unknown[0]!r}.",
                remedy=f"Choose from: {', '.join(sorted(known))}.",
            )
        return cls(**values)

    def fingerprint(self) -> str:
        """Stands for all options that can change the text: not for limits, threads and devices."""
        means = {"device", "cpu_threads", "batch_size", "time_limit", "memory_limit"}
        values = {name: value for name, value in asdict(self).items() if name not in means}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
