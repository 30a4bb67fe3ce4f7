"""Which transcripts lie at a destination already."""

from __future__ import annotations

from collections.abc import Iterable

from vod.locations import file_stem, transcript_name
from vod.storage.files import Destination


def find_transcripts(destination: Destination, assets: Iterable[str]) -> dict[str, str]:
    """URIs of the transcripts of assets, by asset, in any language. Captions are written after the text.

    :raises vod.storage.errors.StorageError: the destination cannot be read.
    """

    languages = {
        stem: language
        for name in sorted(destination.names())
        if name.endswith(".srt")
        for stem, _, language in [name.removesuffix(".srt").rpartition(".")]
    }
    return {
        asset: destination.uri(transcript_name(asset, languages[file_stem(asset)], "txt"))
        for asset in assets
        if file_stem(asset) in languages
    }
