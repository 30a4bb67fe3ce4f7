"""Languages of tracks: the codes and names that people write and the codes that media files carry."""

from __future__ import annotations

import functools

import langcodes
from langcodes.data_dicts import MACROLANGUAGES

_USUAL = {
    "cmn": "zh",
    "nb": "no",
    "arb": "ar",
    "swh": "sw",
    "zsm": "ms",
    "pes": "fa",
    "lvs": "lv",
    "ekk": "et",
    "als": "sq",
    "khk": "mn",
}
"""What a file is called that only names the macrolanguage, by the language that it mostly is in."""


def canonical(language: str) -> str:
    """The BCP 47 code of a language: ``de``, ``GER``, ``deu``, ``de-AT`` and ``German`` are all ``de``.

    What is no language is returned in lower case.
    """
    text = language.strip().lower().replace("_", "-")
    try:
        return langcodes.standardize_tag(text.partition("-")[0])
    except ValueError:
        return _names().get(text, text)


def matches(spoken: str, wanted: str) -> bool:
    """Whether a track in one language is meant by another.

    Cantonese and Mandarin are meant by Chinese, both Norwegian languages by ``no``. A track that is only
    called Chinese or Norwegian is taken for what most of these are: Mandarin, Bokmål.
    """
    spoken, wanted = canonical(spoken), canonical(wanted)
    return spoken in (wanted, _USUAL.get(wanted)) or MACROLANGUAGES.get(spoken) == wanted


@functools.cache
def _names() -> dict[str, str]:
    """Codes by the language's name, in English and in itself."""
    from babel import Locale, localedata

    english = {str(code): name for code, name in Locale("en").languages.items()}
    names = {name.lower(): code for code, name in english.items()}
    for code in english:
        if localedata.exists(code) and (own := Locale(code).languages.get(code)):
            names.setdefault(own.lower(), code)
    return names
