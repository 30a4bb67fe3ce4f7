"""When to stop."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vod.media.errors import ExtractionCancelledError, ExtractionTimeoutError

if TYPE_CHECKING:
    import threading


@dataclass(frozen=True)
class Limits:
    """Stop after *timeout* seconds from now, or when *cancelled* is set, from whatever thread."""

    timeout: float
    cancelled: threading.Event | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until the time is up, not below 0."""
        return max(round(self.timeout - (time.monotonic() - self.started), 1), 0.0)

    def wait(self, seconds: float) -> None:
        """Sleep, unless it is time before.

        :raises ExtractionTimeoutError, ExtractionCancelledError: it is time.
        """
        if self.cancelled is None:
            time.sleep(seconds)
        else:
            self.cancelled.wait(seconds)
        self.check()

    def check(self) -> None:
        """:raises ExtractionTimeoutError, ExtractionCancelledError: it is time."""
        if self.cancelled is not None and self.cancelled.is_set():
            raise ExtractionCancelledError("The extraction was cancelled.")
        if time.monotonic() - self.started > self.timeout:
            raise ExtractionTimeoutError(f"It was stopped after {self.timeout:g} s, its time limit.")
