"""Chinese is in the characters asked for, chosen by those beside them; other languages are left alone."""

from __future__ import annotations

import sys

import pytest

from vod.errors import InvalidInputError
from vod.speech import Segment, Word
from vod.speech.script import check, convert

pytest.importorskip("opencc")


def said(text: str, language: str | None = None) -> Segment:
    """As Whisper gives Chinese: each character is a word."""
    words = tuple(Word(at * 0.3, at * 0.3 + 0.3, character, 0.9) for at, character in enumerate(text))
    return Segment(words, language=language)


@pytest.mark.parametrize(
    ("text", "asked", "expected"),
    [
        ("头发很干净,皇后在后面", "zh-TW", "頭髮很乾淨,皇后在後面"),
        ("我们吃面条,里面有干果", "zh-Hant", "我們喫麪條,裏面有乾果"),
        ("乾隆皇帝", "zh-CN", "乾隆皇帝"),
        ("廣州市", "zh", "广州市"),
        ("廣州市", "", "广州市"),
        ("廣州市", "zh-HK", "廣州市"),
        ("", "zh-TW", ""),
    ],
)
def test_characters_are_chosen_by_those_beside_them(text: str, asked: str, expected: str) -> None:
    [converted] = convert([said(text)], asked, "zh")
    assert "".join(word.text for word in converted.words) == expected
    assert [word.start for word in converted.words] == [word.start for word in said(text).words]


def test_each_segment_is_in_its_own_language() -> None:
    japanese, chinese = "東京の電話番号を図書館で見る", "廣州市"
    for spoken in ("zh", "ja"):
        first, second = convert([said(japanese, "ja"), said(chinese, "zh")], "", spoken)
        assert (first.text, second.text) == (japanese, "广州市")
    [cantonese] = convert([said("廣州話", "yue")], "", "zh")
    assert cantonese.text == "廣州話", "nobody asked for other characters"
    [asked] = convert([said(chinese, "zh")], "zh-TW", "ja")
    assert asked.text == chinese
    [other] = convert([said(japanese)], "ja", "ja")
    assert other.text == japanese


def test_without_opencc_only_what_needs_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check("zh-TW")
    monkeypatch.setitem(sys.modules, "opencc", None)
    for language in ("zh", "en-US"):
        check(language)
    for language in ("zh-TW", "zh_Hans", "yue-HK"):
        with pytest.raises(InvalidInputError, match="OpenCC is not installed"):
            check(language)
    assert convert([said("廣州市")], "", "zh")[0].text == "廣州市"
