"""What VOD's clock shows, told from the ``Date`` of its answers: two machines' clocks rarely agree."""

from __future__ import annotations

import threading
import time

TOLERANCE = 15 * 60.0
"""Seconds by which the clocks of a caller and of the gateway may differ (section 1.1)."""

_RESOLUTION = 1.0
_STALENESS = 1.0
"""Seconds that servers may keep a formatted date before they write the next one."""
_DRIFT = 2e-4
"""Seconds by which two clocks may part in a second, a clock that is being corrected included."""


class ServiceClock:
    """Turns this machine's time into VOD's.

    Each answer says when it was written, in whole seconds. That was after the request was sent and before the
    answer came, which bounds how far the clocks are apart; many answers bound it more narrowly than one.
    Until there is one, the clocks count as equal, with the error that VOD puts up with.

    All times are seconds since the epoch, as of :func:`time.time`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._least, self._most = -TOLERANCE, TOLERANCE
        self._observed: float | None = None

    def observe(self, date: float, *, sent: float, received: float) -> None:
        """Take an answer's date into account.

        :param date: What the header ``Date`` says.
        :param sent: When the request was about to be sent, by this machine's clock.
        :param received: When the head of the answer was there, by this machine's clock.
        """
        least, most = date - received, date + _RESOLUTION + _STALENESS - sent
        if least > most:
            return  # this machine's clock was set back meanwhile
        with self._lock:
            if self._observed is not None:
                drift = abs(received - self._observed) * _DRIFT
                narrowed = max(least, self._least - drift), min(most, self._most + drift)
                if narrowed[0] <= narrowed[1]:  # otherwise one of the clocks was set: only the news counts
                    least, most = narrowed
            self._least, self._most, self._observed = least, most, received

    @property
    def offset(self) -> float:
        """Seconds by which VOD's clock is ahead of this machine's; negative if it is behind."""
        return (self._least + self._most) / 2

    @property
    def error(self) -> float:
        """Seconds by which :attr:`offset` may be wrong."""
        return (self._most - self._least) / 2

    def of(self, moment: float) -> float:
        """What VOD's clock showed when this machine's showed *moment*."""
        return moment + self.offset

    def time(self) -> float:
        """What VOD's clock shows now."""
        return self.of(time.time())


_clocks: dict[str, ServiceClock] = {}


def clock_of(endpoint: str) -> ServiceClock:
    """The clock of an endpoint, of which all clients of this process learn together.

    :param endpoint: Its URL.
    """
    return _clocks.setdefault(endpoint, ServiceClock())
