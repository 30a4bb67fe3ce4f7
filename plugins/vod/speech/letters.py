"""Letters of all scripts: what shows, how wide it is, and where between two of them a line may end."""

from __future__ import annotations

import functools
import re
import unicodedata

MAY_BREAK = "\u200b"
"""No width and no blank: says that a word ends there in a script without blanks."""

_CONTROL = {"Cc", "Cs", "Zl", "Zp"}
_NO_XML = "\ufffe\uffff"
_ZERO_WIDTH = {"Mn", "Me", "Cf"}
_UNSEEN = {"Cf", "Zs"}
_FILLERS = "\u034f\u115f\u1160\u2800\u3164\uffa0"
"""Letters, marks and symbols by their category, and nothing on the screen."""

_NO_BLANKS = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f]")
"""Thai, Lao, Burmese, Khmer."""

_OPENS = "¿¡"
_NEITHER = "&@#*/\\§¶†‡"
"""Punctuation by its category that closes nothing."""

_NEVER_FIRST = (
    "々〻ゝゞーヽヾぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ\u301c\uff5e"
    "\u0e30\u0e32\u0e33\u0e45\u0e46\u0eb0\u0eb2\u0eb3\u0ec6"
)
"""Letters that go on with the one before them: Japanese, Thai, Lao."""

_NEVER_LAST = "\u0e40\u0e41\u0e42\u0e43\u0e44\u0ec0\u0ec1\u0ec2\u0ec3\u0ec4"
"""Vowels that are written before their consonant: Thai, Lao."""

_MODIFIES = re.compile("(?s:.)[\U0001f3fb-\U0001f3ff]|[\U0001f1e6-\U0001f1ff]{2}")
"""An emoji with the colour of its skin; the two halves of a flag."""

_ENDS_SYLLABLE = re.compile(r"[\u1000-\u102a\u103f][\u1037\u1038]?[\u1039\u103a]")
"""A Burmese consonant without a vowel of its own."""


def width(text: str) -> int:
    """Cells that a text takes: two for each wide character, none for marks and joiners."""
    return len(text) if text.isascii() else sum(map(_cells, text))


@functools.cache
def _cells(character: str) -> int:
    if unicodedata.category(character) in _ZERO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clean(text: str) -> str:
    """A text in one line, without characters that control a terminal or a parser; empty if nothing shows."""
    line = " ".join(level(text).split())
    return line if any(map(_is_seen, line)) else ""


def level(text: str) -> str:
    """A text with blanks for what controls a terminal or a parser, and for what XML cannot hold."""
    return "".join(
        " " if unicodedata.category(character) in _CONTROL or character in _NO_XML else character
        for character in text
    )


@functools.cache
def _is_seen(character: str) -> bool:
    return unicodedata.category(character) not in _UNSEEN and character not in _FILLERS


def is_boundary(text: str, at: int) -> bool:
    """Whether a word of a text without blanks begins at a letter, as far as its script says."""
    return (has_no_blanks(text[at - 1]) or has_no_blanks(text[at])) and may_end(text, at)


@functools.cache
def has_no_blanks(character: str) -> bool:
    """Whether a letter is of a script that has no blanks between words. Korean has."""
    if unicodedata.east_asian_width(character) in "WF":
        return not unicodedata.name(character, "").startswith("HANGUL")
    return bool(_NO_BLANKS.match(character))


def may_end(text: str, at: int) -> bool:
    """Whether a line may end before a letter: not before marks and what closes, not after what opens."""
    before, after = text[at - 1], text[at]
    kind, next_kind = unicodedata.category(before), unicodedata.category(after)
    if {kind, next_kind} & {"Cf", "Zs"} or next_kind[0] == "M" or _MODIFIES.match(text, at - 1):
        return False
    # A virama joins two consonants; the Burmese asat, of the same class, ends a syllable.
    if (unicodedata.combining(before) == 9 and before != "\u103a") or _ENDS_SYLLABLE.match(text, at):
        return False
    opens = kind in {"Ps", "Pi"} or before in _OPENS + _NEVER_LAST
    return not (opens or closes(after) or after in _NEVER_FIRST)


def closes(character: str) -> bool:
    """Whether it is punctuation that belongs to what stands before it."""
    kind = unicodedata.category(character)
    return kind in {"Pe", "Pf"} or (kind == "Po" and character not in _OPENS + _NEITHER)
