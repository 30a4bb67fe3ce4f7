"""Which transcripts lie at a destination, and under which names they do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from vod.locations import audio_stem, variant_in
from vod.records import ExtractedAudio
from vod.speech import WRITERS, write
from vod.speech.passages import Passage, from_lines, to_lines
from vod.speech.transcription import Transcription
from vod.storage.destination import Destination, not_written, replacing

_PARALLEL = 16
"""Requests to an object store at a time."""

_INEXACT = 1.0
"""Seconds that what a file says of its length may be off."""

_LONGEST_LABEL = 40
"""Characters: names of files have at most 255 bytes."""


class TranscriptFiles:
    """The files of one audio at a destination: ``<audio>.<language>.json``, captions beside it.

    What is heard of an unfinished audio lies there too, in ``<audio>.<fingerprint>.part.jsonl``: the one
    place that the next try finds on any machine, and that takes megabytes, which a task's state does not.

    :param stem: How their names begin, see :func:`stem_of`.
    """

    def __init__(self, destination: Destination, stem: str) -> None:
        self._destination = destination
        self._stem = stem

    def all(self) -> dict[str, Transcription]:
        """The audio's transcripts by the name of their files, without extension.

        Among those of audio by the defaults are those of all audio of its asset.
        """
        names = [
            name.removesuffix(".json")
            for name in sorted(self._destination.names(f"{self._stem}."))
            if name.endswith(".json")
        ]
        return {name: found for name in names if (found := _read(self._destination, name))}

    def find(self, fingerprint: str) -> tuple[str, Transcription] | None:
        """The transcript that was made of the same audio in the same way, and its name."""
        return next((each for each in self.all().items() if each[1].fingerprint == fingerprint), None)

    def name(
        self,
        transcription: Transcription,
        language: str = "",
        *,
        overwrite: bool,
        kept: Collection[str] = (),
    ) -> str:
        """What its files are called: the language, then what tells it from the transcripts that there are.

        In this order: another track, other channels, another model, folder of the model, engine, version of
        the model or server, region or script of the language, and in the end its fingerprint. A translation
        is never called as a transcript is.

        :param language: That was asked for, such as ``zh-TW``.
        :param overwrite: What is another transcript of the same track and channels is no reason for another
            name.
        :param kept: URIs of transcripts that are not overwritten all the same.
        """
        others, taken = self.all(), set(self._destination.names(f"{self._stem}."))

        def is_free(name: str) -> bool:
            there = others.get(name)
            if there is None:  # somebody else's JSON is not ours to replace
                return f"{name}.json" not in taken
            if overwrite and self._destination.uri(f"{name}.json") not in kept:
                return (there.track, there.channels) == (transcription.track, transcription.channels)
            return _are_same(there, transcription)

        folder, model = ["", "", *re.split(r"[/\\]+", transcription.model.rstrip("/\\"))][-2:]
        labels = (
            (f"track{transcription.track}", "track"),
            (transcription.channels, "channels"),
            (model, "model"),
            (folder, "model"),
            (transcription.engine, "engine"),
            (transcription.revision, "revision"),
            ("-".join(re.split("[-_]", language)[1:]), None),
            (transcription.fingerprint, None),
        )
        name = f"{self._stem}.{_label(transcription.language) or 'und'}"
        if transcription.task == "translate":
            name += ".translation"
        for label, feature in labels:
            if is_free(name):
                break
            own = getattr(transcription, feature or "fingerprint")
            if not feature or getattr(others.get(name), feature, own) != own:
                name = ".".join(filter(None, (name, _label(label))))
        return name

    def put(self, name: str, transcription: Transcription, captions: Iterable[str]) -> dict[str, str]:
        """Write a transcript and its captions; returns their URIs by format.

        Of another transcript that had this name nothing stays, in whatever format.

        :param captions: Formats to write; ``json`` is in any case.
        """
        there = _read(self._destination, name)
        is_there = there is not None and _are_same(there, transcription)
        kinds = [kind for kind in captions if kind != "json"]
        uris = {kind: self.write(f"{name}.{kind}", write(transcription, kind)) for kind in kinds}
        if there and not is_there:
            for kind in WRITERS.keys() - {*kinds, "json"}:
                self._destination.remove(f"{name}.{kind}")
        # The transcript comes last: where it is, all is.
        whole = f"{name}.json"
        uris["json"] = (
            self._destination.uri(whole) if is_there else self.write(whole, transcription.to_json())
        )
        return uris

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
    """``<audio>.<fingerprint>.order.jsonl``: any task that wants the same text finds what was ordered."""

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


def stem_of(audio: ExtractedAudio) -> str:
    """How the names of the files begin that are made of an audio: as its own does, if it has a file.

    So what is made of the same asset by other wishes lies beside it.
    """
    return audio_stem(audio.asset, variant_in(audio.uri.rpartition("/")[2]))


def find_transcripts(
    destination: Destination,
    audio: Iterable[ExtractedAudio],
    fingerprint: Callable[[ExtractedAudio], str | None] | None = None,
) -> dict[str, str]:
    """URIs of the transcripts of audio by asset: of the text, or of the JSON where there is no text.

    :param fingerprint: Says which transcript is meant: the one with this fingerprint. When omitted it is one
        of the audio's track that is no translation: rather as long as the audio, and with the plainest name.
    :raises vod.storage.errors.StorageError: the destination cannot be read.
    """
    names = set(destination.names())
    by_stem: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: (name.count("."), name)):
        if name.endswith(".json"):
            parts = name.split(".")
            stem = ".".join(parts[: 2 if variant_in(name) else 1])
            by_stem.setdefault(stem, []).append(name.removesuffix(".json"))

    def look(record: ExtractedAudio) -> tuple[str, str] | None:
        here = by_stem.get(stem_of(record), ())
        wanted = fingerprint(record) if fingerprint and here else None
        found = list[tuple[bool, str]]()
        for name in here:
            each = _read(destination, name)
            if each is None:
                continue
            is_of_track = each.task == "transcribe" and each.track == record.track
            if each.fingerprint == wanted if fingerprint else is_of_track:
                found.append((abs(each.duration - (record.duration or each.duration)) > _INEXACT, name))
        if not found:
            return None
        name = min(found, key=lambda each: each[0])[1]
        return record.asset, destination.uri(f"{name}.txt" if f"{name}.txt" in names else f"{name}.json")

    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="transcripts") as pool:
        return dict(filter(None, pool.map(look, audio)))


def _read(destination: Destination, name: str) -> Transcription | None:
    """The transcript of that name; ``None`` when there is none, or somebody else's file."""
    try:
        return Transcription.from_json((destination.read(f"{name}.json") or b"").decode())
    except ValueError:
        return None


def _are_same(one: Transcription, other: Transcription) -> bool:
    """Whether both were made of the same audio in the same way; of one without a fingerprint nobody knows."""
    return bool(one.fingerprint) and one.fingerprint == other.fingerprint


def _label(text: str) -> str:
    """A part of a file's name, of what a server or a person may have called anything."""
    return re.sub(r"[^\w.-]+", "_", text).strip("._")[:_LONGEST_LABEL]
