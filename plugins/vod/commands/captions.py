"""``python -m vod captions``: other captions from transcripts in JSON, without recognising anything again."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

from vod.commands.options import add_formats, path_here
from vod.errors import InvalidInputError
from vod.speech.captions import write
from vod.speech.layout import PROFILES, Profile, broken_rules, cues, profile_for
from vod.speech.transcription import Transcription
from vod.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a (sub)command."""
    parser.add_argument("files", nargs="+", type=path_here, metavar="FILE.json", help="transcripts in JSON")
    add_formats(parser, "vtt")
    parser.add_argument("--profile", choices=list(PROFILES), help="default: the usual one of the language")
    for rule in fields(Profile):
        parser.add_argument(
            f"--{rule.name}", type=int if rule.name in {"cells", "lines"} else float, help="of the profile"
        )
    parser.add_argument("--output", type=path_here, metavar="FOLDER", help="default: beside each transcript")
    parser.add_argument(
        "--check", action="store_true", help="say which rules the captions break; write nothing"
    )


def run(options: argparse.Namespace) -> int:
    """Writes or checks captions; returns 0 if all could be read and, with --check, keep the rules."""
    bad = False
    taken = {file.resolve(): file for file in options.files}
    for file in list(taken.values()):
        try:
            said = Transcription.from_json(file.read_bytes())
            profile = _profile(options, said.language)
            if options.check:
                lines = [f"{file}: {problem}" for problem in broken_rules(cues(said, profile), profile)]
                bad = bad or bool(lines)
            else:
                lines = [str(path) for path in _write(file, said, profile, options, taken)]
        except (OSError, ValueError, InvalidInputError) as error:
            bad = True
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            sys.stderr.write(f"{printable(f'{file}: {reason}')}\n")
        else:
            sys.stdout.write("".join(f"{line}\n" for line in lines))
    return int(bad)


def _write(
    file: Path, said: Transcription, profile: Profile, options: argparse.Namespace, taken: dict[Path, Path]
) -> list[Path]:
    """Writes captions; returns their paths.

    :param taken: What this run reads and has written, by path, and of which transcript: never overwritten.
    """
    folder = options.output or file.parent
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{file.stem}.{name}" for name in dict.fromkeys(options.format)]
    for path in paths:
        if owner := taken.get(path.resolve()):
            raise InvalidInputError(
                f"This would overwrite {path}, which belongs to {owner}.", remedy="Name another --output."
            )
        path.write_text(write(said, path.suffix[1:], profile), encoding="utf-8", newline="\n")
        taken[path.resolve()] = file
    return paths


def _profile(options: argparse.Namespace, language: str) -> Profile:
    profile = PROFILES[options.profile] if options.profile else profile_for(language)
    given = {rule.name: getattr(options, rule.name) for rule in fields(Profile)}
    return replace(profile, **{name: value for name, value in given.items() if value is not None})
