"""A stretch of an audio that is heard to its end."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from vod.speech.transcription import Dropped, Segment, Word

_ONE_PLACE = 0.0001
"""Seconds below which two passages meet: sums of floating point numbers differ."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A stretch of an audio, heard to its end: a later try goes on behind it. Times are those of the audio.

    :param start: Seconds.
    :param end: Seconds; the next passage starts there.
    :param segments: What is said in it.
    :param language: The language recognised or given; empty when nobody speaks.
    :param language_probability: How sure the model is of it, from 0 to 1; ``None`` when it was not asked.
    :param speech_seconds: How long somebody speaks; ``None`` when the engine does not say.
    :param dropped: What was recognised and nobody said.
    """

    start: float
    end: float
    segments: tuple[Segment, ...] = ()
    language: str = ""
    language_probability: float | None = None
    speech_seconds: float | None = None
    dropped: Dropped = field(default_factory=Dropped)

    def to_json(self) -> dict[str, Any]:
        """JSON-native."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Passage:
        """Read a passage back.

        :raises KeyError, TypeError: this is none.
        """
        segments = tuple(
            Segment(**{**segment, "words": tuple(Word(**word) for word in segment["words"])})
            for segment in value["segments"]
        )
        return cls(**{**value, "segments": segments, "dropped": Dropped(**value["dropped"])})


def together(voices: Sequence[tuple[str | None, Passage]]) -> Passage:
    """What several speak in the same stretch, as one passage: segments in the order of time.

    :param voices: Who speaks, and what; at least one.
    """
    passages = [passage for _, passage in voices]
    spoken = max(passages, key=lambda passage: passage.speech_seconds or 0.0)
    languages = {passage.language for passage in passages if passage.language}
    segments = [
        replace(
            segment,
            speaker=speaker,
            language=segment.language or (passage.language if len(languages) > 1 else None),
        )
        for speaker, passage in voices
        for segment in passage.segments
    ]
    told = [passage.speech_seconds for passage in passages if passage.speech_seconds is not None]
    return replace(
        spoken,
        segments=tuple(sorted(segments, key=lambda segment: (segment.start, segment.end))),
        speech_seconds=round(sum(told), 3) if told else None,
        dropped=Dropped(
            loops=sum(passage.dropped.loops for passage in passages),
            improbable=sum(passage.dropped.improbable for passage in passages),
        ),
    )


def to_lines(passages: Iterable[Passage]) -> str:
    """A line of JSON for each passage."""
    return "".join(f"{json.dumps(passage.to_json(), ensure_ascii=False)}\n" for passage in passages)


def from_lines(text: str) -> list[Passage]:
    """Passages up to the first line that is none: the process may have been killed while it wrote."""
    passages: list[Passage] = []
    for line in text.splitlines():
        try:
            passage = Passage.from_json(json.loads(line))
        except (AttributeError, KeyError, TypeError, ValueError):
            break
        if abs(passage.start - (passages[-1].end if passages else 0.0)) > _ONE_PLACE:
            break
        passages.append(passage)
    return passages
