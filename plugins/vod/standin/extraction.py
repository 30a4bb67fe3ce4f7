"""The workers behind extract_audio: real extractions, a bounded number at a time, resumed after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from vod import media
from vod.errors import VodError
from vod.standin import records
from vod.standin.library import QUEUED, RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vod.standin.library import Asset, Library
    from vod.standin.settings import Behaviour

log = logging.getLogger(__name__)

LONGEST = 6 * 3600
"""Seconds that one extraction may take."""


class Extractor:
    """Takes audio assets from WAITING_TRANSCODE over TRANSCODING to their end, in the order of submission."""

    def __init__(self, library: Library, behaviour: Behaviour, *, workers: int) -> None:
        self._library = library
        self._behaviour = behaviour
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="extraction")
        self._stopping = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._queue: asyncio.Queue[tuple[str, float]]
        self._running = 0
        self.peak_parallel = 0

    def start(self) -> None:
        """Starts the workers on the running loop, with what an earlier stand-in left unfinished."""
        self._queue = asyncio.Queue()
        for asset in self._library.extractions(RUNNING) + self._library.extractions(QUEUED):
            log.info("asset %s: resumed in %s", asset.asset_id, asset.status)
            self.submit(asset)
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._workers)]

    async def stop(self) -> None:
        """Ends running ffmpeg processes; what they were doing starts anew after the next start."""
        self._stopping.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown()

    def submit(self, asset: Asset) -> None:
        self._queue.put_nowait((asset.asset_id, time.monotonic()))

    async def _work(self) -> None:
        while True:
            asset_id, submitted = await self._queue.get()
            asset = await self._next(asset_id, submitted)
            if asset is None:
                continue
            self._running += 1
            self.peak_parallel = max(self.peak_parallel, self._running)
            try:
                end = await self._extract(asset)
            except Exception:
                log.exception("asset %s: the stand-in itself failed", asset_id)
                end = {"status": "SERVER_ERROR", "reason": "internal error"}
            finally:
                self._running -= 1
            self._library.update(asset, **end)

    async def _next(self, asset_id: str, submitted: float) -> Asset | None:
        """The asset, in TRANSCODING once its time in the queue is over; ``None``: cancelled meanwhile."""

        def over() -> bool:
            asset = self._library.get(asset_id)
            waited = time.monotonic() - submitted
            return asset is None or asset.status != QUEUED or waited >= self._behaviour.queue_seconds

        await _until(over)
        asset = self._library.get(asset_id)
        if asset is None or asset.status not in (QUEUED, RUNNING):
            return None
        self._library.update(asset, status=RUNNING)
        return self._library.get(asset_id)

    async def _extract(self, asset: Asset) -> dict[str, Any]:
        """The columns that the asset ends with."""
        started = time.monotonic()
        source = self._library.get(asset.source or "")
        assert source is not None
        extract = functools.partial(
            media.extract,
            self._library.path(source),
            self._library.path(asset),
            audio_format=asset.video_type,
            timeout=LONGEST,
            cancelled=self._stopping,
        )
        extraction = asyncio.get_running_loop().run_in_executor(self._threads, extract)
        try:
            result = await asyncio.shield(extraction)
        except asyncio.CancelledError:  # by stop(): wait until its ffmpeg is gone
            with contextlib.suppress(VodError):
                await extraction
            raise
        except media.ExtractionCancelledError:
            return {"status": RUNNING}  # the next start resumes it
        except VodError as error:
            end: dict[str, Any] = {"status": "TRANSCODE_FAILED", "reason": error.message}
        else:
            end = {"status": self._behaviour.final_status, "meta_data": records.describe_audio(result)}
        await _until(lambda: time.monotonic() - started >= self._behaviour.running_seconds)
        return end


async def _until(condition: Callable[[], bool]) -> None:
    # Behaviour is changed by plain assignment, maybe from another thread: nothing announces it.
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.05)
