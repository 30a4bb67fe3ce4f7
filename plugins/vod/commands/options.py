"""Arguments that several commands take: files of this machine, and the formats to write."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vod.locations import public_name
from vod.speech.captions import WRITERS


def path_here(text: str) -> Path:
    """A file or folder of this machine, as ``type`` of an argument.

    :raises argparse.ArgumentTypeError: it is an address, which as a path would lead into folders called so.
    """
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"{public_name(text)} is an address. This command works with files and folders of this machine."
        )
    return Path(text)


def add_formats(parser: argparse.ArgumentParser, *usual: str) -> None:
    """Adds the option; its value is a list of keys of :data:`vod.speech.captions.WRITERS`.

    :param usual: What is written without it.
    """
    parser.add_argument(
        "--format",
        action=_Formats,
        default=list(usual),
        metavar="NAME[,NAME]",
        help=f"of {', '.join(WRITERS)}; repeatable (default: {','.join(usual)})",
    )


class _Formats(argparse.Action):
    """Takes names separated by commas, or one after the other; the first takes the place of the default."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any
    ) -> None:
        names = [name.strip() for name in values.split(",") if name.strip()]
        for name in names:
            if name not in WRITERS:
                parser.error(f"there is no format {name!r}; choose from {', '.join(WRITERS)}")
        given = getattr(namespace, self.dest)
        setattr(namespace, self.dest, names if given is self.default else [*given, *names])
