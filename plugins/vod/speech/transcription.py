"""What was said in one audio: words with times, in sentences, and how sure the recogniser was of them.

The JSON of a :class:`Transcription` is the transcript itself; every other file is laid out from it.
"""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

SCHEMA = 1
"""Version of the JSON."""

_SURROGATE = re.compile("[\ud800-\udfff]")
"""Half a character, which no file can hold."""

_BEYOND = 1e9
"""What no number of a transcript comes to; as seconds, 31 years."""


@dataclass(frozen=True)
class Word:
    """A word as it was spoken.

    :param start: Seconds from the start of the video; below 0 for sound from before it.
    :param end: Seconds from the start of the video.
    :param text: The word with its punctuation, and with the blank before it in languages that have one.
    :param probability: How sure the recogniser is of it, from 0 to 1; ``None`` when it does not say.
    """

    start: float
    end: float
    text: str
    probability: float | None = None


@dataclass(frozen=True)
class Segment:
    """A sentence, or as much of it as was spoken without a pause. Never without a word.

    :param speaker: Who speaks, for example ``left`` or ``Speaker 1``; ``None`` when nobody tells them apart.
    :param language: Language of this segment when the audio has several; ``None``: that of the whole.
    """

    words: tuple[Word, ...]
    speaker: str | None = None
    language: str | None = None

    @property
    def start(self) -> float:
        """Seconds from the start of the video."""
        return self.words[0].start

    @property
    def end(self) -> float:
        """Seconds from the start of the video."""
        return self.words[-1].end

    @property
    def text(self) -> str:
        """The words of the segment."""
        return "".join(word.text for word in self.words).strip()


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """What the recogniser gave and nobody said.

    :param loops: Repetitions of the same words that were cut.
    :param improbable: Pieces that were dropped because their words were too improbable.
    """

    loops: int = 0
    improbable: int = 0


@dataclass(frozen=True, kw_only=True)
class Transcription:
    """What was said in one audio. All times are seconds from the start of the video.

    :param language: Code of the language recognised or given, for example ``en``.
    :param duration: Seconds of audio.
    :param model: The speech model, as the caller named it.
    :param segments: In the order of time; none when nothing is said.
    :param engine: Name of the engine that recognised it.
    :param revision: Which version of the model; empty when the engine does not say.
    :param language_probability: How sure the recogniser is of the language, from 0 to 1; ``None`` when it was
        given.
    :param speech_seconds: Seconds in which somebody speaks.
    :param offset: Seconds after the start of the video at which the audio starts: already in all times.
        ``None`` when nobody knows: the times are then those of the audio.
    :param task: ``transcribe``, or ``translate`` for an English translation.
    :param track: Which audio track of the video was heard, from 0.
    :param channels: Which channels of it: ``mix``, ``left``, ``right``, or ``split`` for each by itself.
    :param fingerprint: Stands for the audio, the engine, the model and all options that can change the text.
    :param dropped: What was recognised and is not here.
    """

    language: str
    duration: float
    model: str
    segments: tuple[Segment, ...]
    engine: str = "whisper"
    revision: str = ""
    language_probability: float | None = None
    speech_seconds: float | None = None
    offset: float | None = 0.0
    task: str = "transcribe"
    track: int = 0
    channels: str = "mix"
    fingerprint: str = ""
    dropped: Dropped = field(default_factory=Dropped)

    @property
    def text(self) -> str:
        """The whole text in one paragraph; empty when nothing is said."""
        return "".join(word.text for segment in self.segments for word in segment.words).strip()

    @property
    def confidence(self) -> float | None:
        """Mean probability of the words, from 0 to 1; ``None`` without words that have one."""
        known = [
            word.probability
            for segment in self.segments
            for word in segment.words
            if word.probability is not None
        ]
        return sum(known) / len(known) if known else None

    def shifted(self, seconds: float) -> Transcription:
        """The same, with all times later by *seconds*: of audio that starts late, in the video's time.

        What was spoken before the video starts keeps its time, below 0: captions leave it out, and whoever
        plays the audio finds it.
        """
        if not seconds:
            return self
        segments = tuple(
            replace(
                segment,
                words=tuple(
                    replace(word, start=word.start + seconds, end=word.end + seconds)
                    for word in segment.words
                ),
            )
            for segment in self.segments
        )
        return replace(self, segments=segments, offset=(self.offset or 0.0) + seconds)

    def to_json(self) -> str:
        """The transcription as JSON, in UTF-8."""
        known = {"schema": SCHEMA, "text": self.text, "confidence": self.confidence}
        return json.dumps({**known, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Transcription:
        """Read a transcription back. A segment whose words a person has deleted is left out.

        :raises ValueError: this is not a transcription in JSON, or one of its values cannot be; says which.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"This is not JSON: {error}.") from error
        if not isinstance(data, dict) or "schema" not in data:
            raise ValueError("This is not a transcript of vod.")
        if data["schema"] != SCHEMA:
            raise ValueError("This is a transcript of another version of vod.")
        derived = {"schema", "text", "confidence"}
        read: Transcription = _read(cls, {name: data[name] for name in data if name not in derived}, "")
        return replace(read, segments=tuple(segment for segment in read.segments if segment.words))


_MEANT = {str: "a text", int: "a whole number", float: "a number below a billion"}


def _read(kind: Any, value: Any, where: str) -> Any:
    """A value of JSON as what the field of a transcription holds.

    :param kind: The field's type.
    :param where: The value's place in the JSON, as ``jq`` writes it.
    """
    if kind is str and isinstance(value, str) and not _SURROGATE.search(value):
        return value
    if kind is float and type(value) in {float, int} and abs(value) < _BEYOND:  # NaN is not, either
        return value
    if kind is int and type(value) is int:  # a bool is none
        return value
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        known, needed = _fields(kind)
        wrong = [f"no {name!r}" for name in sorted(needed - value.keys())]
        wrong += [f"an unknown {name!r}" for name in sorted(value.keys() - known.keys())]
        if wrong:
            raise ValueError(f"This is not a transcript of vod: {where or 'it'} has {wrong[0]}.")
        return kind(**{name: _read(known[name], each, f"{where}.{name}") for name, each in value.items()})
    is_list, inner = _parts(kind)
    if is_list and isinstance(value, list):
        return tuple(_read(inner, each, f"{where}[{number}]") for number, each in enumerate(value))
    if inner and not is_list:
        return None if value is None else _read(inner, value, where)
    meant = _MEANT.get(kind, "a list" if is_list else "an object")
    raise ValueError(
        f"This is not a transcript of vod: {where} must be {meant}, not {json.dumps(value)[:40]}."
    )


@cache
def _parts(kind: Any) -> tuple[bool, Any]:
    """Whether a type is a tuple's, and what it is made of: the entries of a tuple, what is not ``None``."""
    return get_origin(kind) is tuple, (get_args(kind) or (None,))[0]


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """Types of a dataclass's fields by name, and the names of those without a default."""
    needed = {each.name for each in fields(kind) if each.default is each.default_factory is MISSING}
    return get_type_hints(kind), needed
