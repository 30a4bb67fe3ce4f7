"""What was extracted, by asset and format, for all runs and DAGs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from vod.connection import DEFAULT_CONNECTION
from vod.errors import InvalidInputError
from vod.locations import file_stem
from vod.logs import get_logger
from vod.records import ExtractedAudio, parse_record
from vod.storage.files import Destination, replacing

if TYPE_CHECKING:
    from airflow.sdk import Context

log = get_logger(__name__)

_PARALLEL = 16
"""Requests to an object store at a time."""


class Catalogue:
    """A record of each extracted audio, as a file of JSON where audio and transcripts lie.

    The file is called ``<asset>.<format>.json``: two runs that extract the same write the same file.

    :param destination: Folder or object-storage URL of the audio.
    """

    def __init__(self, destination: str) -> None:
        self._destination = Destination(destination)

    @classmethod
    def for_destination(cls, destination: str | None, vod_conn_id: str = DEFAULT_CONNECTION) -> Catalogue:
        """The catalogue of a destination, or of the connection's default destination.

        :raises InvalidInputError: there is neither.
        """
        from vod.hooks import VodHook  # not needed to parse a DAG file, and slow to import

        location = destination or VodHook(vod_conn_id).settings.destination
        if not location:
            raise InvalidInputError(
                "There is no destination for the records of what was extracted.",
                remedy="Give the run a destination, or set a default in the connection's extra.",
            )
        return cls(location)

    def find(self, wanted: Iterable[tuple[str, str]]) -> dict[str, ExtractedAudio]:
        """The audio of those assets that were extracted; audio whose file is gone does not count.

        :param wanted: Assets with their formats.
        """
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="catalogue") as pool:
            found = pool.map(lambda pair: self._read(*pair), wanted)
            return {record.asset: record for record in found if record}

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Remember what an extraction returned; failures are not remembered."""
        audio = [
            record for record in map(parse_record, map(dict, records)) if isinstance(record, ExtractedAudio)
        ]
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="catalogue") as pool:
            list(pool.map(self._write, audio))

    def transcripts(self, assets: Iterable[str]) -> dict[str, str]:
        """URIs of the transcripts that lie here, by asset. Captions are written after the text."""

        def look(asset: str) -> tuple[str, str] | None:
            text, captions = (f"{file_stem(asset)}.{ending}" for ending in ("txt", "srt"))
            return None if self._destination.size(captions) is None else (asset, self._destination.uri(text))

        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="catalogue") as pool:
            return dict(filter(None, pool.map(look, assets)))

    def _read(self, asset: str, audio_format: str) -> ExtractedAudio | None:
        text = self._destination.read(_name(asset, audio_format))
        try:
            record = parse_record(json.loads(text)) if text else None
        except (ValueError, KeyError, TypeError):
            log.warning("The record %s cannot be read; the asset counts as new.", _name(asset, audio_format))
            return None
        if not isinstance(record, ExtractedAudio) or record.asset != asset:
            return None
        name = record.uri.rpartition("/")[2]
        moved = not record.uri.startswith("vod://") and record.uri == self._destination.uri(name)
        return None if moved and self._destination.size(name) is None else record

    def _write(self, record: ExtractedAudio) -> None:
        name = _name(record.asset, record.audio_format)
        with self._destination.writing(name) as path, replacing(path) as part:
            part.write_text(json.dumps(record.to_json(), ensure_ascii=False), encoding="utf-8")


def remember(context: Context, records: Iterable[Mapping[str, Any]]) -> None:
    """Put what an extraction returned into the catalogue: ``ExtractAudioOperator(post_execute=remember)``."""
    task: Any = context["task"]
    Catalogue.for_destination(task.destination, task.vod_conn_id).add(records)


def _name(asset: str, audio_format: str) -> str:
    return f"{file_stem(asset)}.{audio_format.lower()}.json"
