"""A run over a list of assets in a file: what is missing, in which batches, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

from vod.batch.arguments import TooManyAssetsError
from vod.batch.outcomes import fail_at_once
from vod.connection import DEFAULT_CONNECTION
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.errors import InvalidInputError
from vod.library.known_audio import Wanted
from vod.library.transcripts import find_transcripts
from vod.locations import AllowedLocations, parse_location, public_name
from vod.pipeline import forms, manifests, planning
from vod.pipeline.estimates import check_run
from vod.pipeline.manifests import Entry, InvalidManifestError
from vod.pipeline.parts import Plan
from vod.pipeline.reports import summary_of
from vod.records import AssetFailure, ExtractedAudio, Record
from vod.storage.destination import Destination

T = TypeVar("T")

_CHUNK = 500
"""Assets whose results are looked up and written together."""


@fail_at_once()
def plan_manifest(params: Mapping[str, Any], dag: Any, store: Any, register: Any = None) -> Plan:
    """Batches of what is missing of the list that a form names.

    A line that cannot be worked on costs itself.

    :param store: ``context["task_state_store"]`` of the task that plans.
    :param register: ``context["asset_state_store"]`` of a task with the register among its inlets.
    :raises AirflowFailException: the list, or a line of it, cannot be worked on; nothing was submitted.
    """
    return ManifestRun.from_form(forms.read(params, dag), register).plan(store)


@fail_at_once()
def write_results(params: Mapping[str, Any], records: Iterable[Record], register: Any = None) -> int:
    """Write the result manifest of a run (:meth:`ManifestRun.write_results`)."""
    return ManifestRun.from_form(forms.read(params, None), register).write_results(records)


@dataclass(frozen=True, kw_only=True)
class ManifestRun:
    """A run over a manifest, or over a range of its dates.

    :param manifest: Absolute path or URL of the list (:mod:`vod.pipeline.manifests`).
    :param allowed: What the list may be, and may name.
    :param since: Only assets of this date or later; ``until`` only of this date or earlier.
    :param engine: The connection's when ``None``.
    :param audio_format: For lines that name none.
    :param destination: Where audio and transcripts lie; the connection's when ``None``.
    :param register: ``context["asset_state_store"]``: what other runs have extracted.
    """

    manifest: str = field(repr=False)
    allowed: AllowedLocations
    since: date | None = None
    until: date | None = None
    engine: str | None = None
    audio_format: str = "MP3"
    destination: str | None = None
    batch_size: int = forms.BATCH_SIZE
    vod_conn_id: str = DEFAULT_CONNECTION

    register: Any = None

    @classmethod
    def from_form(cls, form: Mapping[str, Any], register: Any = None) -> ManifestRun:
        """What the form of a run asks for (:func:`vod.pipeline.forms.read`).

        :raises InvalidInputError: the first date is after the last.
        """
        since = date.fromisoformat(form["from_date"]) if form["from_date"] else None
        until = date.fromisoformat(form["to_date"]) if form["to_date"] else None
        if since and until and since > until:
            raise InvalidInputError(
                f"The first date, {since}, is after the last, {until}.",
                remedy="Correct the dates of the run.",
            )
        return cls(
            manifest=form["manifest"],
            allowed=planning.form_locations(),
            since=since,
            until=until,
            engine=form["engine"],
            audio_format=form["audio_format"],
            destination=form["destination"],
            batch_size=form["batch_size"],
            register=register,
        )

    @property
    def entries(self) -> list[Entry]:
        """The lines to work on, those of higher priority first; of an asset that comes twice the first line.

        :raises InvalidManifestError: the list cannot be read, or lacks a date that is needed.
        :raises TooManyAssetsError: there are more than one run takes.
        """
        return self._chosen[0]

    @cached_property
    def _chosen(self) -> tuple[list[Entry], list[tuple[Entry, Entry]]]:
        """The entries, and lines that ask for other audio of an asset: each with the line before it."""
        entries: dict[str, Entry] = {}
        others = []
        for entry in manifests.read(self.manifest, self.allowed):
            if self._part and entry.date is None:
                raise InvalidManifestError(
                    f"Line {entry.line} of {self._name} has no date.",
                    remedy="Give each line a date, or leave the dates of the run empty.",
                )
            if self.since and entry.date and entry.date < self.since:
                continue
            if self.until and entry.date and entry.date > self.until:
                continue
            first = entries.setdefault(entry.asset, entry)
            if first is not entry and self._wishes(first) != self._wishes(entry):
                others.append((entry, first))
            if len(entries) > (most := planning.max_assets(self.batch_size)):
                raise TooManyAssetsError(
                    f"The list has more than the {most} assets that one run takes in batches of "
                    f"{self.batch_size}.",
                    remedy="Choose a larger batch size, split the list, or give its lines a date and run it "
                    "month by month.",
                )
        if not entries:
            raise InvalidManifestError(
                f"{self._name} has no assets of {self._part}.", remedy="Check the dates of the run."
            )
        return sorted(entries.values(), key=lambda entry: -entry.priority), others

    def plan(self, store: Any) -> Plan:
        """Batches of what is missing (:func:`vod.pipeline.planning.batches`).

        :raises InvalidInputError: the list cannot be worked on, or its results could not be written beside
            it; nothing was submitted.
        """
        planning.check_destination(self.destination, self.vod_conn_id, self.allowed)
        refused = self._refused()
        manifests.check_results(self._results, self.allowed)
        entries = [entry for entry in self.entries if entry.asset not in refused]
        done = self._done(entries)
        missing = {
            entry.asset: self._arguments(entry) for entry in entries if public_name(entry.asset) not in done
        }
        check_run([*missing], self.engine, self.vod_conn_id)
        batches = planning.batches(missing, store, self.batch_size, listed=len(entries))
        return Plan(batches, [*refused.values()])

    def write_results(self, records: Iterable[Record]) -> int:
        """Write the result manifest: what this run did, as it comes, and what was done before.

        :param records: Those of this run.
        :returns: how many assets had been done before it.
        :raises InvalidInputError: it cannot be written there.
        """
        waiting: dict[str, list[Entry]] = {}
        for entry in self.entries:
            waiting.setdefault(public_name(entry.asset), []).append(entry)
        others = {self._line(entry): [entry] for entry, _ in self._chosen[1]}
        refused: dict[str, Record] = {}
        of_this_run = 0

        def rows() -> Iterator[dict[str, Any]]:
            nonlocal of_this_run
            for chunk in _chunks(records):
                known = {record.asset: record for record in chunk}
                of_this_run += len(known.keys() - others.keys())
                refused.update((name, record) for name, record in known.items() if name in others)
                lines = {name: waiting.pop(name, []) for name in known if name not in others}
                yield from self._rows(known, lines)
            done = self._done([entry for entries in waiting.values() for entry in entries], check=False)
            for rest in _chunks(waiting.items()):
                yield from self._rows(done, {name: entries for name, entries in rest if name in done})
            # At the end: given back as a list, the first line of an asset counts again.
            yield from self._rows(refused, {name: others[name] for name in refused})

        manifests.write_results(self._results, self.allowed, rows())
        return len(self.entries) - of_this_run

    def _rows(
        self, records: Mapping[str, Record], lines: Mapping[str, Iterable[Entry]]
    ) -> Iterator[dict[str, Any]]:
        """:param lines: By the names that their records have."""
        audio = [record for record in records.values() if isinstance(record, ExtractedAudio)]
        transcripts = find_transcripts(self._transcripts, audio)
        for name, entries in lines.items():
            for entry in entries:
                yield _row(entry, records[name], transcripts.get(name))

    def _refused(self) -> Mapping[str, AssetFailure]:
        """Lines that cannot be worked on, by their assets, and why.

        :raises InvalidInputError: no line is left, or too many are bad.
        """
        assets = (entry.asset for entry in self.entries)
        bad = planning.bad_sources(assets, self.engine, self.vod_conn_id, self.allowed)
        lines = {entry.asset: entry for entry in reversed(self.entries) if entry.asset in bad}
        failures = {}
        for asset, error in bad.items():
            line = self._line(lines[asset])
            # What is not shown may be a line of another file than the list's author thinks.
            name = public_name(asset) if _may_be_shown(asset, self.allowed) else line
            place = "" if name == line else f"{line}: "
            failures[asset] = AssetFailure(
                asset=name, outcome=error.outcome, message=f"{place}{error.message}", remedy=error.remedy
            )
        for entry, first in self._chosen[1]:
            line = self._line(entry)
            failures[line] = AssetFailure(
                asset=line,  # not by its asset: that of the first line may be done
                outcome=InvalidManifestError.outcome,
                message=f"It asks for the asset of line {first.line} in another language or format.",
                remedy="Put one of the two into another list.",
            )
        planning.require_some_left(failures, len(self.entries) + len(self._chosen[1]))
        return failures

    def _line(self, entry: Entry) -> str:
        return f"Line {entry.line} of {self._name}"

    @property
    def _name(self) -> str:
        return public_name(self.manifest)

    @property
    def _results(self) -> str:
        return manifests.results_location(self.manifest, self._part)

    @property
    def _part(self) -> str | None:
        """The range of dates, as part of a file name."""
        if self.since or self.until:
            return f"{self.since or ''}_{self.until or ''}"
        return None

    @cached_property
    def _transcripts(self) -> Destination:
        return planning.destination_of(self.destination, self.vod_conn_id)

    def _done(self, entries: Sequence[Entry], *, check: bool = True) -> dict[str, ExtractedAudio]:
        known = planning.known_audio(
            [
                Wanted(
                    asset=entry.asset,
                    audio_format=self._format(entry),
                    options=self._options(entry),
                )
                for entry in entries
            ],
            self.register,
            self.engine,
            self.destination,
            self.vod_conn_id,
            check=check,
        )
        return {public_name(asset): record for asset, record in known.done.items()}

    def _wishes(self, entry: Entry) -> tuple[Any, ...]:
        """What tells audio of one asset apart. VOD chooses no track by its language."""
        return self._format(entry), () if self._by_vod else self._options(entry)

    @cached_property
    def _by_vod(self) -> bool:
        from vod.hooks import VodHook  # loads an HTTP client: not to parse a DAG file

        return (self.engine or VodHook(self.vod_conn_id).settings.engine) == "vod"

    @staticmethod
    def _options(entry: Entry) -> tuple[tuple[str, Any], ...]:
        return tuple(FfmpegOptions(language=entry.language or None).changed.items())

    def _format(self, entry: Entry) -> str:
        return entry.audio_format or self.audio_format

    def _arguments(self, entry: Entry) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "audio_format": self._format(entry),
            "language": entry.language,
            "destination": self.destination,
        }


def _chunks(elements: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(elements)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk


def _may_be_shown(asset: str, allowed: AllowedLocations) -> bool:
    """Whether a message may repeat an asset of a list: the file may be another one than its author thinks."""
    try:
        location = parse_location(asset)
        allowed.check(location)
    except InvalidInputError:
        return False
    return location.path is None or location.path.is_absolute()


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
        "reason": summary_of(record) if isinstance(record, AssetFailure) else "",
    }
