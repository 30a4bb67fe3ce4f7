"""One poller for all waits of an event loop: tasks share their calls (contract, sections 5 and 12)."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from vod.cloud.assets import Asset
from vod.cloud.client import IDS_PER_CALL, AsyncVodClient
from vod.cloud.errors import CloudError, InvalidRequestError, ThrottledError
from vod.cloud.refusals import CONCERNS_THE_ACCOUNT, longer
from vod.logs import get_logger

log = get_logger(__name__)

OnPoll = Callable[[Mapping[str, Asset], float], None]
Renew = Callable[[], Awaitable[AsyncVodClient | None]]

CONFIRMATION_PAUSE = 30.0
"""Seconds between two looks that both must say that an asset is gone."""

_EARLY = 0.2  # of its interval an id may be asked early, to fill a call
_JITTER = 0.1  # of its interval, so that batches that began together drift apart
_GROWTH = 1.5
_CALLS_AT_ONCE = 4
_LONGEST_TROUBLE = 60.0  # between two calls while VOD cannot be read


@dataclass
class _Watched:
    """One asset that is waited for."""

    interval: float
    longest_interval: float
    due: float
    waiting: set[_Wait] = field(default_factory=set)
    malformed: bool = False  # at the last look


@dataclass(eq=False)
class _Wait:
    """One call of :meth:`Poller.wait`."""

    pending: set[str]
    settled: Callable[[Asset], bool]
    any_will_do: bool
    on_poll: OnPoll | None
    gone_since: dict[str, float] | None
    # Where log lines belong: the triggerer tells its triggers apart by context.
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    done: asyncio.Event = field(default_factory=asyncio.Event)
    error: Exception | None = None
    troubled: bool = False
    asked: int = field(init=False)

    def __post_init__(self) -> None:
        self.asked = len(self.pending)


class Poller:
    """Reads the assets that waiting tasks ask for, ten to a call, each at its own growing interval.

    A fault of VOD or of the way to it postpones; so does a credential that VOD refuses, since it may be
    locked for minutes or about to be replaced. Meanwhile one call is made for all, at growing intervals.
    Without waits, nothing runs.

    :param client: Reads; its budget paces, and for `retry_seconds` it repeats a look that failed.
    :param renew: Gives a client with the credential of now, ``None`` if that is the same: asked before the
        next call when VOD has refused one.
    """

    def __init__(self, client: AsyncVodClient, renew: Renew | None = None) -> None:
        self._client = client
        self._renew = renew
        self._refused = False
        self._pause = 0.0  # after the last call that failed
        self._resume_at = 0.0
        self._watched: dict[str, _Watched] = {}
        self._queue: list[tuple[float, str]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._reading: set[asyncio.Task[None]] = set()

    async def wait(
        self,
        asset_ids: Iterable[str],
        *,
        deadline: float,
        first_look: float = 0.0,
        interval: float = 5.0,
        longest_interval: float = 30.0,
        grace_until: float = 0.0,
        settled: Callable[[Asset], bool] | None = None,
        any_will_do: bool = False,
        on_poll: OnPoll | None = None,
        gone_since: dict[str, float] | None = None,
    ) -> list[str]:
        """Wait until each audio asset is ready or has failed (sections 5.3, 11); the caller re-reads them.

        :param deadline: Seconds since the epoch after which the wait ends.
        :param first_look: Seconds since the epoch before which there is nothing to be seen.
        :param interval: Seconds before the next look at an asset; the pause grows by half each time.
        :param longest_interval: Seconds that the pause grows to.
        :param grace_until: Seconds since the epoch until which an unknown id counts as not visible yet.
        :param settled: What to wait for, when that is not that the audio is ready or has failed.
        :param any_will_do: Wait for one of the assets instead of all.
        :param on_poll: Told after each call which of the assets were read and how many seconds remain until
            the next.
        :param gone_since: Since when VOD says that an asset is gone, seconds since the epoch; kept up to date
            here. That counts once it has said so for :data:`CONFIRMATION_PAUSE`.
        :returns: the ids that were not settled by the deadline.
        :raises CloudError: VOD refuses one of the ids, twice.
        """
        ids = list(dict.fromkeys(asset_ids))
        wait = _Wait(
            pending=set(ids),
            settled=settled or (lambda asset: _is_over(asset, grace=time.time() < grace_until)),
            any_will_do=any_will_do,
            on_poll=on_poll,
            gone_since=None if settled else {} if gone_since is None else gone_since,
        )
        now = time.time()
        due = min(max(now, first_look), deadline)
        for asset_id in ids:
            watched = self._watched.get(asset_id)
            if watched is None:
                watched = self._watched[asset_id] = _Watched(interval, longest_interval, due)
            else:  # the new wait may want a shorter interval
                watched.interval = min(watched.interval, interval)
                watched.due = min(watched.due, due)
            watched.waiting.add(wait)
            heapq.heappush(self._queue, (watched.due, asset_id))
        if wait.pending:
            self._wake()
            try:
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(wait.done.wait(), max(deadline - now, 0.0))
            finally:
                self._leave(wait)
        if wait.error:
            raise wait.error
        return [asset_id for asset_id in ids if asset_id in wait.pending]

    def _wake(self) -> None:
        self._changed.set()
        if self._task is None or self._task.done():
            # It outlives the wait that starts it, so it takes nothing of its context along.
            self._task = contextvars.Context().run(asyncio.create_task, self._run())

    def _leave(self, wait: _Wait) -> None:
        for asset_id in wait.pending:
            watched = self._watched.get(asset_id)
            if watched:
                watched.waiting.discard(wait)
                if not watched.waiting:
                    del self._watched[asset_id]
        self._changed.set()

    async def _run(self) -> None:
        while self._watched:
            self._changed.clear()
            troubled = self._resume_at > 0.0
            free = not self._reading if troubled else len(self._reading) < _CALLS_AT_ONCE
            resume_in = max(
                self._resume_at - time.time(), self._client.refused_for if not self._refused else 0.0
            )
            if free and resume_in <= 0.0 and (group := self._due()):
                task = asyncio.create_task(self._read(group))
                self._reading.add(task)
                task.add_done_callback(self._finished)
                continue
            pause = None
            if self._queue and free:
                pause = max(self._queue[0][0] - time.time(), resume_in, 0.0)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause)
        for task in self._reading:
            task.cancel()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._reading.discard(task)
        self._changed.set()

    def _due(self) -> list[str]:
        """The ids of the next call: what is due, filled up with what nearly is."""
        now = time.time()
        group: list[str] = []
        while self._queue and len(group) < IDS_PER_CALL:
            due, asset_id = self._queue[0]
            watched = self._watched.get(asset_id)
            stale = watched is None or due != watched.due
            if not stale and due > now + (watched.interval * _EARLY if watched and group else 0.0):
                break
            heapq.heappop(self._queue)
            if not stale and asset_id not in group:
                group.append(asset_id)
        return group

    async def _read(self, group: list[str]) -> None:
        try:
            self._tell(group, await self._look(group))
        except InvalidRequestError as error:
            await self._malformed(group, error)
        except Exception as error:  # noqa: BLE001 - each wait must end with it
            self._fail(group, error)

    async def _look(self, group: list[str]) -> dict[str, Asset]:
        try:
            if self._refused:
                await self._take_new_credential()
            read = await self._client.asset_info(group)
        except CloudError as error:
            refused = isinstance(error, CONCERNS_THE_ACCOUNT)
            if not error.retryable and not refused:
                raise
            self._trouble(group, error, refused=refused)
            return {}
        self._refused, self._pause, self._resume_at = False, 0.0, 0.0
        return read

    async def _take_new_credential(self) -> None:
        if self._renew and (client := await self._renew()):
            log.info("The connection has changed; VOD is asked with its new credential.")
            old, self._client = self._client, client
            await old.aclose()

    async def _malformed(self, group: list[str], error: InvalidRequestError) -> None:
        """Find the id for which VOD refuses a call, by halving; it is believed at the second look."""
        if len(group) > 1:
            half = len(group) // 2
            await self._read(group[:half])
            await self._read(group[half:])
        elif watched := self._watched.get(group[0]):
            if watched.malformed:
                self._fail(group, error)
            else:
                watched.malformed = True
                self._postpone(group[0], watched)

    def _tell(self, group: list[str], read: Mapping[str, Asset]) -> None:
        """Tell those who wait what was read, and put what is not settled into the queue again."""
        told: dict[_Wait, dict[str, Asset]] = {}
        for asset_id in group:
            watched = self._watched.get(asset_id)
            if watched is None:
                continue
            if asset_id in read:
                watched.malformed = False
                for wait in list(watched.waiting):
                    told.setdefault(wait, {})[asset_id] = read[asset_id]
                    if self._settles(wait, read[asset_id]):
                        wait.pending.discard(asset_id)
                        watched.waiting.discard(wait)
            if watched.waiting:
                self._postpone(asset_id, watched)
            else:
                del self._watched[asset_id]
        for wait in told:
            wait.troubled = False
            if not wait.pending or (wait.any_will_do and len(wait.pending) < wait.asked):
                wait.done.set()
        for wait, assets in told.items():
            if wait.on_poll:
                wait.context.run(wait.on_poll, assets, self._next_look(wait))

    @staticmethod
    def _settles(wait: _Wait, asset: Asset) -> bool:
        settled = wait.settled(asset)
        if wait.gone_since is None:
            return settled
        if not settled or not asset.is_gone:
            wait.gone_since.pop(asset.asset_id, None)
            return settled
        now = time.time()
        return now - wait.gone_since.setdefault(asset.asset_id, now) >= CONFIRMATION_PAUSE

    def _postpone(self, asset_id: str, watched: _Watched) -> None:
        spread = 1.0 + random.uniform(-_JITTER, _JITTER)  # noqa: S311 - no secret
        watched.due = time.time() + watched.interval * spread
        watched.interval = min(watched.interval * _GROWTH, watched.longest_interval)
        heapq.heappush(self._queue, (watched.due, asset_id))

    def _next_look(self, wait: _Wait) -> float:
        dues = [self._watched[asset_id].due for asset_id in wait.pending if asset_id in self._watched]
        return max(min(dues) - time.time(), 0.0) if dues else 0.0

    def _trouble(self, group: list[str], error: CloudError, *, refused: bool) -> None:
        now = time.time()
        # For the quota, the client has waited and slows down. What was sent before a pause began is no news.
        if not isinstance(error, ThrottledError) and now >= self._resume_at:
            if refused:
                self._pause = longer(self._pause)
            else:
                intervals = [watched.interval for watched in map(self._watched.get, group) if watched]
                self._pause = min(max(2 * self._pause, *intervals, 0.0), _LONGEST_TROUBLE)
            self._resume_at = now + self._pause
        self._refused = refused
        for wait in self._waiting(group):
            if not wait.troubled:
                wait.troubled = True
                wait.context.run(
                    log.warning, "VOD cannot be read, trying on, next in %.0f s: %s", self._pause, error
                )

    async def aclose(self) -> None:
        """Close the connections to the service."""
        await self._client.aclose()

    def _fail(self, group: list[str], error: Exception) -> None:
        for wait in self._waiting(group):
            wait.error = error
            wait.done.set()
            self._leave(wait)

    def _waiting(self, group: list[str]) -> set[_Wait]:
        return {
            wait
            for asset_id in group
            if asset_id in self._watched
            for wait in self._watched[asset_id].waiting
        }


def _is_over(asset: Asset, *, grace: bool) -> bool:
    """Whether it is settled, or left out of VOD's answer: then whoever waits asks for its details."""
    return asset.settled(grace=grace) or (asset.is_missing and not grace)
