"""Pulling from URLs: downloads that run after the call, a few at a time, resumed after a restart."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING

import anyio
import httpx

from vod.logs import get_logger, redact_http_libraries
from vod.standin.errors import RefusedError
from vod.standin.faults import Fail, Latency

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from vod.standin.access import Targets
    from vod.standin.library import Asset, Library
    from vod.standin.settings import Behaviour

log = get_logger(__name__)
redact_http_libraries()

PARALLEL = 4
PATIENCE = 30
"""Seconds without a byte before a download has failed."""
MAX_SECONDS = 2 * 3600
"""Seconds that one download may take."""


class Puller:
    """Downloads what assets in CREATING are to be made of.

    :param sources: Where it may download from, also after a redirect.
    :param arrived: Makes an asset of a downloaded file.
    """

    def __init__(
        self,
        library: Library,
        behaviour: Behaviour,
        sources: Targets,
        *,
        arrived: Callable[[Asset], Awaitable[None]],
    ) -> None:
        self._library = library
        self._behaviour = behaviour
        self._sources = sources
        self._arrived = arrived
        self._room: asyncio.Semaphore
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Starts to work on the running loop, with what an earlier stand-in left unfinished."""
        self._room = asyncio.Semaphore(PARALLEL)
        for asset, url in self._library.pulls():
            log.info("asset %s: its download starts again", asset.asset_id)
            self._start(asset, url)

    async def stop(self) -> None:
        """Ends downloads; the next start begins them anew."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if "_http" in vars(self):
            await self._http.aclose()

    @functools.cached_property
    def _http(self) -> httpx.AsyncClient:
        """Made when it is needed: loading the certificates of the world takes a while."""
        return httpx.AsyncClient(
            follow_redirects=True, timeout=PATIENCE, event_hooks={"request": [self._check]}
        )

    async def _check(self, request: httpx.Request) -> None:
        """Also called for each redirect."""
        if not self._sources.allow(str(request.url)):
            raise _DownloadError("the stand-in may not pull from there (--pull-from)")

    def submit(self, asset: Asset, url: str) -> None:
        self._library.pull(asset, url)
        self._start(asset, url)

    def _start(self, asset: Asset, url: str) -> None:
        task = asyncio.create_task(self._pull(asset, url))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pull(self, asset: Asset, url: str) -> None:
        async with self._room:
            for late in self._behaviour.rules(Latency, "pull"):
                if late.strikes(asset.names):
                    await asyncio.sleep(late.seconds)
            try:
                await asyncio.wait_for(self._download(asset, url), MAX_SECONDS)
            except _FAILURES as error:
                # The text of an error may quote the URL, and that may be signed.
                reason = str(error) if isinstance(error, _DownloadError) else type(error).__name__
                self._library.path(asset).unlink(missing_ok=True)
                self._library.update(asset, status="UPLOAD_FAILED", reason=f"Download failed: {reason}")
            except Exception:
                log.exception("asset %s: the stand-in itself failed", asset.asset_id)
                self._library.update(asset, status="SERVER_ERROR", reason="internal error")
        self._library.pulled(asset)

    async def _download(self, asset: Asset, url: str) -> None:
        for fail in self._behaviour.rules(Fail, "pull"):
            if fail.strikes(asset.names, asset.title):
                raise _DownloadError(fail.reason)
        async with self._http.stream("GET", url) as answer:
            if answer.status_code != 200:
                raise _DownloadError(f"HTTP {answer.status_code}")
            async with await anyio.open_file(self._library.place(asset), "wb") as file:
                async for chunk in answer.aiter_bytes():
                    await file.write(chunk)
        try:
            await self._arrived(asset)
        except RefusedError as refused:
            raise _DownloadError(str(refused)) from None


class _DownloadError(Exception):
    """The text is what the description of the asset says."""


_FAILURES = (_DownloadError, httpx.HTTPError, httpx.InvalidURL, OSError, asyncio.TimeoutError)
