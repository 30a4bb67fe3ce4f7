"""``python -m vod``: ``extract`` without a scheduler, ``captions``, ``check``, ``cleanup``, ``standin``."""

from __future__ import annotations

import argparse
import importlib
import sys

_COMMANDS = {
    "extract": ("vod.commands.extract", "run", "extract the audio of videos with ffmpeg"),
    "transcribe": ("vod.commands.transcribe", "run", "transcribe audio and video files"),
    "models": ("vod.commands.models", "run", "which speech models are here; fetch or check them"),
    "captions": ("vod.commands.captions", "run", "write or check captions of transcripts"),
    "check": (
        "vod.commands.check",
        "run",
        "what reads files here, its limits and known vulnerabilities",
    ),
    "cleanup": ("vod.commands.cleanup", "run", "remove old state from the database of Airflow"),
    "standin": ("vod.standin", "serve", "serve a stand-in for Huawei Cloud VOD"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m vod", description="Video libraries into audio and text.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = (sys.argv[1:] if arguments is None else arguments)[:1]
    for name, (module, run, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        # A command pays only for what it imports itself.
        if name in wanted:
            loaded = importlib.import_module(module)
            loaded.add_arguments(command)
            command.set_defaults(run=getattr(loaded, run))
    options = parser.parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
