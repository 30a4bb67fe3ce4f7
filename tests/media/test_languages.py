"""Languages of tracks are compared by their codes, old and new."""

from __future__ import annotations

import pytest

from vod.media.languages import canonical


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("de", "deu"),
        ("ger", "deu"),
        ("DEU", "deu"),
        ("de-AT", "deu"),
        ("pt_BR", "por"),
        ("zh", "zho"),
        ("chi", "zho"),
        (" En ", "eng"),
        ("fre", "fra"),
        ("yue", "yue"),
        ("und", "und"),
    ],
)
def test_codes_of_one_language_are_one(code: str, expected: str) -> None:
    assert canonical(code) == expected
