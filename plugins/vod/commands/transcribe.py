"""``python -m vod transcribe``: speech recognition without a scheduler."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

from vod import media
from vod.commands.bar import Bar
from vod.commands.options import add_formats, path_here
from vod.errors import VodError
from vod.library.transcripts import TranscriptFiles
from vod.locations import ANYWHERE, file_stem
from vod.speech import SpeechOptions, script
from vod.speech.engines import SpeechEngine, Watch, engine
from vod.speech.options import Channels
from vod.speech.transcribing import Teller, doubts, fingerprint_of, transcribe
from vod.storage.destination import Destination
from vod.storage.models import models_folder
from vod.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a (sub)command."""
    usual = SpeechOptions()
    parser.add_argument("files", nargs="+", type=path_here, metavar="FILE", help="audio or video")
    parser.add_argument("--model", default=usual.model, help="(%(default)s)")
    parser.add_argument("--language", default="", metavar="CODE", help="recognised when omitted")
    parser.add_argument("--task", default=usual.task, choices=("transcribe", "translate"))
    parser.add_argument("--multilingual", action="store_true", help="recognise the language of every piece")
    parser.add_argument("--device", default=usual.device, choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--channels", default=usual.channels, choices=get_args(Channels), help="(%(default)s)"
    )
    parser.add_argument("--models", metavar="DIR", help="folder or URL that holds models by name")
    parser.add_argument("--hotwords", default="", help="names and words to expect")
    add_formats(parser, "txt", "vtt", "srt")
    parser.add_argument("--output", type=path_here, metavar="DIR", help="folder (that of each file)")


def run(options: argparse.Namespace) -> int:
    """Transcribes with parsed options; returns 0 only if all succeeded."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    names = ("model", "language", "task", "multilingual", "device", "hotwords", "channels")
    cancelled = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: cancelled.set())
    bad = 0
    bar = Bar(len(options.files)) if sys.stderr.isatty() else None
    with ExitStack() as closing:
        try:
            speech = SpeechOptions(**{name: getattr(options, name) for name in names})
            script.check(speech.language)
            folder = models_folder(options.models, speech.model) if options.models else None
            hearing = engine(speech.engine, models=folder)
            closing.callback(hearing.close)
            hearing.check(speech)
        except VodError as error:
            sys.stderr.write(f"{printable(str(error))}\n")
            return 2
        for file in options.files:
            watch = Watch(heard=_teller(file, bar), cancelled=cancelled.is_set)
            try:
                said = _transcribe(file.absolute(), hearing, speech, options.format, options.output, watch)
            except VodError as error:
                bad, said = 1, str(error) if error.asset else f"{file}: {error}"
            if bar:
                bar.clear()
            sys.stdout.write(f"{printable(said)}\n")
            sys.stdout.flush()
            if cancelled.is_set():
                return 130
            if bar:
                bar.done(str(file))
    if bar:
        bar.clear()
    return bad


def _teller(file: Path, bar: Bar | None) -> Callable[[float], None]:
    """What says how far a file is: a bar on a terminal, else a line now and then."""
    try:
        duration = media.probe(file.absolute()).duration
    except VodError:  # the recognition says why
        duration = None
    if bar is None:
        return Teller(file.name, duration, 0.0, print_line).heard
    first: list[tuple[float, float]] = []

    def heard(seconds: float) -> None:
        first.append((time.monotonic(), seconds))
        del first[1:]
        took, done = time.monotonic() - first[0][0], seconds - first[0][1]
        speed = done / took if took > 1 else None
        whole = max(duration or 0.0, seconds, 0.1)
        left = (whole - seconds) / speed if speed else None
        bar.progress(str(file), media.Progress(seconds / whole if duration else 0.0, speed, left))

    return heard


def _transcribe(
    file: Path,
    hearing: SpeechEngine,
    options: SpeechOptions,
    formats: list[str],
    output: Path | None,
    watch: Watch,
) -> str:
    """Transcribe a file, or take the transcript that is there; what there is to say about it."""
    folder = Destination(str((output or file.parent).absolute()), allowed=ANYWHERE)
    files = TranscriptFiles(folder, file_stem(str(file)))
    status = file.stat() if file.exists() else None
    version = f"{file} {status.st_size} {status.st_mtime_ns}" if status else ""
    fingerprint = fingerprint_of(version, options, hearing.revision(options))
    found = files.find(fingerprint)
    done = files.heard(fingerprint)
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
            watch=watch,
        )
    )
    name = found[0] if found else files.name(spoken, options.language, overwrite=False)
    uris = files.put(name, spoken, formats)
    files.forget(fingerprint)
    there = (
        "there already" if found else f"{len(spoken.text.split())} words, {spoken.language or 'no speech'}"
    )
    return " ".join([f"{file}: {there}: {', '.join(uris.values())}.", *doubts(spoken)])


def print_line(text: str) -> None:
    """Say on the terminal how far it is."""
    sys.stderr.write(f"{printable(text)}\n")
