"""Titles of assets, compared as VOD may keep them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MAX_LENGTH_TITLE = 128
"""Bytes of a title (section 12)."""

_SEARCHED = 100
"""Bytes of a title that are searched for, so that it makes no difference where the rest was cut."""
_MIN_LENGTH_SEARCHED = 3


def same_title(one: str, other: str) -> bool:
    """Whether two titles may be one, seen before and after VOD has kept it.

    The contract gives a title 128 bytes. It does not say what becomes of a longer one, of blanks at its ends
    or in a row, or of the forms of Unicode. So blanks and forms make no difference here, and a title is the
    same as another that is cut after 128 bytes, be it inside a character.
    """
    return not _kept(one).isdisjoint(_kept(other))


def search_text(title: str) -> str:
    """What to search for to find a title however VOD keeps it: its longest part that no trimming, cutting or
    normalising changes; the title itself if it has none of three characters."""
    begin = title.encode(errors="replace")[:_SEARCHED].decode(errors="ignore")
    # Some characters alone have another form, which cannot be turned back: 5 OHM SIGN becomes 5 OMEGA.
    begin = "".join("\n" if _turns_into_another(each) else each for each in begin)
    stable = "".join(
        "\n" if unicodedata.normalize("NFD", each) != each or unicodedata.combining(each) else each
        for each in unicodedata.normalize("NFC", begin)
    )
    parts = [part.strip() for part in re.split(r"\s{2,}|[^\S ]", stable)]
    longest = max(parts, key=len)
    return longest if len(longest) >= _MIN_LENGTH_SEARCHED else title


def _turns_into_another(character: str) -> bool:
    composed = unicodedata.normalize("NFC", character)
    return composed != character and not unicodedata.combining(composed[0])


def _kept(title: str) -> set[str]:
    """What VOD may make of a title, in one form."""
    return {_plain(title), *map(_plain, _cuts(title))}


def _cuts(title: str) -> Iterator[str]:
    for form in (title, unicodedata.normalize("NFC", title), unicodedata.normalize("NFD", title)):
        for trimmed in (form, form.strip(), " ".join(form.split())):
            yield trimmed.encode(errors="replace")[:MAX_LENGTH_TITLE].decode(errors="ignore")


def _plain(title: str) -> str:
    """Composed, without blanks at the ends or in a row, and without the rest of a character cut in two."""
    return " ".join(unicodedata.normalize("NFC", title).split()).rstrip("\N{REPLACEMENT CHARACTER} ")
