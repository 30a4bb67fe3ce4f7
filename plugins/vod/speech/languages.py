"""Codes of languages."""

from __future__ import annotations


def base_code(language: str) -> str:
    """``pt`` of ``pt-BR`` and ``pt_BR``."""
    return language.strip().lower().replace("_", "-").partition("-")[0]
