"""Options of speech recognition are read from what templates and JSON hold, and refused before any work."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from vod.errors import InvalidInputError
from vod.speech import SpeechOptions


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"beam_size": "5", "batch_size": " 8 ", "cpu_threads": "2"}, {"batch_size": 8, "cpu_threads": 2}),
        ({"multilingual": "False"}, {}),
        ({"multilingual": " true "}, {"multilingual": True}),
        ({"time_limit": "600", "memory_limit": "4000000000"}, {"time_limit": 600, "memory_limit": 4 * 10**9}),
        (
            {"vad": {"threshold": "0.6", "speech_pad_ms": "300"}},
            {"vad": {"threshold": 0.6, "speech_pad_ms": 300}},
        ),
        ({"vad": {"neg_threshold": None}, "hotwords": None}, {}),
        ({"vad": {"threshold": 1.0}}, {"vad": {"threshold": 1}}),
        ({"beam_size": 5.0, "language": " pt_BR "}, {"language": "pt_BR"}),
        ({"language": "ger"}, {"language": "de"}),
        ({"language": "German"}, {"language": "de"}),
        ({"language": "chi-TW"}, {"language": "zh-TW"}),
        ({"language": "yue"}, {"language": "yue"}),
    ],
)
def test_text_that_means_one_thing_is_taken(given: dict[str, Any], meant: dict[str, Any]) -> None:
    read, expected = SpeechOptions.from_json(given), SpeechOptions(**meant)
    assert read == expected
    assert read.fingerprint() == expected.fingerprint()
    assert SpeechOptions.from_json(asdict(read)) == read, "as the recogniser's own process reads them"


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("batch_size", -1, "whole number from 0 to 1024"),
        ("beam_size", 0, "whole number from 1 to 100"),
        ("beam_size", "5.5", "whole number"),
        ("beam_size", True, "whole number"),
        ("beam_size", "nan", "whole number"),
        ("cpu_threads", 10**9, "whole number"),
        ("cpu_threads", [2], "whole number"),
        ("memory_limit", "4GB", "whole number of bytes"),
        ("memory_limit", 10**400, "whole number of bytes"),
        ("time_limit", -1, "number of seconds"),
        ("time_limit", "inf", "number of seconds"),
        ("time_limit", "soon", "number of seconds"),
        ("multilingual", "maybe", "true or false"),
        ("multilingual", 2, "true or false"),
        ("hotwords", ["a", "b"], "text"),
        ("language", 7, "text"),
        ("model", {}, "text"),
        ("engine", ["http"], "text"),
        ("compute_type", "float99", "int8_float32"),
        ("channels", "center", "mix, split, left, right"),
        ("channels", ["mix"], "mix, split, left, right"),
        ("task", "summarise", "transcribe, translate"),
        ("vad", "{}", "options by name"),
        ("vad", 3, "options by name"),
        ("vad", ["threshold"], "options by name"),
    ],
)
def test_what_an_option_cannot_be_is_refused_with_what_it_takes(name: str, value: Any, takes: str) -> None:
    with pytest.raises(InvalidInputError, match=f"option {name} of") as caught:
        SpeechOptions.from_json({name: value})
    assert repr(str(value)[:100])[:50] in caught.value.message
    assert takes in caught.value.remedy
    with pytest.raises(InvalidInputError):
        SpeechOptions(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("threshold", 7, "from 0 to 1"),
        ("threshold", "high", "from 0 to 1"),
        ("neg_threshold", -0.1, "from 0 to 1"),
        ("min_speech_duration_ms", -5, "from 0 to 1000000"),
        ("speech_pad_ms", "inf", "from 0 to 1000000"),
    ],
)
def test_an_option_of_the_detector_is_named(name: str, value: Any, takes: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"option vad\.{name} of .* cannot be '{value}'") as caught:
        SpeechOptions(vad={name: value})
    assert takes in caught.value.remedy


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no option 'colour'"):
        SpeechOptions.from_json({"colour": "blue"})
