"""Reads asset/list to its end while assets come and go (contract, section 7)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

from vod.cloud.assets import TIME_FORMAT, AssetPage, AssetSummary
from vod.cloud.errors import IncompleteListError
from vod.logs import get_logger

log = get_logger(__name__)

PAGE_SIZE = 100
"""Largest page of asset/list (section 7)."""
REACHABLE = 20_000
"""Results of one window that paging can reach (section 12)."""

_SECOND = timedelta(seconds=1)
_READS = 5
"""How often pages are read that shift while they are read."""

Ask = Callable[[Mapping[str, Any]], Awaitable[AssetPage]]
"""Asks for one page of asset/list."""


class Listing:
    """All assets that were created in a window and match a filter.

    Numbered pages shift by one with each asset that is deleted or added, and what slips over their border is
    never seen. So the first page is asked for again and again, each time of the window that ends with the
    oldest asset seen: that asset must be on the next page as well. Numbered pages are used only where a
    hundred assets share a second, and read until nothing of them is gone when they are read again.

    :param ask: Makes the call.
    :param conditions: Further parameters of the call.
    """

    def __init__(self, ask: Ask, conditions: Mapping[str, Any]) -> None:
        self._ask = ask
        self._conditions = conditions

    async def read(self, start: datetime, end: datetime) -> AsyncIterator[AssetSummary]:
        """Iterate over the assets, newest first; some may come twice.

        :param start: Whole seconds, UTC; ``end`` likewise. Whether VOD counts these in is undocumented.
        :raises IncompleteListError: VOD does not let all of them be read.
        """
        last: str | None = None
        while start <= end:
            page = await self._page(start, end)
            for asset in page.assets:
                yield asset
            if last and last not in {asset.asset_id for asset in page.assets}:
                # It was deleted meanwhile, or VOD does not count the last second of a window in.
                for asset in await self._numbered(end - _SECOND, end + _SECOND):
                    yield asset
            if page.count < PAGE_SIZE or page.count >= page.total:
                if page.count < page.total:
                    log.warning("VOD counts %d assets and lists %d.", page.total, page.count)
                return
            oldest = _oldest(page)
            if oldest is None or not start <= oldest <= end:  # in another order than that of creation
                for asset in await self._numbered(start, end):
                    yield asset
                return
            last = page.assets[-1].asset_id
            if page.assets[0].created == oldest < end:  # all of one second: they may be in any order
                for asset in await self._numbered(oldest + _SECOND, end):
                    yield asset
            if oldest == end:
                for asset in await self._numbered(end, end):
                    yield asset
                last, oldest = None, end - _SECOND
            end = oldest

    async def _numbered(self, start: datetime, end: datetime) -> list[AssetSummary]:
        """The assets of a window by numbered pages."""
        before: dict[str, AssetSummary] = {}
        for _ in range(_READS):
            found: dict[str, AssetSummary] = {}
            number, is_last = 0, False
            while not is_last:
                page = await self._page(start, end, number)
                if page.total >= REACHABLE:
                    return await self._parts(start, end)
                number += 1
                is_last = page.count < PAGE_SIZE or number * PAGE_SIZE >= page.total
                found |= {asset.asset_id: asset for asset in page.assets}
            # What was read and is gone has moved others up, maybe over a border. If nothing is gone when all
            # is read again, nothing was missed.
            if number == 1 or (before and before.keys() <= found.keys()):
                return [*found.values()]
            if before:
                log.info("The list of VOD changed while it was read; reading it again.")
            before = found
        raise IncompleteListError(
            f"The list of the assets created from {start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} UTC "
            f"changed each of the {_READS} times that it was read.",
            retryable=True,
            remedy="Try again when fewer assets are being deleted.",
        )

    async def _parts(self, start: datetime, end: datetime) -> list[AssetSummary]:
        """The assets of a window that holds more than can be read of it. The parts overlap by a second."""
        if end - start > 2 * _SECOND:
            middle = start + timedelta(seconds=(end - start) // (2 * _SECOND))
            newer = await self._numbered(middle, end)
            return newer + await self._numbered(start, middle + _SECOND)
        found = []
        while start < end:
            found += await self._second(end)
            end -= _SECOND
        return found + await self._second(start)

    async def _second(self, second: datetime) -> list[AssetSummary]:
        for end in (second, second + _SECOND):  # if VOD counts the last second of a window in, and if not
            total = (await self._page(second, end)).total
            if total >= REACHABLE:
                raise IncompleteListError(
                    f"VOD has {REACHABLE:,} assets or more that were created in one second, "
                    f"{second:%Y-%m-%d %H:%M:%S} UTC, and lists no more than that."
                )
            if total:
                return await self._numbered(second, end)
        return []

    async def _page(self, start: datetime, end: datetime, number: int = 0) -> AssetPage:
        return await self._ask(
            {
                "start_time": start.strftime(TIME_FORMAT),
                "end_time": end.strftime(TIME_FORMAT),
                "page": number,
                "size": PAGE_SIZE,
                **self._conditions,
            }
        )


def whole_seconds(moment: datetime) -> datetime:
    """A time as the list takes it."""
    return moment.astimezone(timezone.utc).replace(microsecond=0)


def _oldest(page: AssetPage) -> datetime | None:
    """When the last asset of a page was created, if the page is sorted by that, newest first."""
    times = [asset.created for asset in page.assets if asset.created]
    if not times or not page.assets[-1].created or any(one < next_ for one, next_ in pairwise(times)):
        return None
    return times[-1]
