"""``vod`` or ``python -m vod``: what this package does without Airflow, and what it needs besides."""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from vod import __version__


@dataclass(frozen=True)
class Command:
    """One command.

    :param module: Where it is; imported only when it is wanted.
    :param text: What it does.
    :param examples: Arguments that show how it is used.
    :param run: Its function in the module.
    """

    module: str
    text: str
    examples: tuple[str, ...]
    run: str = "run"


COMMANDS = {
    "extract": Command(
        "vod.commands.extract",
        "extract the audio of videos with ffmpeg",
        (
            "talk.mp4 --output audio",
            "talk.mp4 film.mkv --output audio --format AAC --language de",
            "https://example.com/talk.mp4 --output s3://aws_default@bucket/audio",
        ),
    ),
    "transcribe": Command(
        "vod.commands.transcribe",
        "transcribe audio and video files",
        ("talk.mp4", "talk.mp4 --model small --language de --format vtt"),
    ),
    "models": Command(
        "vod.commands.models",
        "which speech models are here; fetch or check them",
        ("list", "fetch small", "check"),
    ),
    "captions": Command(
        "vod.commands.captions",
        "write or check captions of transcripts",
        ("audio/talk.en.json --format vtt",),
    ),
    "check": Command(
        "vod.commands.check",
        "what reads files here, its limits and known vulnerabilities",
        ("", "--ffmpeg /opt/ffmpeg/bin/ffmpeg"),
    ),
    "estimate": Command(
        "vod.commands.estimate",
        "say what videos would come to: hours, time, money",
        ("--list archive.csv", "--from-date 2024-03-01 --to-date 2024-03-31"),
    ),
    "cleanup": Command(
        "vod.commands.cleanup",
        "remove old state from the database of Airflow",
        ("--older-than 365",),
    ),
    "standin": Command(
        "vod.standin",
        "serve a stand-in for Huawei Cloud VOD",
        ("--data /tmp/standin",),
        run="serve",
    ),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\nTry: {self.prog} --help\n")


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    program = "vod" if Path(sys.argv[0]).stem == "vod" else "python -m vod"
    parser = _Parser(prog=program, description="Video libraries into audio and text.")
    parser.add_argument("--version", action="version", version=f"vod {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    wanted = (sys.argv[1:] if arguments is None else arguments)[:1]
    for name, command in COMMANDS.items():
        examples = "\n".join(f"  {program} {name} {example}".rstrip() for example in command.examples)
        options = commands.add_parser(
            name,
            help=command.text,
            description=command.text,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # A command pays only for what it imports itself.
        if name in wanted:
            loaded = importlib.import_module(command.module)
            loaded.add_arguments(options)
            options.set_defaults(run=getattr(loaded, command.run))
    given = parser.parse_args(arguments)
    return int(given.run(given))


if __name__ == "__main__":
    sys.exit(main())
