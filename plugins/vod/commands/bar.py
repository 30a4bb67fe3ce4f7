"""How far a command is, on a terminal."""

from __future__ import annotations

import sys
import threading

from vod import media
from vod.locations import public_name

_WIDTH = 24
"""Characters."""


class Bar:
    """One line on the terminal about all inputs."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._running: dict[str, media.Progress] = {}
        self._ended = 0
        self._lock = threading.Lock()

    def progress(self, asset: str, progress: media.Progress) -> None:
        """How far one input is."""
        with self._lock:
            self._running[public_name(asset)] = progress
            self._draw()

    def done(self, asset: str) -> None:
        """One input is finished, well or not."""
        with self._lock:
            self._running.pop(asset, None)
            self._ended += 1
            self._draw()

    def clear(self) -> None:
        """Make room for a line of text."""
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    def _draw(self) -> None:
        fraction = (self._ended + sum(each.fraction for each in self._running.values())) / self._total
        filled = round(min(fraction, 1.0) * _WIDTH)
        left = max((each.left or 0 for each in self._running.values()), default=0)
        speed = sum(each.speed or 0 for each in self._running.values())
        sys.stderr.write(
            f"\r[{'#' * filled}{'.' * (_WIDTH - filled)}] {self._ended}/{self._total}"
            f"  {fraction * 100:.0f} %  {speed:.0f}x  {left:.0f} s left\x1b[K"
        )
        sys.stderr.flush()
