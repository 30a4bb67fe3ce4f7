"""The workers behind extract_audio: real extractions, a bounded number at a time, resumed after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import math
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from vod import media
from vod.errors import VodError
from vod.logs import get_logger
from vod.standin import records, virtual
from vod.standin.faults import Fail, Latency
from vod.standin.library import QUEUED, RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vod.standin.library import Asset, Library
    from vod.standin.settings import StandinSettings

log = get_logger(__name__)

MAX_SECONDS = 6 * 3600
"""Seconds that one extraction may take."""
LOOK = 0.05
"""Seconds between two looks at what is due."""


class Extractor:
    """Takes audio assets from WAITING_TRANSCODE over TRANSCODING to their end, in the order of submission.

    :param ended: Is told every end.
    """

    def __init__(
        self, library: Library, settings: StandinSettings, *, ended: Callable[[Asset], None]
    ) -> None:
        self._library = library
        self._settings = settings
        self._behaviour = settings.behaviour
        self._ended = ended
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="extraction")
        self._stopping = threading.Event()
        self._queue: deque[tuple[float, str]] = deque()
        """Since when an asset is queued, and its id."""
        self._works: dict[str, asyncio.Task[dict[str, Any]]] = {}
        """What is in TRANSCODING, by asset id."""
        self._done: list[tuple[float, str]] = []
        """A heap of works that are done: when they may count as begun, and of which asset."""
        self._changed: asyncio.Event
        self._dispatcher: asyncio.Task[None]
        self.peak_parallel = 0

    def start(self) -> None:
        """Starts to work on the running loop, with what an earlier stand-in left unfinished."""
        self._changed = asyncio.Event()
        for asset in self._library.extractions(RUNNING) + self._library.extractions(QUEUED):
            log.info("asset %s: resumed in %s", asset.asset_id, asset.status)
            self.submit(asset)
        self._dispatcher = asyncio.create_task(self._dispatch())

    async def stop(self) -> None:
        """Ends running ffmpeg processes; what they were doing starts anew after the next start."""
        self._stopping.set()
        self._changed.set()
        await self._dispatcher
        await asyncio.gather(*self._works.values(), return_exceptions=True)
        self._threads.shutdown()

    def submit(self, asset: Asset) -> None:
        # One that ran already does not wait again.
        since = time.monotonic() if asset.status == QUEUED else -math.inf
        self._queue.append((since, asset.asset_id))
        self._changed.set()

    async def _dispatch(self) -> None:
        """Behaviour is changed by plain assignment, maybe from another thread: only looking shows it.

        It is asked to stop, not cancelled: before Python 3.12 ``wait_for`` may swallow a cancellation.
        """
        while not self._stopping.is_set():
            self._changed.clear()
            while self._done and self._past(self._done[0], self._behaviour.running_seconds):
                self._step(self._end, heapq.heappop(self._done)[1])
                await asyncio.sleep(0)
            while (
                self._queue
                and len(self._works) < self._settings.workers
                and self._past(self._queue[0], self._behaviour.queue_seconds)
            ):
                self._step(self._begin, self._queue.popleft()[1])
                await asyncio.sleep(0)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK)

    @staticmethod
    def _step(step: Callable[[str], None], asset_id: str) -> None:
        """One asset, whose trouble must not be that of the others."""
        try:
            step(asset_id)
        except Exception:
            log.exception("asset %s: the stand-in itself failed", asset_id)

    @staticmethod
    def _past(entry: tuple[float, str], seconds: float) -> bool:
        return time.monotonic() - entry[0] >= seconds

    def _begin(self, asset_id: str) -> None:
        asset = self._library.get(asset_id)
        if asset is None or asset.status not in (QUEUED, RUNNING):
            return  # cancelled
        self._library.update(asset, status=RUNNING)
        rules = self._behaviour.rules(Latency, "extraction")
        late = sum(rule.seconds for rule in rules if rule.strikes(asset.names))
        begun = time.monotonic() + late

        def done(_: object) -> None:
            heapq.heappush(self._done, (begun, asset_id))
            self._changed.set()

        work = self._works[asset_id] = asyncio.create_task(self._work(asset))
        work.add_done_callback(done)
        self.peak_parallel = max(self.peak_parallel, len(self._works))

    def _end(self, asset_id: str) -> None:
        work = self._works.pop(asset_id)
        asset = self._library.get(asset_id)
        assert asset is not None
        try:
            columns = work.result()
        except Exception:
            log.exception("asset %s: the stand-in itself failed", asset_id)
            columns = {"status": "SERVER_ERROR", "reason": "internal error"}
        self._library.update(asset, **columns)
        if columns["status"] != RUNNING:
            ended = self._library.get(asset_id)
            assert ended is not None
            self._ended(ended)

    async def _work(self, asset: Asset) -> dict[str, Any]:
        """The columns that the asset ends with."""
        source = self._library.get(asset.source or "")
        assert source is not None
        for rule in self._behaviour.rules(Fail, "extraction"):
            if rule.strikes(asset.names, source.asset_id):
                return {"status": "TRANSCODE_FAILED", "reason": rule.reason}
        if self._settings.virtual or source.virtual:
            return {
                "status": self._behaviour.final_status,
                "meta_data": virtual.audio(source, asset.video_type),
            }
        extract = functools.partial(
            media.extract,
            self._library.path(source),
            self._library.place(asset),
            audio_format=asset.video_type,
            timeout=MAX_SECONDS,
            cancelled=self._stopping,
        )
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, extract)
        except media.ExtractionCancelledError:
            return {"status": RUNNING}  # the next start resumes it
        except VodError as error:
            return {"status": "TRANSCODE_FAILED", "reason": error.message}
        return {"status": self._behaviour.final_status, "meta_data": records.describe_audio(result)}
