"""Captions fit their lines and times in every format."""

from __future__ import annotations

import random
import re

import pytest

from vod.errors import InvalidInputError
from vod.speech import WRITERS, Segment, Transcription, Word, write
from vod.speech.captions import LINE_LENGTH, SHORTEST, cues

CUE = re.compile(r"(\d+)\n(\d\d:\d\d:\d\d,\d\d\d) --> (\d\d:\d\d:\d\d,\d\d\d)\n((?:.+\n){1,2})(?:\n|\Z)")


def spoken(text: str, start: float = 0.0, pace: float = 0.3) -> Segment:
    """Words said at an even pace, in seconds a word."""
    return Segment(
        tuple(
            Word(start=start + index * pace, end=start + (index + 1) * pace, text=f" {word}")
            for index, word in enumerate(text.split())
        )
    )


def transcription(*segments: Segment) -> Transcription:
    return Transcription(language="en", duration=10_000.0, model="tiny.en", segments=segments)


def milliseconds(clock: str) -> int:
    hours, minutes, seconds, fraction = map(int, re.split("[:,]", clock))
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + fraction


def test_txt_is_one_paragraph() -> None:
    said = transcription(spoken("The lake is quiet."), spoken("The boats go out.", start=3))
    assert write(said, "txt") == "The lake is quiet. The boats go out.\n"


def test_srt() -> None:
    said = transcription(
        spoken("The lake is quiet.", start=0.5),
        spoken(
            "In spring the boats go out again, and in the evening they come back with fish.", start=3661.25
        ),
        spoken("Yes.", start=3700, pace=0.2),
    )
    assert write(said, "srt") == (
        "1\n00:00:00,500 --> 00:00:01,700\nThe lake is quiet.\n"
        "\n"
        "2\n01:01:01,250 --> 01:01:06,050\n"
        "In spring the boats go out again, and\nin the evening they come back with fish.\n"
        "\n"
        "3\n01:01:40,000 --> 01:01:41,000\nYes.\n"
    )


def test_nothing_said() -> None:
    assert [write(transcription(), caption_format) for caption_format in WRITERS] == ["", ""]


def test_language_without_blanks() -> None:
    said = transcription(Segment(tuple(Word(i * 0.2, i * 0.2 + 0.2, "春の湖"[i % 3]) for i in range(150))))
    assert write(said, "txt") == "春の湖" * 50 + "\n"
    assert [len(line) for cue in cues(said.segments) for line in cue.lines] == [42, 42, 33, 33]


def test_word_longer_than_a_line_stands_alone() -> None:
    word = "https://example.com/" + "x" * 60
    (before, alone, after) = cues([spoken(f"See {word} now.")])
    assert (before.lines, alone.lines, after.lines) == (("See",), (word,), ("now.",))


def test_a_cue_gives_way_to_the_next() -> None:
    first, second = cues([spoken("Yes.", start=1, pace=0.1), spoken("No.", start=1.4, pace=0.1)])
    assert (first.start, first.end) == (1000, 1400)
    assert (second.start, second.end) == (1400, 1400 + SHORTEST)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_the_words_the_srt_is_right(seed: int) -> None:
    """Overlapping, backward and empty word times occur in what Whisper returns."""
    rng = random.Random(seed)
    now, segments = 0.0, []
    for _ in range(rng.randint(1, 40)):
        spelt = []
        for _ in range(rng.randint(1, 40)):
            end = now + rng.choice([0, 0.01, 0.3, 2])
            spelt.append(Word(now, end, " " + "w" * rng.randint(1, 14)))
            now = max(0.0, end + rng.choice([-0.5, 0, 0, 0.1, 3]))
        segments.append(Segment(tuple(spelt)))
    said = transcription(*segments)

    srt = write(said, "srt")
    found = list(CUE.finditer(srt))

    assert "".join(match.group(0) for match in found) == srt
    assert [int(match.group(1)) for match in found] == list(range(1, len(found) + 1))
    assert " ".join(match.group(4).replace("\n", " ").strip() for match in found) == said.text
    assert all(len(line) <= LINE_LENGTH for match in found for line in match.group(4).splitlines())
    times = [milliseconds(clock) for match in found for clock in match.group(2, 3)]
    assert times == sorted(times)
    assert all(start < end for start, end in zip(times[::2], times[1::2], strict=True))


def test_unknown_format() -> None:
    with pytest.raises(InvalidInputError, match=r"no caption format 'doc'\. Choose one of: txt, srt"):
        write(transcription(), "doc")
