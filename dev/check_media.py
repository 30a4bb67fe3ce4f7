"""`make check-media MEDIA=dir`: the local engine over a folder of any files, and what came of each."""

from __future__ import annotations

import collections
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

from vod.batch.ledger import Ledger, LedgerPages
from vod.engines.ffmpeg import FfmpegEngine
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.locations import ANYWHERE
from vod.records import ExtractedAudio, Record
from vod.storage.destination import Destination

TIME_LIMIT = 60.0
"""Seconds for one file."""


def files_in(folders: list[str]) -> list[str]:
    """All files below, without following links out of them."""
    return sorted(
        str(Path(root, name).absolute())
        for folder in folders
        for root, _, names in os.walk(folder)
        for name in names
    )


def line(record: Record) -> str:
    if not isinstance(record, ExtractedAudio):
        return f"{record.outcome:18} {record.asset}: {getattr(record, 'message', '')}"
    facts = f"{record.duration} s, {record.channels} ch, {record.sample_rate} Hz"
    notes = [
        *(["copied"] if record.copied else []),
        *(["silent"] if record.silent else []),
        *([f"offset {record.offset} s"] if record.offset else []),
        *([f"{record.corrupt_frames} corrupt frames"] if record.corrupt_frames else []),
        *record.warnings,
    ]
    return f"{record.outcome:18} {record.asset}: {', '.join([facts, *notes])}"


def main(folders: list[str]) -> int:
    """Returns 0 when every file ended in an outcome of its own kind, within its time."""
    assets = files_in([folder for folder in folders if folder])
    if not assets:
        print('No files. Name a folder: make check-media MEDIA="/path/to/folder"')
        return 2
    logging.disable(logging.WARNING)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="check-media-") as out:
        engine = FfmpegEngine(
            None,
            Ledger(LedgerPages(None), {}),
            "MP3",
            Destination(out, allowed=ANYWHERE),
            options=FfmpegOptions(timeout=TIME_LIMIT),
            allowed=ANYWHERE,
            on_record=lambda record: print(line(record), flush=True),
        )
        outcomes = engine.start(assets)
        left = [path for path in Path(out).iterdir() if path.suffix != ".mp3"]
    print()
    for outcome, count in collections.Counter(record.outcome for record in outcomes.values()).most_common():
        print(f"{count:6}  {outcome}")
    print(f"{len(assets):6}  files in {time.monotonic() - began:.1f} s")
    untyped = [asset for asset, record in outcomes.items() if record.outcome == "error"]
    for asset in untyped:
        print(f"NOT TYPED: {asset}")
    for path in left:
        print(f"LEFT BEHIND: {path}")
    return int(bool(untyped or left))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
