"""Lists of assets in files: what is to be extracted, and what became of it.

A manifest is a CSV file with a header (``.csv``), JSON Lines (``.jsonl``) or a plain list of assets
(``.txt``). It is read line by line, never as a whole.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import PurePosixPath
from stat import S_ISDIR
from typing import IO, Any

from airflow.sdk.configuration import conf

from vod.errors import InvalidInputError, VodError
from vod.locations import AllowedLocations, Kind, Location, parse_location, public_name
from vod.media.errors import TooLargeError, UnreadableMediaError
from vod.records import AUDIO_FORMATS
from vod.storage.destination import Destination, not_written, replacing
from vod.storage.sources import local_copy

COLUMNS = ("asset", "date", "language", "format", "priority")
"""Columns of a manifest; only the first is needed. Other columns are ignored."""

RESULT_COLUMNS = (*COLUMNS, "audio", "transcript", "status", "reason")
"""Columns of a result manifest, which can be given back as a manifest."""

ENDINGS = (".csv", ".jsonl", ".txt")
"""Endings of manifests: CSV with a header, JSON Lines, one asset a line."""

MAX_BYTES = 64 << 20
"""Bytes of a manifest at most, when the setting ``[vod] max_manifest_bytes`` says no other number."""

_RESULTS = ".results.csv"
_MAX_LINE = 100_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class InvalidManifestError(InvalidInputError):
    """The list cannot be worked on as it is; nothing was submitted."""

    outcome = "invalid_manifest"


class ResultsNotWritableError(InvalidInputError):
    """The results of a list are written beside it, and its folder or bucket does not take them."""

    outcome = "results_not_writable"
    remedy = "Put the list into a folder or bucket that this worker may write to, or let it write there."


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One asset of a manifest.

    :param line: Where it stands, counted from 1.
    :param date: The day that it belongs to, in UTC.
    :param language: Language spoken, ISO 639.
    :param audio_format: ``MP3`` or ``AAC``; the task's when ``None``.
    :param priority: Higher is earlier.
    """

    asset: str = field(repr=False)
    line: int
    date: date | None = None
    language: str | None = None
    audio_format: str | None = None
    priority: int = 0


def read(location: str, allowed: AllowedLocations) -> Iterator[Entry]:
    """Read a manifest, in its order.

    :param location: Absolute path, or a URL that Airflow's ``ObjectStoragePath`` knows, that ends in one of
        :data:`ENDINGS`.
    :param allowed: Where it may be.
    :raises InvalidManifestError: there is no such file, or a line of it cannot be read. The message names the
        line, and never its contents: the file may be another one than its author thinks.
    :raises vod.locations.LocationNotAllowedError: it may not be read.
    :raises vod.storage.errors.StorageError: the object store does not deliver it.
    """
    ending = PurePosixPath(location).suffix.lower()
    if ending not in ENDINGS:
        raise InvalidManifestError(
            "The name of a list ends in .csv, .jsonl or .txt.",
            asset=public_name(location),
            remedy="Rename it.",
        )
    rows = {".csv": _csv_rows, ".jsonl": _json_rows, ".txt": _plain_rows}[ending]
    name = public_name(location)
    empty = True
    with _opened(location, allowed) as file:
        for line, row in rows(name, _lines(name, file)):
            empty = False
            yield _entry(name, line, row)
    if empty:
        raise InvalidManifestError(
            f"The list {name} names no assets.", remedy="Put one asset on each line, or choose another."
        )


def results_location(manifest: str, part: str | None = None) -> str:
    """Where the result manifest of a manifest is: beside it. That of a whole result manifest is itself.

    ``list.txt`` has ``list.txt.results.csv``: beside it may be a ``list.csv``.

    :param part: Name of the part of the list that a run works on, such as its date.
    """
    folder, slash, name = manifest.rpartition("/")
    stem = name.removesuffix(_RESULTS if name.endswith(_RESULTS) else ".csv")
    if part:
        stem = f"{stem.removesuffix(f'.{part}')}.{part}"
    return f"{folder}{slash}{stem}{_RESULTS}"


