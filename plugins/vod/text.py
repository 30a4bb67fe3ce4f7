"""Text from outside: on its way to a person, where nothing drives a terminal, and JSON that people write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def printable(text: str) -> str:
    """*text* on one line: without control characters, which could forge log lines or drive a terminal.

    Marks that turn the direction of writing, and halves of surrogate pairs, count among them.
    """
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def json_object(given: Any) -> Mapping[str, Any] | None:
    """An object, or its JSON; empty for nothing at all, ``None`` for what is no object."""
    if not given or (isinstance(given, str) and not given.strip()):
        return {}
    try:
        value = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return None
    return value if isinstance(value, Mapping) else None


class Lines(str):
    """Text of several lines on purpose, each of them :func:`printable`."""

    __slots__ = ()

    def __new__(cls, lines: Iterable[str]) -> Lines:
        """Join the lines."""
        return super().__new__(cls, "\n".join(map(printable, lines)))
