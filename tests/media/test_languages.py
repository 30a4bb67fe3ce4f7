"""Languages of tracks are compared by what they mean: old codes, new ones, macrolanguages, names."""

from __future__ import annotations

import pytest

from vod.media.languages import canonical, matches


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *[("de", "de"), ("ger", "de"), ("DEU", "de"), ("de-AT", "de"), ("German", "de"), ("deutsch", "de")],
        *[("pt_BR", "pt"), ("zh", "zh"), ("chi", "zh"), (" En ", "en"), ("fre", "fr"), ("yue", "yue")],
        *[("und", "und"), ("iw", "he"), ("in", "id"), ("scr", "hr"), ("mol", "ro"), ("ji", "yi")],
        *[
            ("English", "en"),
            ("\u4e2d\u6587", "zh"),
            ("fran\u00e7ais", "fr"),
            ("no such", "no such"),
            ("", ""),
        ],
    ],
)
def test_what_is_written_of_one_language_is_one(code: str, expected: str) -> None:
    assert canonical(code) == expected


@pytest.mark.parametrize(
    ("spoken", "wanted"),
    [
        *[("cmn", "zh"), ("yue", "zh"), ("chi", "cmn"), ("nob", "no"), ("nno", "no"), ("nor", "nb")],
        *[("scc", "sr"), ("heb", "iw"), ("ind", "in"), ("fil", "tl"), ("arz", "ar"), ("swh", "sw")],
    ],
)
def test_a_language_that_is_meant(spoken: str, wanted: str) -> None:
    assert matches(spoken, wanted)


@pytest.mark.parametrize(
    ("spoken", "wanted"),
    [("yue", "cmn"), ("zh", "yue"), ("nno", "nb"), ("dan", "no"), ("eng", "de"), ("ukr", "rus"), ("xx", "")],
)
def test_another_language(spoken: str, wanted: str) -> None:
    assert not matches(spoken, wanted)
