"""``python -m vod models``: which speech models are here, fetch one, check that it can be loaded."""

from __future__ import annotations

import argparse
import logging
import sys

from vod.errors import VodError
from vod.speech import SpeechOptions, models
from vod.speech.engines.whisper import WhisperEngine


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a (sub)command."""
    parser.add_argument("action", choices=("list", "fetch", "check"))
    parser.add_argument("names", nargs="*", metavar="MODEL", help="to fetch or check (those that are here)")


def run(options: argparse.Namespace) -> int:
    """Prints a line for each model; returns 0 if all of them are there, and whole."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    bad = 0
    for name in options.names or models.installed():
        try:
            folder = models.resolve_model(name)
            said = f"{folder}, {(folder / 'model.bin').stat().st_size / 1e6:.0f} MB"
            if options.action == "check":
                engine = WhisperEngine()
                engine.check(SpeechOptions(model=name))
                engine.close()
                said += f", can be loaded, revision {models.revision(folder)}"
        except VodError as error:
            bad, said = 1, str(error)
        sys.stdout.write(f"{name}: {said}\n")
    return bad
