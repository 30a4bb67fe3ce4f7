"""Which audio is there, in few reads: what a plan over a long list asks instead of one entry an asset.

The index is a help for planning, never the truth. Two tasks that write the same page at once may lose each
other's lines; then a plan takes an asset for new, and the operator finds its entry in the register.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vod.library.register import Store

DIGITS = 3
"""Hex digits of an entry's key that name its page: 4,096 pages, of 25 kB with a million entries."""


class Index:
    """Where the audio of each entry of the register is, in pages.

    :param store: That of the register.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, records: Mapping[str, Mapping[str, Any]]) -> set[str]:
        """Add audio.

        :param records: :class:`vod.records.ExtractedAudio` as JSON, by the key of its entry.
        :returns: the keys of what was not there.
        """
        added: set[str] = set()
        for page, keys in _pages(records).items():
            before = self._page(page)
            new = {key for key in keys if before.get(_line(key)) != str(records[key]["uri"])}
            if new:
                self._store.set(page, before | {_line(key): str(records[key]["uri"]) for key in new})
            added |= new
        return added

    def find(self, keys: Iterable[str]) -> dict[str, str]:
        """URIs of the audio of those entries that are known to have one, by key."""
        found: dict[str, str] = {}
        for page, wanted in _pages(keys).items():
            lines = self._page(page)
            found |= {key: uri for key in wanted if (uri := lines.get(_line(key)))}
        return found

    def remove(self, keys: Iterable[str]) -> None:
        """Remove audio that is not there any more."""
        for page, gone in _pages(keys).items():
            before = self._page(page)
            after = {line: uri for line, uri in before.items() if line not in set(map(_line, gone))}
            if after != before:
                self._store.set(page, after)

    def _page(self, page: str) -> dict[str, str]:
        lines = self._store.get(page)
        return {str(line): str(uri) for line, uri in lines.items()} if isinstance(lines, dict) else {}


def _pages(keys: Iterable[str]) -> dict[str, list[str]]:
    pages: dict[str, list[str]] = {}
    for key in keys:
        digest = key.rpartition("_")[2]
        pages.setdefault(f"index_{digest[:DIGITS]}", []).append(key)
    return pages


def _line(key: str) -> str:
    """The rest of a key's digest, long enough to be alone on its page."""
    return key.rpartition("_")[2][DIGITS : DIGITS + 16]
