"""Text from outside on its way to a person: one line stays one line, and nothing drives a terminal."""

from __future__ import annotations

from collections.abc import Iterable


def printable(text: str) -> str:
    """*text* on one line: without control characters, which could forge log lines or drive a terminal.

    Marks that turn the direction of writing, and halves of surrogate pairs, count among them.
    """
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


class Lines(str):
    """Text of several lines on purpose, each of them :func:`printable`."""

    __slots__ = ()

    def __new__(cls, lines: Iterable[str]) -> Lines:
        """Join the lines."""
        return super().__new__(cls, "\n".join(map(printable, lines)))
