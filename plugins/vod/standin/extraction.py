"""The workers behind extract_audio: real extractions, a bounded number at a time, resumed after a restart."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vod import media
from vod.errors import VodError
from vod.standin import records
from vod.standin.faults import Fail, Latency
from vod.standin.library import QUEUED, RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable

    from vod.standin.library import Asset, Library
    from vod.standin.settings import Behaviour

log = logging.getLogger(__name__)

LONGEST = 6 * 3600
"""Seconds that one extraction may take."""
LOOK = 0.05
"""Seconds between two looks at what is due."""


@dataclass(frozen=True)
class _Run:
    """An extraction in TRANSCODING. It ends when its work is done and its time is over."""

    asset: Asset
    work: asyncio.Future[dict[str, Any]]
    started: float
    extra: float
    """Seconds on top of ``running_seconds``."""


class Extractor:
    """Takes audio assets from WAITING_TRANSCODE over TRANSCODING to their end, in the order of submission.

    :param ended: Is told every end.
    """

    def __init__(
        self, library: Library, behaviour: Behaviour, *, workers: int, ended: Callable[[Asset], None]
    ) -> None:
        self._library = library
        self._behaviour = behaviour
        self._workers = workers
        self._ended = ended
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="extraction")
        self._stopping = threading.Event()
        self._queue: deque[tuple[str, float]] = deque()
        self._runs: dict[str, _Run] = {}
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
        self._dispatcher.cancel()
        works = [run.work for run in self._runs.values()]
        await asyncio.gather(self._dispatcher, *works, return_exceptions=True)
        self._threads.shutdown()

    def submit(self, asset: Asset) -> None:
        # One that ran already does not wait again.
        since = time.monotonic() if asset.status == QUEUED else -math.inf
        self._queue.append((asset.asset_id, since))
        self._changed.set()

    async def _dispatch(self) -> None:
        """Behaviour is changed by plain assignment, maybe from another thread: only looking shows it."""
        while True:
            self._changed.clear()
            now = time.monotonic()
            for run in [run for run in self._runs.values() if self._over(run, now)]:
                self._end(run)
            while (
                self._queue
                and len(self._runs) < self._workers
                and now - self._queue[0][1] >= self._behaviour.queue_seconds
            ):
                self._begin(self._queue.popleft()[0])
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), LOOK)

    def _over(self, run: _Run, now: float) -> bool:
        return run.work.done() and now - run.started >= self._behaviour.running_seconds + run.extra

    def _begin(self, asset_id: str) -> None:
        asset = self._library.get(asset_id)
        if asset is None or asset.status not in (QUEUED, RUNNING):
            return  # cancelled
        self._library.update(asset, status=RUNNING)
        asset = replace(asset, status=RUNNING)
        late = [rule for rule in self._behaviour.rules(Latency, "extraction") if rule.strikes(asset.names)]
        work = asyncio.ensure_future(self._work(asset))
        work.add_done_callback(lambda _: self._changed.set())
        self._runs[asset_id] = _Run(asset, work, time.monotonic(), sum(rule.seconds for rule in late))
        self.peak_parallel = max(self.peak_parallel, len(self._runs))

    def _end(self, run: _Run) -> None:
        del self._runs[run.asset.asset_id]
        try:
            columns = run.work.result()
        except Exception:
            log.exception("asset %s: the stand-in itself failed", run.asset.asset_id)
            columns = {"status": "SERVER_ERROR", "reason": "internal error"}
        self._library.update(run.asset, **columns)
        asset = self._library.get(run.asset.asset_id)
        if asset is not None and asset.status != RUNNING:
            self._ended(asset)

    async def _work(self, asset: Asset) -> dict[str, Any]:
        """The columns that the asset ends with."""
        source = self._library.get(asset.source or "")
        assert source is not None
        for rule in self._behaviour.rules(Fail, "extraction"):
            if rule.strikes(asset.names, source.asset_id):
                return {"status": "TRANSCODE_FAILED", "reason": rule.reason}
        extract = functools.partial(
            media.extract,
            self._library.path(source),
            self._library.place(asset),
            audio_format=asset.video_type,
            timeout=LONGEST,
            cancelled=self._stopping,
        )
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, extract)
        except media.ExtractionCancelledError:
            return {"status": RUNNING}  # the next start resumes it
        except VodError as error:
            return {"status": "TRANSCODE_FAILED", "reason": error.message}
        return {"status": self._behaviour.final_status, "meta_data": records.describe_audio(result)}
