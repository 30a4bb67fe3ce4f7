"""Languages of tracks: the codes and names that people write and the codes that media files carry."""

from __future__ import annotations

import functools
import unicodedata

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


_ALSO = {
    "bengali": "bn",
    "castilian": "es",
    "farsi": "fa",
    "flemish": "nl",
    "haitian": "ht",
    "mandarin": "zh",
    "moldavian": "ro",
    "myanmar": "my",
    "nynorsk": "nn",
    "panjabi": "pa",
    "pushto": "ps",
    "sinhalese": "si",
    "valencian": "ca",
}
"""Names that people and models use, and Unicode's list does not."""


def canonical(language: str) -> str:
    """The BCP 47 code of a language: ``de``, ``GER``, ``deu``, ``de-AT`` and ``German`` are all ``de``.

    What is no language is returned in lower case.
    """
    text = language.strip().lower().replace("_", "-")
    code = text.partition("-")[0]
    # A name of four letters or more could be a code that nobody has given to a language yet: thai, urdu.
    if len(code) > 3 and (named := _named(text)):
        return named
    try:
        return langcodes.standardize_tag(code)
    except ValueError:
        return _named(text) or text


def is_known(code: str) -> bool:
    """Whether a code stands for a language, or for several or none."""
    return langcodes.tag_is_valid(code)


def matches(spoken: str, wanted: str) -> bool:
    """Whether a track in one language is meant by another.

    Cantonese and Mandarin are meant by Chinese, both Norwegian languages by ``no``. A track that is only
    called Chinese or Norwegian is taken for what most of these are: Mandarin, Bokmål.
    """
    spoken, wanted = canonical(spoken), canonical(wanted)
    return spoken in (wanted, _USUAL.get(wanted)) or MACROLANGUAGES.get(spoken) == wanted


def _named(name: str) -> str:
    """The code of a language by its name; empty if it is none."""
    return _names().get(_plain(name), "")


def _plain(name: str) -> str:
    """Without accents, which one list has and another has not: Māori."""
    parts = unicodedata.normalize("NFKD", name.strip().casefold())
    return "".join(character for character in parts if not unicodedata.combining(character))


@functools.cache
def _names() -> dict[str, str]:
    """Codes by the language's name, in English and in itself."""
    from babel import Locale, localedata

    english = {str(code): name for code, name in Locale("en").languages.items()}
    names = {**_ALSO, **{_plain(name): code for code, name in english.items()}}
    for code in english:
        if localedata.exists(code) and (own := Locale(code).languages.get(code)):
            names.setdefault(_plain(own), code)
    return names
