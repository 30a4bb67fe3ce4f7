"""Simplified or traditional characters for Chinese, as the language asks for. Needs the extra ``chinese``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from vod.errors import InvalidInputError
from vod.speech.transcription import Segment

_TRADITIONAL = {"tw": "s2tw", "hk": "s2hk", "mo": "s2hk", "hant": "s2t"}

_ASKED = {"cn": "t2s", "sg": "t2s", "hans": "t2s", **_TRADITIONAL}
"""By region or script of the language asked for: OpenCC's name of the conversion."""


def conversion(language: str) -> str | None:
    """OpenCC's name of what ``zh-CN``, ``zh-Hant`` and the like ask for; ``zh`` alone means simplified."""
    base, *parts = language.lower().replace("_", "-").split("-")
    if base not in ("zh", "yue"):
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


def convert(segments: Sequence[Segment], language: str) -> tuple[Segment, ...]:
    """Chinese in the characters asked for; anything else as it is."""
    name = conversion(language)
    if name is None or not _is_installed():
        return tuple(segments)
    converter = _converter(name)
    return tuple(
        replace(
            segment,
            words=tuple(replace(word, text=converter.convert(word.text)) for word in segment.words),
        )
        for segment in segments
    )


def _is_installed() -> bool:
    return importlib.util.find_spec("opencc") is not None


@cache
def _converter(name: str) -> Any:
    from opencc import OpenCC

    return OpenCC(name)
