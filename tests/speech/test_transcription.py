"""A transcription survives JSON and another start of the video; JSON that is none is refused in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from vod.speech.transcription import Dropped, Segment, Transcription, Word

TRANSCRIPTION = Transcription(
    language="de",
    duration=12.5,
    model="base",
    segments=(
        Segment((Word(1.5, 2.0, " Grüß", 0.5), Word(2.0, 2.5, " Gott.", 1.0)), speaker="left"),
        Segment((Word(3.0, 3.5, " \u4f60\u597d"),), language="zh"),
    ),
    language_probability=0.98,
    speech_seconds=2.0,
    offset=1.5,
    fingerprint="abc",
    dropped=Dropped(loops=2),
)


def test_json_round_trip():
    assert Transcription.from_json(TRANSCRIPTION.to_json()) == TRANSCRIPTION


def test_confidence_is_the_mean_of_the_known_probabilities():
    assert TRANSCRIPTION.confidence == 0.75


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "segments": [{}]}', "null", "[" * 100_000]
)
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match=r"not a transcript|another version|not JSON"):
        Transcription.from_json(text)


@pytest.mark.parametrize(
    ("place", "name", "value", "said"),
    [
        ("word", "start", None, r"\.segments\[1\]\.words\[0\]\.start must be a number .*, not null"),
        ("word", "start", "1.5", r'start must be a number .*, not "1\.5"'),
        ("word", "start", float("nan"), r"start must be a number .*, not NaN"),
        ("word", "end", float("-inf"), r"end must be a number .*, not -Infinity"),
        ("word", "end", 10**400, r"end must be a number"),
        ("word", "probability", "0.9", r"probability must be a number"),
        ("word", "probability", True, r"probability must be a number"),
        ("word", "text", None, r"text must be a text, not null"),
        ("word", "text", "half \ud83d", r"text must be a text"),
        ("word", "colour", "red", r"\.segments\[1\]\.words\[0\] has an unknown 'colour'"),
        ("segment", "speaker", 1, r"\.segments\[1\]\.speaker must be a text, not 1"),
        ("segment", "words", {}, r"\.segments\[1\]\.words must be a list"),
        ("whole", "language", None, r"\.language must be a text"),
        ("whole", "segments", None, r"\.segments must be a list"),
        ("whole", "track", 0.5, r"\.track must be a whole number"),
        ("whole", "dropped", [], r"\.dropped must be an object"),
    ],
)
def test_a_value_that_cannot_be_is_named(place: str, name: str, value: Any, said: str) -> None:
    whole = json.loads(TRANSCRIPTION.to_json())
    segment = whole["segments"][1]
    {"whole": whole, "segment": segment, "word": segment["words"][0]}[place][name] = value
    with pytest.raises(ValueError, match=said):
        Transcription.from_json(json.dumps(whole))


def test_a_segment_whose_words_a_person_has_deleted_is_left_out() -> None:
    whole = json.loads(TRANSCRIPTION.to_json())
    whole["segments"][0]["words"] = []
    assert [each.text for each in Transcription.from_json(json.dumps(whole)).segments] == ["\u4f60\u597d"]


def test_what_was_spoken_before_the_video_keeps_its_time() -> None:
    shifted = TRANSCRIPTION.shifted(-2)
    times = [(word.start, word.end) for segment in shifted.segments for word in segment.words]
    assert times == [(-0.5, 0.0), (0.0, 0.5), (1.0, 1.5)]
    assert shifted.offset == -0.5
