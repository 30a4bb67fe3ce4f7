"""What a server answers becomes words with times: none is lost, none glued, and the language is one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vod.speech.engines.answers import passage_of
from vod.speech.passages import Passage

Timed = tuple[float, float, str]


def word(text: str, start: float, end: float) -> dict[str, Any]:
    return {"word": text, "start": start, "end": end}


def segment(text: str, start: float, end: float, **more: Any) -> dict[str, Any]:
    return {"text": text, "start": start, "end": end, **more}


def heard(answer: dict[str, Any], length: float = 60.0) -> Passage:
    return passage_of(answer, 0.0, length, "")


def text_of(passage: Passage) -> str:
    return "".join(each.text for each in words_of(passage))


def words_of(passage: Passage) -> list[Any]:
    return [each for sentence in passage.segments for each in sentence.words]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["we go", "to town.", "Then"], "we go to town. Then"),
        ([" we go", " to town."], " we go to town."),
        (["今天天气很好。", "如果可以", "好不好\uff1f"], "今天天气很好。如果可以好不好\uff1f"),
        (["这是", "VOD", "plugin"], "这是VOD plugin"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["안녕하세요", "여러분"], "안녕하세요 여러분"),
        (["well", ", yes", "!"], "well, yes!"),
        (["I said (", "quietly", ") no"], "I said ( quietly) no"),
    ],
)
@pytest.mark.parametrize("timed", [False, True], ids=["segments only", "with words"])
def test_segments_are_joined_as_their_script_wants(texts: list[str], expected: str, timed: bool) -> None:
    answer = {"segments": [segment(text, at, at + 1) for at, text in enumerate(texts)]}
    if timed:
        answer["words"] = [
            word(part.strip("., ?!"), at, at + 0.5) for at, text in enumerate(texts) for part in text.split()
        ]
    assert text_of(heard(answer)) == expected


def test_words_within_segments_count_as_well() -> None:
    nested = segment(" And so", 0, 20, words=[word(" And", 10.0, 10.2), word(" so", 10.3, 10.5)])
    assert [
        (each.start, each.text) for each in words_of(heard({"text": " And so", "segments": [nested]}))
    ] == [
        (10.0, " And"),
        (10.3, " so"),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        {"text": ""},
        {},
        {"text": "", "segments": []},
        {"text": "hello world", "segments": [segment("", 0, 3)]},
    ],
)
def test_words_without_text_are_text(answer: dict[str, Any]) -> None:
    spoken = [word("hello", 1, 2), word("world", 2, 3), word("你", 3, 4), word("好", 4, 5)]
    assert text_of(heard({**answer, "words": spoken})) == "hello world你好"


LONG = "This is a very long sentence of which the words are missing altogether."


@pytest.mark.parametrize("place", ["first", "between", "last"])
def test_text_without_words_lies_between_its_neighbours(place: str) -> None:
    before, after = "Hello there.", "Good bye now, my friend."
    times = {"Hello": 21.0, "there": 21.5, "Good": 40.0, "bye": 40.4, "now": 41.0, "my": 41.4, "friend": 41.6}
    order = {"first": [LONG, before, after], "between": [before, LONG, after], "last": [before, after, LONG]}
    text = " ".join(order[place])
    spoken = [word(name, start, start + 0.3) for name, start in times.items()]
    passage = heard({"text": text, "words": spoken})
    assert text_of(passage) == text
    found = {each.text.strip(" .,"): each.start for each in words_of(passage)}
    assert {name: found[name] for name in times} == times, "what has a time keeps it"
    first, last = {"first": (0, 21), "between": (21.8, 40), "last": (41.9, 60)}[place]
    missing = [each for each in words_of(passage) if each.text.strip(" .") in LONG.strip(".").split()]
    assert all(first - 0.01 <= each.start <= each.end <= last + 0.01 for each in missing)
    assert missing[-1].start - missing[0].start > (last - first) / 2, "over all of it"


def test_chinese_without_times_of_words_is_one_of_characters() -> None:
    passage = heard({"segments": [segment("我们走\uff0c「好」吗\uff1f VOD很好", 0, 10)]})
    assert [each.text for each in words_of(passage)] == [
        "我",
        "们",
        "走\uff0c",
        "「好」",
        "吗\uff1f",
        " VOD",
        "很",
        "好",
    ]


TEXTS = st.text(st.sampled_from(" abcdefgh.,!?'\"-()你好吗\uff0c。「」สวัé\n"), max_size=120)
TIMES = st.floats(0, 100)


@example([("???", 0.8, 60.0)], [])
@given(
    st.lists(st.tuples(TEXTS, TIMES, TIMES), min_size=1, max_size=5),
    st.lists(st.tuples(TEXTS, TIMES, TIMES), max_size=30),
)
def test_no_text_is_lost(
    segments: list[tuple[str, float, float]], words: list[tuple[str, float, float]]
) -> None:
    answer = {
        "segments": [segment(text, start, end) for text, start, end in segments],
        "words": [word(text, start, end) for text, start, end in words],
    }
    passage = heard(answer)
    ordered = sorted(segments, key=lambda each: (min(each[1], 60), max(min(each[2], 60), min(each[1], 60))))
    if all(text.strip() for text, _, _ in ordered) and not passage.dropped.loops:
        assert "".join(text_of(passage).split()) == "".join("".join(text for text, _, _ in ordered).split())
    assert all(0 <= each.start <= each.end <= 60 for each in words_of(passage))


@pytest.mark.parametrize(
    ("said", "code"),
    [
        *[
            ("english", "en"),
            ("English", "en"),
            ("en", "en"),
            ("eng", "en"),
            ("en-US", "en"),
            ("pt_BR", "pt"),
        ],
        *[
            ("thai", "th"),
            ("urdu", "ur"),
            ("lao", "lo"),
            ("maori", "mi"),
            ("bengali", "bn"),
            ("myanmar", "my"),
        ],
        *[
            ("nynorsk", "nn"),
            ("javanese", "jw"),
            ("haitian creole", "ht"),
            ("cantonese", "yue"),
            ("yue", "yue"),
        ],
        *[("mandarin", "zh"), ("cmn", "zh"), ("zh-Hant", "zh"), ("castilian", "es"), ("tagalog", "tl")],
        *[("auto", ""), ("unknown", ""), ("und", ""), ("a/b", ""), ("../x", ""), ("", ""), ("xx", "")],
        *[(None, ""), (7, ""), (["en"], "")],
    ],
)
def test_a_language_is_one_that_whisper_knows(said: Any, code: str) -> None:
    assert heard({"language": said, "segments": [segment("x", 0, 1)]}).language == code
