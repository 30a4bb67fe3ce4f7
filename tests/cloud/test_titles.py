"""Titles are compared as VOD may keep them: trimmed, cut after 128 bytes, in any form of Unicode."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vod.cloud.titles import MAX_LENGTH_TITLE, same_title, search_text

TITLES = st.text(
    st.sampled_from("aé\u0301 \u00a0\t한日\N{CLAPPER BOARD}ß1") | st.characters(codec="utf-8"), max_size=200
)
Keep = Callable[[str], str]


def cut(errors: str) -> Keep:
    return lambda title: title.encode()[:MAX_LENGTH_TITLE].decode(errors=errors)


def form(name: str) -> Keep:
    return lambda title: unicodedata.normalize(name, title)  # type: ignore[arg-type]


WAYS: st.SearchStrategy[list[Keep]] = st.tuples(
    st.sampled_from([form("NFC"), form("NFD"), str]),
    st.sampled_from([str.strip, str.rstrip, lambda title: re.sub(r"\s+", " ", title), str]),
    st.sampled_from([cut("ignore"), cut("replace"), str]),
    st.sampled_from([str.strip, form("NFC"), form("NFD"), str]),
).map(list)


@given(TITLES, WAYS)
def test_a_title_is_the_same_however_it_is_kept(title: str, ways: list[Keep]) -> None:
    kept = title
    for way in ways:
        kept = way(kept)
    assert same_title(title, kept)
    assert same_title(kept, title)


@given(TITLES, TITLES)
def test_it_makes_no_difference_which_comes_first(one: str, other: str) -> None:
    assert same_title(one, other) == same_title(other, one)


@given(
    st.text(st.sampled_from("ab1é日"), min_size=1, max_size=30),
    st.text(st.sampled_from("ab1é日"), min_size=1, max_size=30),
)
def test_short_titles_that_differ_are_not_the_same(one: str, other: str) -> None:
    assert same_title(one, other) == (one == other)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Lecture 1", "Lecture 1 ", True),
        ("Lecture 1", "Lecture 10", False),
        ("Lecture 1", "lecture 1", False),
        ("x" * 128, "x" * 129, True),
        ("x" * 127, "x" * 128, False),
        ("é" * 64 + "a", "é" * 64 + "b", True),
        ("x" * 127 + "a", "x" * 127 + "b", False),
        ("x" + "é" * 64, "x" + "é" * 63 + "\N{REPLACEMENT CHARACTER}", True),
    ],
)
def test_examples(one: str, other: str, same: bool) -> None:
    assert same_title(one, other) is same


@given(TITLES, WAYS)
@example("00\N{CJK COMPATIBILITY IDEOGRAPH-F900}", [])
@example("5000 \N{OHM SIGN}", [])
@example("abc\N{DEVANAGARI LETTER QA}def", [])
@example("abce\N{COMBINING GREEK DIALYTIKA TONOS}", [form("NFC")])
@example("abc\N{KELVIN SIGN}\N{COMBINING ACUTE ACCENT}", [])
def test_what_is_searched_for_is_in_the_title_however_it_is_kept(title: str, ways: list[Keep]) -> None:
    text = search_text(title)
    if text == title:
        return
    kept = title
    for way in ways:
        kept = way(kept)
    assert text in kept
