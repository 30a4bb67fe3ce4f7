"""Codes of languages."""

from __future__ import annotations

_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr "
    "ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc "
    "pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo zh "
    "yue"
)

OF_WHISPER = _CODES.split()
"""Codes of what multilingual Whisper models know; older models know all but ``yue``."""


def with_usual_code(language: str) -> str:
    """The language with the code by which models know it: ``de`` also for ``ger`` and ``German``.

    The region stays: ``zh-TW`` of ``chi-TW``.
    """
    base, separator, region = language.replace("_", "-").partition("-")
    if len(base) <= 2:
        return language
    from vod.media.languages import canonical  # it loads lists of names

    return f"{canonical(base)}{separator}{region}"


def base_code(language: str) -> str:
    """``pt`` of ``pt-BR`` and ``pt_BR``."""
    return language.strip().lower().replace("_", "-").partition("-")[0]
