"""Which transcripts lie at a destination already."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from vod.locations import file_stem
from vod.storage.files import Destination

_PARALLEL = 16
"""Requests to an object store at a time."""


def find_transcripts(destination: Destination, assets: Iterable[str]) -> dict[str, str]:
    """URIs of the transcripts of assets, by asset. Captions are written after the text.

    :raises vod.storage.errors.StorageError: the destination cannot be read.
    """

    def look(asset: str) -> tuple[str, str] | None:
        text, captions = (f"{file_stem(asset)}.{ending}" for ending in ("txt", "srt"))
        return None if destination.size(captions) is None else (asset, destination.uri(text))

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="transcripts") as pool:
        return dict(filter(None, pool.map(look, assets)))
