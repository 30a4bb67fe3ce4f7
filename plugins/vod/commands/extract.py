"""``python -m vod extract``: the ffmpeg engine of the operator, without a scheduler."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vod.batch.ledger import Ledger, LedgerPages
from vod.commands.bar import Bar
from vod.engines.ffmpeg import FfmpegEngine
from vod.engines.ffmpeg_options import GAPS, TRUNCATED, FfmpegOptions
from vod.errors import InvalidInputError, VodError
from vod.locations import ANYWHERE, is_asset_id
from vod.records import LOCAL_AUDIO_FORMATS, AssetFailure, ExtractedAudio
from vod.storage.destination import Destination
from vod.text import printable

if TYPE_CHECKING:
    from vod.hooks import VodHook
    from vod.records import Record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a (sub)command."""
    usual = FfmpegOptions()
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="path, URL or VOD asset id")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder, or URL such as s3://bucket/audio"
    )
    parser.add_argument(
        "--format", default="MP3", choices=LOCAL_AUDIO_FORMATS, type=str.upper, help="(%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON record a line, failures too")
    parser.add_argument("--language", metavar="CODE", help="audio track by language, ISO 639: de, ger")
    parser.add_argument("--track", metavar="N|WORD", help="by number from 0, all, mix, speech, original …")
    parser.add_argument("--start", type=float, default=usual.start, metavar="SECONDS")
    parser.add_argument("--duration", type=float, metavar="SECONDS")
    parser.add_argument("--bit-rate", type=int, metavar="BIT/S")
    parser.add_argument("--sample-rate", type=int, metavar="HZ")
    parser.add_argument("--channels", type=_channels, metavar="N|left|right|center", help="mix, or take one")
    parser.add_argument("--loudness", type=float, metavar="LUFS", help="normalise (EBU R128), say to -23")
    parser.add_argument("--speech", action="store_true", help="also a 16 kHz mono WAV for speech recognition")
    parser.add_argument("--reencode", action="store_true", help="encode also what could be copied")
    parser.add_argument(
        "--gaps", choices=GAPS, default=usual.gaps, help="what becomes of gaps in the sound (%(default)s)"
    )
    parser.add_argument(
        "--truncated",
        choices=TRUNCATED,
        default=usual.truncated,
        help="when the end is missing (%(default)s)",
    )
    parser.add_argument("--strict", action="store_true", help="fail when frames cannot be decoded")
    parser.add_argument("--keep-tags", action="store_true", help="take over all tags of the source")
    parser.add_argument("--force", action="store_true", help="do again what is there already")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="for one input")
    parser.add_argument("--processes", type=int, metavar="N", help="at a time (one a core)")
    parser.add_argument("--connection", default="vod_default", help="for VOD asset ids (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Extracts with parsed options; returns the exit code, 0 only if all succeeded."""
    with _Records() as records:
        try:
            return _run(options, records)
        except BrokenPipeError:  # nobody reads on
            return 128 + signal.SIGPIPE


def _run(options: argparse.Namespace, records: _Records) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    assets = list(dict.fromkeys(map(_asset, options.inputs)))
    bar = Bar(len(assets)) if sys.stderr.isatty() else None
    # Each failure is in the output already.
    logging.getLogger("vod.engines.ffmpeg").setLevel(logging.ERROR)

    def tell(record: Record) -> None:
        if bar:
            bar.clear()
        records.write(json.dumps(_full(record)) if options.json else printable(_sentence(record)))
        if bar:
            bar.done(record.asset)

    try:
        engine = _engine(options, assets, tell, bar)
    except VodError as error:
        tell(AssetFailure.from_error(error.asset or "", error))
        return 2
    interrupted = threading.Event()

    def stop(*_: object) -> None:
        interrupted.set()
        engine.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    try:
        outcomes = engine.start(assets)
    except InvalidInputError as error:
        tell(AssetFailure.from_error(error.asset or "", error))
        return 2
    if bar:
        bar.clear()
    if interrupted.is_set():
        return 130
    return int(not all(isinstance(outcome, ExtractedAudio) for outcome in outcomes.values()))


def _engine(options: argparse.Namespace, assets: list[str], tell: Any, bar: Bar | None) -> FfmpegEngine:
    asked = {
        name: value for name, value in vars(options).items() if name in FfmpegOptions.__dataclass_fields__
    }
    if not options.output:
        raise InvalidInputError("The output has no name.", remedy="Name a folder, . for this one.")
    output = options.output if "://" in options.output else str(Path(options.output).absolute())
    destination = Destination(output, allowed=ANYWHERE)
    destination.check()
    return FfmpegEngine(
        _hook(options.connection) if any(map(_in_vod, assets)) else None,
        Ledger(LedgerPages(None), {}),  # only what is at the destination is remembered
        options.format,
        destination,
        allowed=ANYWHERE,
        options=FfmpegOptions(**asked),
        force=options.force,
        on_record=tell,
        on_progress=bar.progress if bar else None,
    )


class _Records:
    """Standard output, for the records alone: what libraries print goes to standard error."""

    def __enter__(self) -> _Records:
        self._usual = sys.stdout
        self._file: int | None = None
        try:
            self._file = os.dup(sys.stdout.fileno())
            self._usual.flush()
            os.dup2(sys.stderr.fileno(), self._usual.fileno())
        except (OSError, ValueError):  # not a file, as in a notebook
            sys.stdout = sys.stderr
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout = self._usual
        if self._file is not None:
            os.dup2(self._file, self._usual.fileno())
            os.close(self._file)

    def write(self, text: str) -> None:
        """Write a line at once, whatever the terminal can show."""
        encoding = self._usual.encoding or "utf-8"
        line = f"{text}\n".encode(encoding, "backslashreplace")
        if self._file is None:
            self._usual.write(line.decode(encoding))
            self._usual.flush()
            return
        while line:
            line = line[os.write(self._file, line) :]


def _asset(text: str) -> str:
    """What an argument names: a URL, a file if there is one, else an asset of VOD if it looks like one."""
    if "://" in text or (is_asset_id(text) and not Path(text).exists()):
        return text
    return str(Path(text).absolute())


def _in_vod(asset: str) -> bool:
    return is_asset_id(asset) or asset.startswith("vod://")


def _hook(connection: str) -> VodHook:
    from vod.hooks import VodHook

    return VodHook(connection)


def _channels(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _full(record: Record) -> dict[str, Any]:
    """The record; what every line has comes first."""
    said = {"message": record.message} if isinstance(record, AssetFailure) else {}
    return {"asset": record.asset, "outcome": record.outcome, **said, **record.to_json()}


def _sentence(record: Record) -> str:
    if not isinstance(record, ExtractedAudio):
        return str(record)
    how = "there already" if record.reused else "copied" if record.copied else "encoded"
    silent = ", silent" if record.silent else ""
    return " ".join([f"{record.asset}: {record.uri}, {record.duration} s, {how}{silent}.", *record.warnings])
