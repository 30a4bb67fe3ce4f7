"""A trigger that notes how late the event loop of its triggerer is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

TICK = 0.02
"""Seconds between two looks at the clock."""


class LoopLagTrigger(BaseTrigger):
    """Appends a line a tick to a file: seconds since the epoch, and by how many seconds it came late.

    :param path: The file.
    :param seconds: How long.
    """

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__()
        self.path = path
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "benchmarks.probe.LoopLagTrigger", {"path": self.path, "seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        end = time.monotonic() + self.seconds
        with Path(self.path).open("a") as file:  # noqa: ASYNC230 - its lines are buffered
            while time.monotonic() < end:
                before = time.monotonic()
                await asyncio.sleep(TICK)
                file.write(f"{time.time():.3f} {time.monotonic() - before - TICK:.6f}\n")
        yield TriggerEvent(None)
