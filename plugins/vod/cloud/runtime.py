"""Two ways to run the coroutines of this package: on an event loop, or to their end on a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio.to_thread
import httpx

from vod.cloud.transport import BlockingTransport

T = TypeVar("T")


class LoopRuntime:
    """On an event loop: nothing blocks it."""

    def transport(self) -> httpx.AsyncBaseTransport | None:
        """What sends requests."""
        return None  # httpx's own

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds without blocking the loop."""
        await asyncio.sleep(seconds)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call what blocks."""
        return await anyio.to_thread.run_sync(function, *arguments)


class BlockingRuntime(LoopRuntime):
    """On a thread that may block: everything does, and no coroutine ever suspends."""

    def transport(self) -> httpx.AsyncBaseTransport:
        """What sends requests."""
        return BlockingTransport()

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        time.sleep(seconds)  # noqa: ASYNC251 - this is the runtime that blocks

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function that may block."""
        return function(*arguments)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the blocking runtime to its end."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} suspended on the blocking runtime.")
