"""What was said in one audio: words with times, in sentences, and how sure the recogniser was of them.

The JSON of a :class:`Transcription` is the transcript itself; every other file is laid out from it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

SCHEMA = 1
"""Version of the JSON."""


@dataclass(frozen=True)
class Word:
    """A word as it was spoken.

    :param start: Seconds from the start of the video.
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


def _shifted(word: Word, seconds: float) -> Word:
    start = max(word.start + seconds, 0.0)
    return replace(word, start=start, end=max(word.end + seconds, start))


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

        What would come before the video starts with it.
        """
        if not seconds:
            return self
        segments = tuple(
            replace(segment, words=tuple(_shifted(word, seconds) for word in segment.words))
            for segment in self.segments
        )
        return replace(self, segments=segments, offset=(self.offset or 0.0) + seconds)

    def to_json(self) -> str:
        """The transcription as JSON, in UTF-8."""
        known = {"schema": SCHEMA, "text": self.text, "confidence": self.confidence}
        return json.dumps({**known, **asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Transcription:
        """Read a transcription back.

        :raises ValueError: this is not a transcription in JSON.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if data.pop("schema") != SCHEMA:
                raise ValueError("This is a transcript of another version of vod.")
            del data["text"], data["confidence"]
            segments = tuple(
                Segment(
                    tuple(Word(**word) for word in segment.pop("words")),
                    **segment,
                )
                for segment in data.pop("segments")
            )
            return cls(segments=segments, dropped=Dropped(**data.pop("dropped")), **data)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError("This is not a transcript of vod.") from error
