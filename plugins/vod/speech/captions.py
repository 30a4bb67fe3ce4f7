"""Writers of captions: a transcription as plain text or as subtitles."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from vod.errors import InvalidInputError
from vod.speech.transcription import Segment, Transcription, Word

LINE_LENGTH = 42
"""Characters in a line of a subtitle, two lines at most: the usual limit of broadcasters."""

SHORTEST = 1_000
"""Milliseconds that a subtitle stands at least, if the next one leaves it the time."""


@dataclass(frozen=True)
class Cue:
    """One subtitle.

    :param start: Milliseconds.
    :param end: Milliseconds, after ``start`` and not after the next cue's start.
    """

    start: int
    end: int
    lines: tuple[str, ...]


def write_txt(transcription: Transcription) -> str:
    """Plain text: one paragraph."""
    return f"{transcription.text}\n" if transcription.text else ""


def write_srt(transcription: Transcription) -> str:
    """SubRip subtitles; empty when nothing is said."""
    return "\n".join(
        f"{number}\n{_clock(cue.start)} --> {_clock(cue.end)}\n" + "".join(f"{line}\n" for line in cue.lines)
        for number, cue in enumerate(cues(transcription.segments), start=1)
    )


WRITERS: dict[str, Callable[[Transcription], str]] = {"txt": write_txt, "srt": write_srt}
"""By caption format, which is also the file's extension."""


def write(transcription: Transcription, caption_format: str) -> str:
    """The transcription in one of the formats of :data:`WRITERS`.

    :raises InvalidInputError: unknown format.
    """
    try:
        writer = WRITERS[caption_format]
    except KeyError:
        raise InvalidInputError(
            f"There is no caption format {caption_format!r}.", remedy=f"Choose one of: {', '.join(WRITERS)}."
        ) from None
    return writer(transcription)


def cues(segments: Iterable[Segment]) -> list[Cue]:
    """Subtitles for the segments: none spans two of them, none overlaps the next."""
    groups = [group for segment in segments for group in _fitting(segment.words)]
    starts = [_milliseconds(group[0].start) for group in groups]
    result: list[Cue] = []
    for index, group in enumerate(groups):
        start = max(starts[index], result[-1].end) if result else starts[index]
        end = max(_milliseconds(group[-1].end), start + SHORTEST)
        if index + 1 < len(groups):
            end = min(end, starts[index + 1])
        result.append(Cue(start=start, end=max(end, start + 1), lines=_lines(group)))
    return result


def _fitting(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """Split words into groups that fit a subtitle."""
    first = 0
    for index in range(1, len(words)):
        if any(len(line) > LINE_LENGTH for line in _lines(words[first : index + 1])):
            yield words[first:index]
            first = index
    yield words[first:]


def _lines(words: Sequence[Word]) -> tuple[str, ...]:
    """One line if it fits, else the most even two."""
    texts = [" ".join(word.text.split("\n")) for word in words]
    whole = "".join(texts).strip()
    if len(whole) <= LINE_LENGTH or len(texts) == 1:
        return (whole,)
    halves = (
        ("".join(texts[:middle]).strip(), "".join(texts[middle:]).strip()) for middle in range(1, len(texts))
    )
    return min(halves, key=lambda lines: max(map(len, lines)))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(milliseconds: int) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d},{milliseconds:03d}"
