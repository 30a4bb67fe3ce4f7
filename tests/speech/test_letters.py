"""A line ends only where the script of its text allows it; what nobody sees is no text."""

from __future__ import annotations

import pytest

from vod.speech.letters import clean, is_boundary, may_end, width


def divided(text: str) -> str:
    """A text with a bar wherever a line may end."""
    return text[0] + "".join("|" * may_end(text, at) + text[at] for at in range(1, len(text)))


@pytest.mark.parametrize(
    "expected",
    [
        "\u4eca|\u5929\uff0c|\u597d\uff01\uff09|\uff08\u8d70",
        "\u300c|\u30b3\u30fc|\u30d2\u30fc\u300d\u3002".replace("\u300c|", "\u300c"),
        "\u0e40\u0e01\u0e32\u0e30|\u0e44\u0e17|\u0e22|\u0e44\u0e21\u0e49",  # Thai: vowels before and behind
        "\u1014\u102d\u102f\u1004\u103a|\u1004\u1036",  # Burmese: a final consonant
        "\u179f\u17d2\u178f|\u1793",  # Khmer: a consonant below another
        "\u0915\u094d\u0937|\u0924",  # Hindi: a conjunct
        "\U0001f1e9\U0001f1ea|\U0001f469\U0001f3fd\u200d\U0001f4bb|\u2764\ufe0f",
        "\u00bfa|b!?|c)|&|d",
    ],
)
def test_where_a_line_may_end(expected: str) -> None:
    assert divided(expected.replace("|", "")) == expected


def test_words_end_between_letters_only_in_scripts_without_blanks() -> None:
    assert not any(is_boundary(text, 1) for text in ("ab", "\ud55c\uad6d", "\u0627\u0644", "\u0915\u0916"))
    assert all(is_boundary(text, 1) for text in ("\u4eca\u5929", "a\u5929", "\u0e01\u0e02", "\u1780\u1781"))


@pytest.mark.parametrize("text", ["", " ", "\u200b", "\u2060 \ufeff", "\u3164", "\u2800", "\x00\n", "\uffff"])
def test_what_nobody_sees_is_no_text(text: str) -> None:
    assert clean(text) == ""


def test_a_text_is_cleaned_to_one_line_and_measured_in_cells() -> None:
    assert clean(" a\x1b[0m\r\nb\u2028c ") == "a [0m b c"
    assert [width(text) for text in ("ab", "\u4eca", "e\u0301", "\U0001f600", "\u200b")] == [2, 2, 1, 2, 0]
