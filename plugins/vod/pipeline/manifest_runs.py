"""A list of assets as a run works it off: what is missing, in which batches, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import Any

from vod.connection import DEFAULT_CONNECTION
from vod.errors import InvalidInputError
from vod.library.catalogue import Catalogue
from vod.locations import public_name
from vod.pipeline import manifests, planning
from vod.pipeline.manifests import Entry, InvalidManifestError
from vod.pipeline.reports import assets_of, collect, words
from vod.records import AssetFailure, ExtractedAudio, Record


@dataclass(frozen=True, kw_only=True)
class AssetList:
    """A manifest, or a range of dates of it.

    :param manifest: Absolute path or URL of the list (:mod:`vod.pipeline.manifests`).
    :param since: Only assets of this date or later; ``until`` only of this date or earlier.
    :param engine: The connection's when empty.
    :param audio_format: For lines that name none.
    :param destination: Where audio lies, and the records of what is done; the connection's when empty.
    """

    manifest: str
    since: date | None = None
    until: date | None = None
    engine: str = ""
    audio_format: str = "MP3"
    destination: str | None = None
    batch_size: int = planning.BATCH
    vod_conn_id: str = DEFAULT_CONNECTION

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> AssetList:
        """What the form of a run asks for."""
        return cls(
            manifest=params["manifest"],
            since=date.fromisoformat(params["from_date"]) if params["from_date"] else None,
            until=date.fromisoformat(params["to_date"]) if params["to_date"] else None,
            engine=params["engine"].replace("default", ""),
            audio_format=params["audio_format"],
            destination=params["destination"],
            batch_size=params["batch_size"],
        )

    @cached_property
    def entries(self) -> list[Entry]:
        """The lines to work off, those of higher priority first.

        :raises InvalidManifestError: the list cannot be read, or lacks a date that is needed.
        :raises planning.TooManyAssetsError: there are more than one run takes.
        """
        entries = []
        for entry in manifests.read(self.manifest):
            if self._part and entry.date is None:
                raise InvalidManifestError(
                    f"Line {entry.line} of {self.manifest} has no date.",
                    remedy="To work the list off by date, give each line one.",
                )
            if self.since and entry.date and entry.date < self.since:
                continue
            if self.until and entry.date and entry.date > self.until:
                continue
            entries.append(entry)
            if len(entries) > planning.MOST_ASSETS:
                raise planning.TooManyAssetsError(
                    f"{self.manifest} has more than the {planning.MOST_ASSETS} assets that one run takes."
                )
        if not entries:
            raise InvalidManifestError(
                f"{self.manifest} has no assets of {self._part}.", remedy="Check the dates of the run."
            )
        return sorted(entries, key=lambda entry: -entry.priority)

    def plan(self, store: Any) -> list[dict[str, Any]]:
        """Batches of what is missing (:func:`vod.pipeline.planning.batches`).

        :raises InvalidInputError: the list, or a line of it, cannot be worked off; nothing was submitted.
        """
        lines = {public_name(entry.asset): entry.line for entry in self.entries}
        try:
            planning.check_sources((entry.asset for entry in self.entries), self.engine, self.vod_conn_id)
        except InvalidInputError as error:
            raise InvalidManifestError(
                f"Line {lines[error.asset or '']} of {self.manifest}: {error}",
                remedy="Correct it and run again.",
            ) from error
        done = self._done()
        missing = {
            entry.asset: self._arguments(entry)
            for entry in self.entries
            if public_name(entry.asset) not in done
        }
        return planning.batches(missing, store, self.batch_size, listed=len(self.entries))

    def write_results(
        self, planned: Sequence[Mapping[str, Any]] | None, returned: Sequence[Any] | None
    ) -> tuple[list[Record], int]:
        """Write the result manifest: what this run did, and what was done before.

        :param planned: The batches of this run.
        :param returned: What their extractions returned.
        :returns: the records of this run, and how many assets had been done before it.
        """
        records = collect(assets_of(planned), returned)
        known: dict[str, Record] = {**self._done(), **{record.asset: record for record in records}}
        transcripts = self._catalogue.transcripts(known)
        manifests.write_results(
            manifests.results_location(self.manifest, self._part),
            (
                _row(entry, known[name], transcripts.get(name))
                for entry in self.entries
                if (name := public_name(entry.asset)) in known
            ),
        )
        return records, len(self.entries) - len(records)

    @property
    def _part(self) -> str | None:
        """The range of dates, as part of a file name."""
        if self.since or self.until:
            return f"{self.since or ''}_{self.until or ''}"
        return None

    @cached_property
    def _catalogue(self) -> Catalogue:
        return Catalogue.of(self.destination, self.vod_conn_id)

    def _done(self) -> dict[str, ExtractedAudio]:
        return self._catalogue.find((public_name(entry.asset), self._format(entry)) for entry in self.entries)

    def _format(self, entry: Entry) -> str:
        return entry.audio_format or self.audio_format

    def _arguments(self, entry: Entry) -> dict[str, Any]:
        return {"audio_format": self._format(entry), "language": entry.language}


def _row(entry: Entry, record: Record, transcript: str | None) -> dict[str, Any]:
    return {
        "asset": entry.asset,
        "date": entry.date or "",
        "language": entry.language or "",
        "format": entry.audio_format or "",
        "priority": entry.priority or "",
        "audio": getattr(record, "uri", ""),
        "transcript": transcript or "",
        "status": "transcribed" if transcript else record.outcome,
        "reason": words(record) if isinstance(record, AssetFailure) else "",
    }
