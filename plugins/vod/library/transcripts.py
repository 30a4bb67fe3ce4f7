"""Which transcripts lie at a destination, and under which names they do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vod.locations import file_stem
from vod.speech.languages import base_code
from vod.speech.passages import Passage, from_lines, to_lines
from vod.speech.transcription import Transcription
from vod.storage.destination import Destination, not_written, replacing

_PARALLEL = 16
"""Requests to an object store at a time."""


class TranscriptFiles:
    """The files of one asset at a destination: ``<asset>.<language>.json``, captions beside it.

    What is heard of an unfinished audio lies there too, in ``<asset>.<fingerprint>.part.jsonl``: the one
    place that the next try finds on any machine, and that takes megabytes, which a task's state does not.
    """

    def __init__(self, destination: Destination, asset: str) -> None:
        self._destination = destination
        self._stem = file_stem(asset)

    def all(self) -> dict[str, Transcription]:
        """The asset's transcripts by the name of their files, without extension."""
        found = {}
        for name in sorted(self._destination.names(f"{self._stem}.")):
            if name.endswith(".json"):
                try:
                    found[name.removesuffix(".json")] = Transcription.from_json(
                        (self._destination.read(name) or b"").decode()
                    )
                except ValueError:  # somebody else's
                    continue
        return found

    def find(self, fingerprint: str) -> tuple[str, Transcription] | None:
        """The transcript that was made of the same audio in the same way, and its name."""
        return next((each for each in self.all().items() if each[1].fingerprint == fingerprint), None)

    def name(self, transcription: Transcription, *, overwrite: bool) -> str:
        """What its files are called: the language, then what tells it from the transcripts that there are.

        In this order: another track, other channels, another model. A translation is never called as a
        transcript is.

        :param overwrite: Another model is no reason for another name.
        """
        name = f"{self._stem}.{transcription.language or 'und'}"
        if transcription.task == "translate":
            name += ".translation"
        others = self.all()
        model = re.sub(r"[^\w.-]+", "_", transcription.model.rpartition("/")[2])
        labels = {
            f"track{transcription.track}": ("track",),
            transcription.channels: ("channels",),
            model or transcription.engine: () if overwrite else ("engine", "model"),
        }
        for label, features in labels.items():
            there = others.get(name)
            if there and any(getattr(there, each) != getattr(transcription, each) for each in features):
                name += f".{label}"
        return name

    def write(self, name: str, text: str) -> str:
        """Write a file, whole or not at all; returns its URI."""
        uri = self._destination.uri(name)
        try:
            with self._destination.writing(name) as path, replacing(path) as part:
                part.write_text(text, encoding="utf-8")
        except OSError as error:
            raise not_written(uri, error) from error
        return uri

    def heard(self, fingerprint: str) -> list[Passage]:
        """What an earlier try heard."""
        data = self._destination.read(self._part(fingerprint))
        return from_lines(data.decode(errors="replace")) if data else []

    def keep(self, fingerprint: str, passages: Sequence[Passage]) -> None:
        """Keep what is heard so far."""
        self.write(self._part(fingerprint), to_lines(passages))

    def forget(self, fingerprint: str) -> None:
        """The transcript is there: what led to it is no longer needed."""
        self._destination.remove(self._part(fingerprint))
        self._destination.remove(self._order(fingerprint))

    def note(self, fingerprint: str) -> OrderNote:
        """The note of an order that a service was given, see :class:`vod.speech.engines.Note`."""
        return OrderNote(self, self._destination, self._order(fingerprint))

    def _order(self, fingerprint: str) -> str:
        return f"{self._stem}.{fingerprint}.order.jsonl"

    def _part(self, fingerprint: str) -> str:
        return f"{self._stem}.{fingerprint}.part.jsonl"


class OrderNote:
    """``<asset>.<fingerprint>.order.jsonl``: any task that wants the same text finds what was ordered."""

    def __init__(self, files: TranscriptFiles, destination: Destination, name: str) -> None:
        self._files, self._destination, self._name = files, destination, name

    def read(self) -> dict[str, Any]:
        """What was written last; empty when nothing was."""
        data = self._destination.read(self._name)
        if not data:
            return {}
        try:
            values = json.loads(data)
        except ValueError:
            values = None
        # It is written whole or not at all. One that cannot be read may stand for an order.
        return values if isinstance(values, dict) else {"intended": 0.0}

    def write(self, values: dict[str, Any]) -> None:
        """Keep it."""
        self._files.write(self._name, json.dumps(values))


def find_transcripts(
    destination: Destination, assets: Iterable[str], model: str | None = None, language: str | None = None
) -> dict[str, str]:
    """URIs of the transcripts of assets by asset: of the text, or of the JSON where there is no text.

    A translation is no transcript.

    :param model: Only transcripts by this model; by any when omitted.
    :param language: Only transcripts in this language; in any when omitted.
    :raises vod.storage.errors.StorageError: the destination cannot be read.
    """
    names = set(destination.names())
    by_stem: dict[str, list[str]] = {}
    for name in sorted(names):
        if name.endswith(".json"):
            by_stem.setdefault(name.partition(".")[0], []).append(name)

    def look(asset: str) -> tuple[str, str] | None:
        for name in by_stem.get(file_stem(asset), ()):
            try:
                found = Transcription.from_json((destination.read(name) or b"").decode())
            except ValueError:
                continue
            if (
                found.task == "transcribe"
                and (not model or found.model == model)
                and (not language or found.language == base_code(language))
            ):
                text = f"{name.removesuffix('.json')}.txt"
                return asset, destination.uri(text if text in names else name)
        return None

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="transcripts") as pool:
        return dict(filter(None, pool.map(look, assets)))
