"""A transcription survives being written as JSON and read back."""

from __future__ import annotations

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


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "segments": [{}]}', "null"])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match=r"not a transcript|another version|Expecting value"):
        Transcription.from_json(text)
