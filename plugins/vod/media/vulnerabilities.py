"""Published vulnerabilities of ffmpeg's versions, from a dated table, and which a file can reach."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from vod import allowed_formats

_TABLE = Path(__file__).with_name("known_vulnerabilities.json")


@dataclass(frozen=True, kw_only=True)
class Vulnerability:
    """A published vulnerability.

    :param decoder: ffmpeg's name of the decoder that has it.
    :param fixed_in: First version without it, if there is one.
    :param last_in: Last version that is known to have it, where no mended one is known.
    """

    id: str
    what: str
    decoder: str
    fixed_in: str | None = None
    last_in: str | None = None

    @property
    def reached(self) -> bool:
        """Whether a file can make its decoder run here."""
        return self.decoder in allowed_formats.decoders()

    def is_in(self, version: str) -> bool:
        """Whether *version* has it. Versions that say no number are taken to have it.

        Older branches get mends under their own numbers, which the table does not know: better one too
        many.
        """
        number = _number(version)
        if number is None:
            return True
        if self.fixed_in:
            return number < (_number(self.fixed_in) or ())
        return number <= (_number(self.last_in or "") or ())

    def __str__(self) -> str:
        reach = (
            "a file can reach it: RARE FORMATS ARE SWITCHED ON"
            if self.reached
            else "not reached here, the codec is not allowed"
        )
        end = f"mended in {self.fixed_in}" if self.fixed_in else f"up to {self.last_in}"
        return f"{self.id} ({self.decoder}: {self.what}; {end}): {reach}"


def known_vulnerabilities() -> tuple[str, tuple[Vulnerability, ...]]:
    """The day on which the table was made, and what is in it."""
    table = json.loads(_TABLE.read_text())
    return table["looked_up"], tuple(Vulnerability(**entry) for entry in table["vulnerabilities"])


def _number(version: str) -> tuple[int, ...] | None:
    found = re.match(r"n?(\d+(?:\.\d+)*)", version)
    if not found:
        return None
    parts = [int(part) for part in found[1].split(".")]
    return tuple([*parts, 0, 0, 0][:3])