def check_results(location: str, allowed: AllowedLocations) -> None:
    """Make sure that a result manifest can be written, by a small file beside it that is removed again.

    :param allowed: Where it may be.
    :raises ResultsNotWritableError: its folder or bucket does not take it.
    :raises vod.locations.LocationNotAllowedError: it may not be there.
    :raises VodError: nobody can say now: the disk is full or out of order, the store does not answer.
    """
    folder, _, _ = location.rpartition("/")
    destination, path = Destination(folder or "/", allowed=allowed), parse_location(location).path
    try:
        destination.check()
    except VodError as error:
        if error.retryable:
            raise
        raise _not_taken(error) from error
    if path is not None:
        with _system_errors(location), suppress(FileNotFoundError):
            if S_ISDIR(path.stat().st_mode):  # the system says so, too, when the name is too long
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def write_results(location: str, allowed: AllowedLocations, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a result manifest; readers see the old file or the whole new one.

    Cells that a spreadsheet would take for a formula begin with an apostrophe, which :func:`read` removes.

    :param allowed: Where it may be.
    :param rows: With the keys of :data:`RESULT_COLUMNS`; what is missing stays empty.
    :raises ResultsNotWritableError: its folder does not take it.
    :raises vod.media.NoSpaceError: the disk is full.
    :raises vod.storage.errors.StorageError: the object store does not take it.
    """
    folder, _, name = location.rpartition("/")
    with (
        _system_errors(location),
        Destination(folder or "/", allowed=allowed).writing(name) as path,
        replacing(path) as part,
        part.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, RESULT_COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: _to_cell(value) for name, value in row.items()} for row in rows)


@contextmanager
def _system_errors(location: str) -> Iterator[None]:
    """Put what the system says about a result manifest into our own terms."""
    try:
        yield
    except OSError as error:
        found = not_written(public_name(location), error)
        raise (found if found.retryable else _not_taken(found)) from error


def _not_taken(error: VodError) -> ResultsNotWritableError:
    return ResultsNotWritableError(f"The results of a list are written beside it. {error.message}")


@contextmanager
def _opened(location: str, allowed: AllowedLocations) -> Iterator[IO[bytes]]:
    parsed = parse_location(location)
    if parsed.kind not in (Kind.FILE, Kind.STORAGE) or (parsed.path and not parsed.path.is_absolute()):
        raise InvalidManifestError(
            f"The list {parsed.shown!r} is not an absolute path.",
            remedy="Give the whole path, or a URL such as s3://bucket/list.csv.",
        )
    limit = conf.getint("vod", "max_manifest_bytes", fallback=MAX_BYTES)
    with ExitStack() as opened:
        try:
            path = opened.enter_context(local_copy(location, None, max_bytes=limit, allowed=allowed))
            too_large = path.stat().st_size > limit
            file = opened.enter_context(path.open("rb"))
        except FileNotFoundError as error:
            raise _missing(parsed) from error
        except IsADirectoryError as error:
            raise InvalidManifestError(
                f"{parsed.shown} is a folder.", remedy="Give the file in it that holds the list."
            ) from error
        except TooLargeError:
            too_large = True
        except UnreadableMediaError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise _missing(parsed) from error
            raise InvalidManifestError(f"{parsed.shown}: {error.message}", remedy=error.remedy) from error
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InvalidManifestError(
                f"The list {parsed.shown} cannot be read ({reason}).", remedy="Let the worker's user read it."
            ) from error
        if too_large:
            raise InvalidManifestError(
                f"The list {parsed.shown} has more than {limit} bytes.",
                remedy="Split it, or raise the setting [vod] max_manifest_bytes of Airflow's configuration.",
            )
        yield file


def _missing(location: Location) -> InvalidManifestError:
    return InvalidManifestError(
        f"There is no list {location.shown}.", remedy="Check the name, and that the worker sees it."
    )


def _lines(location: str, file: IO[bytes]) -> Iterator[str]:
    number = 0
    text = io.TextIOWrapper(
        file,
        encoding="utf-8-sig",  # spreadsheets put a BOM in front
        errors="surrogateescape",  # it decodes many lines at once, and would not say which of them is wrong
        newline="",
    )
    while True:
        number += 1
        line = text.readline(_MAX_LINE)
        if not line:
            text.detach()
            return
        try:
            line.encode()
        except UnicodeEncodeError:
            raise InvalidManifestError(
                f"Line {number} of {location} is not UTF-8.", remedy="Save the list as UTF-8."
            ) from None
        if len(line) == _MAX_LINE or "\0" in line:
            raise _wrong(location, number, "This is not text with one asset a line.")
        yield line


def _plain_rows(_: str, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, {"asset": line}


def _json_rows(location: str, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise _wrong(location, number, "This is not JSON.") from None
        if isinstance(row, str):
            row = {"asset": row}
        if not isinstance(row, dict) or "asset" not in row:
            raise _wrong(location, number, 'Each line must be an object with the key "asset".')
        yield number, row


def _csv_rows(location: str, lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    header = next(lines, "")
    delimiter = next((mark for mark in ";\t" if mark in header), ",")
    names = [name.strip().lower() for name in next(csv.reader([header], delimiter=delimiter), [])]
    if names and "asset" not in names:
        raise InvalidManifestError(
            f"The first line of the list {location} names no column 'asset'.",
            remedy=f"Name the columns in its first line: {', '.join(COLUMNS)}; only asset is needed.",
        )
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num + 1, dict(zip(names, map(_from_cell, cells), strict=False))
    except csv.Error as error:
        raise _wrong(location, reader.line_num + 1, f"This is not CSV ({error}).") from error


def _entry(location: str, line: int, row: Mapping[str, Any]) -> Entry:
    given = {name: _text(row[name]) for name in COLUMNS if row.get(name) is not None}
    asset, audio_format = given.get("asset", ""), given.get("format", "").upper()
    if not asset:
        raise _wrong(location, line, "It names no asset.")
    if not asset.isprintable():
        raise _wrong(location, line, "The name of the asset has control characters in it.")
    if audio_format and audio_format not in AUDIO_FORMATS:
        raise _wrong(location, line, f"The column format holds none of {', '.join(AUDIO_FORMATS)}.")
    try:
        day = _day(given["date"]) if given.get("date") else None
        priority = int(given.get("priority") or 0)
    except ValueError:  # it repeats the value
        raise _wrong(
            location, line, "A date is written 2026-01-31, and a priority is a whole number."
        ) from None
    return Entry(
        asset=asset,
        line=line,
        date=day,
        language=given.get("language") or None,
        audio_format=audio_format or None,
        priority=priority,
    )


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _to_cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula, by an apostrophe before what could begin one."""
    return f"'{value}" if isinstance(value, str) and value.lstrip("'").startswith(_FORMULA) else value


def _from_cell(text: str) -> str:
    """What :func:`_to_cell` was given."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULA) else text


def _day(text: str) -> date:
    if len(text) == 10:
        return date.fromisoformat(text)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment.astimezone(timezone.utc) if moment.tzinfo else moment).date()


def _wrong(location: str, line: int, sentence: str) -> InvalidManifestError:
    return InvalidManifestError(f"Line {line} of {location}: {sentence}", remedy="Correct it and run again.")
