"""Simplified or traditional characters for Chinese, as the language asks for. Needs the extra ``chinese``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate
from typing import Any

from vod.errors import InvalidInputError
from vod.speech.languages import base_code
from vod.speech.transcription import Segment, Word

_CHINESE = ("zh", "yue")

_TRADITIONAL = {"tw": "s2tw", "hk": "s2hk", "mo": "s2hk", "hant": "s2t"}

_ASKED = {"cn": "t2s", "sg": "t2s", "hans": "t2s", **_TRADITIONAL}
"""By region or script of the language asked for: OpenCC's name of the conversion."""


def conversion(language: str) -> str | None:
    """OpenCC's name of what ``zh-CN``, ``zh-Hant`` and the like ask for; ``zh`` alone means simplified."""
    base, *parts = language.lower().replace("_", "-").split("-")
    if base not in _CHINESE:
        return None
    asked = next((_ASKED[part] for part in reversed(parts) if part in _ASKED), None)
    return asked or ("t2s" if base == "zh" else None)


def check(language: str) -> None:
    """See that the characters that were asked for can be given.

    :raises InvalidInputError: the language names a region or script, and OpenCC is not installed.
    """
    if conversion(language) and "-" in language.replace("_", "-") and not _is_installed():
        raise InvalidInputError(
            f"For {language!r} the characters have to be converted, and OpenCC is not installed.",
            remedy="Install it with: pip install opencc. Or give the language as zh.",
        )


def convert(segments: Sequence[Segment], asked: str, spoken: str) -> tuple[Segment, ...]:
    """Chinese in the characters asked for; anything else as it is.

    :param asked: The language that was asked for, or empty.
    :param spoken: The language of those segments that name none.
    """
    if not _is_installed():
        return tuple(segments)
    converted = []
    for segment in segments:
        language = segment.language or spoken
        if base_code(language) in _CHINESE and base_code(asked) in _CHINESE:
            language = asked
        name = conversion(language)
        converted.append(replace(segment, words=_converted(segment.words, name)) if name else segment)
    return tuple(converted)


def _converted(words: Sequence[Word], name: str) -> tuple[Word, ...]:
    """All words at once: which character is right depends on those beside it, and each may be a word."""
    converter = _converter(name)
    text = converter.convert("".join(word.text for word in words))
    ends = [*accumulate(len(word.text) for word in words)]
    if len(text) != (ends[-1] if ends else 0):
        return tuple(replace(word, text=converter.convert(word.text)) for word in words)
    return tuple(
        replace(word, text=text[end - len(word.text) : end]) for word, end in zip(words, ends, strict=True)
    )


def _is_installed() -> bool:
    return importlib.util.find_spec("opencc") is not None


@cache
def _converter(name: str) -> Any:
    from opencc import OpenCC

    return OpenCC(name)
