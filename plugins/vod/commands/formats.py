"""The option ``--format`` of what writes transcripts and captions."""

from __future__ import annotations

import argparse

from vod.speech.captions import WRITERS


def add_formats(parser: argparse.ArgumentParser, usual: str) -> None:
    """Adds the option; its value is a list of keys of :data:`vod.speech.captions.WRITERS`, or ``None``.

    :param usual: What is written without it, separated by commas; the help says so.
    """
    parser.add_argument(
        "--format",
        action="extend",
        type=_read,
        metavar="NAME[,NAME]",
        help=f"of {', '.join(WRITERS)}; repeatable (default: {usual})",
    )


def _read(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in WRITERS:
            raise argparse.ArgumentTypeError(f"there is no {name!r}; choose from {', '.join(WRITERS)}")
    return names
