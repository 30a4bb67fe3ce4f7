"""``python -m vod transcribe``: speech recognition without a scheduler."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from vod.errors import VodError
from vod.library.transcripts import TranscriptFiles
from vod.locations import ANYWHERE
from vod.speech import WRITERS, SpeechOptions, write
from vod.speech.engines import SpeechEngine, Watch, engine
from vod.speech.transcribing import Teller, doubts, fingerprint_of, transcribe
from vod.storage.files import Destination
from vod.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a (sub)command."""
    usual = SpeechOptions()
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="audio or video")
    parser.add_argument("--model", default=usual.model, help="(%(default)s)")
    parser.add_argument("--language", default="", metavar="CODE", help="recognised when omitted")
    parser.add_argument("--task", default=usual.task, choices=("transcribe", "translate"))
    parser.add_argument("--multilingual", action="store_true", help="recognise the language of every piece")
    parser.add_argument("--device", default=usual.device, choices=("auto", "cpu", "cuda"))
    parser.add_argument("--hotwords", default="", help="names and words to expect")
    parser.add_argument("--format", default="txt,vtt,srt", help=f"of {', '.join(WRITERS)} (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder (that of each file)")


def run(options: argparse.Namespace) -> int:
    """Transcribes with parsed options; returns 0 only if all succeeded."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    names = ("model", "language", "task", "multilingual", "device", "hotwords")
    speech = SpeechOptions(**{name: getattr(options, name) for name in names})
    formats = [name for name in options.format.split(",") if name]
    if unknown := [name for name in formats if name not in WRITERS]:
        sys.stderr.write(f"There is no format {unknown[0]!r}. Choose from: {', '.join(WRITERS)}.\n")
        return 2
    cancelled = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: cancelled.set())
    hearing = engine(speech.engine)
    bad = 0
    try:
        hearing.check(speech)
        for file in options.files:
            try:
                watch = Watch(cancelled=cancelled.is_set)
                said = _transcribe(file.absolute(), hearing, speech, formats, options.output, watch)
                sys.stdout.write(f"{printable(said)}\n")
            except VodError as error:
                bad = 1
                sys.stdout.write(f"{printable(f'{file}: {error}')}\n")
            if cancelled.is_set():
                return 130
    except VodError as error:
        sys.stderr.write(f"{printable(str(error))}\n")
        return 2
    finally:
        hearing.close()
    return bad


def _transcribe(
    file: Path,
    hearing: SpeechEngine,
    options: SpeechOptions,
    formats: list[str],
    output: Path | None,
    watch: Watch,
) -> str:
    """Transcribe a file, or take the transcript that is there; what there is to say about it."""
    files = TranscriptFiles(Destination(str((output or file.parent).absolute()), allowed=ANYWHERE), str(file))
    status = file.stat() if file.exists() else None
    version = f"{file} {status.st_size} {status.st_mtime_ns}" if status else ""
    fingerprint = fingerprint_of(version, options, hearing.revision(options))
    found = files.find(fingerprint)
    done = files.heard(fingerprint)
    teller = Teller(file.name, None, done[-1].end if done else 0.0, print_line)
    spoken = (
        found[1]
        if found
        else transcribe(
            file,
            hearing,
            options,
            fingerprint=fingerprint,
            done=done,
            keep=lambda passages: files.keep(fingerprint, passages),
            watch=Watch(heard=teller.heard, cancelled=watch.cancelled),
        )
    )
    name = found[0] if found else files.name(spoken, overwrite=False)
    uris = [files.write(f"{name}.{kind}", write(spoken, kind)) for kind in formats if kind != "json"]
    uris.append(files.write(f"{name}.json", spoken.to_json()))
    files.forget(fingerprint)
    there = (
        "there already" if found else f"{len(spoken.text.split())} words, {spoken.language or 'no speech'}"
    )
    return " ".join([f"{file}: {there}: {', '.join(uris)}.", *doubts(spoken)])


def print_line(text: str) -> None:
    """Say on the terminal how far it is."""
    sys.stderr.write(f"{printable(text)}\n")
