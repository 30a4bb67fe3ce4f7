"""A list is read whole, whatever is deleted or added while it is read, or it is an error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import stats
from vod.cloud import listing
from vod.cloud.assets import TIME_FORMAT, AssetPage, AssetSummary
from vod.cloud.client import VodClient
from vod.cloud.errors import IncompleteListError
from vod.cloud.listing import Listing
from vod.cloud.runtime import run
from vod.standin import Standin
from vod.standin.faults import parse

BEGIN = datetime(2024, 1, 1, tzinfo=timezone.utc)
DAY = {"since": BEGIN, "until": BEGIN + timedelta(days=1)}
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _no_quotas(standin: Standin) -> None:
    standin.behaviour.quota_scale = 0


async def _all(assets: AsyncIterator[AssetSummary]) -> list[str]:
    return [asset.asset_id async for asset in assets]


# --- against the stand-in -------------------------------------------------------------------------


def test_deletions_between_two_pages_hide_nothing(standin: Standin, client: VodClient) -> None:
    made = standin.add_virtual(350, created_from="20240101000000", created_to="20240101235959")
    listed = []
    for number, asset in enumerate(client.list_assets(**DAY)):
        listed.append(asset.asset_id)
        if number in (50, 150, 250):
            client.delete(listed[number - 20 : number])
    assert listed == made[::-1]


def test_additions_between_two_pages_hide_nothing(standin: Standin, client: VodClient) -> None:
    made = standin.add_virtual(250, created_from="20240101000000", created_to="20240101120000")
    listed = []
    for number, asset in enumerate(client.list_assets(**DAY)):
        listed.append(asset.asset_id)
        if number == 50:
            standin.add_virtual(30, created_from="20240101050000", created_to="20240101130000")
    assert set(made) <= set(listed)
    assert len(set(listed)) == len(listed)


def test_deletions_among_many_of_one_second_hide_nothing(standin: Standin, client: VodClient) -> None:
    made = standin.add_virtual(450, created_from="20240101000000", created_to="20240101000000")
    asked = 0

    async def ask(params: Mapping[str, Any]) -> AssetPage:
        nonlocal asked
        asked += 1
        page = await client._coroutines._list_page(params)
        if asked == 4:
            client.delete(made[-10:])  # what is newest comes first: all others move up
        return page

    assert set(made) <= set(run(_all(Listing(ask, {}).read(BEGIN, BEGIN + SECOND)))) | set(made[-10:])


def test_a_second_with_more_than_vod_lists_is_an_error(standin: Standin, client: VodClient) -> None:
    moment = "20240101103000"
    standin.add_virtual(20_001, created_from=moment, created_to=moment)
    with pytest.raises(
        IncompleteListError, match=r"20,000 assets or more.* 2024-01-01 10:30:00 UTC"
    ) as caught:
        list(client.list_assets(**DAY))
    assert not caught.value.retryable


@pytest.mark.parametrize("count", [30, 250])
def test_what_an_answer_leaves_out_is_asked_for_again(
    standin: Standin, client: VodClient, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    sources = standin.add_virtual(count, created_from="20240101000000", created_to="20240101120000")
    standin.behaviour.running_seconds = 3600
    audio = client.extract_audio(sources[0]).audio_asset_id
    everything = {"since": BEGIN, "until": datetime.now(timezone.utc) + timedelta(days=1)}
    standin.behaviour.faults = [parse("missing,call=list,count=2")]
    assert {asset.asset_id for asset in client.list_assets(**everything)} == {*sources, audio}
    assert "of its list" not in caplog.text
    standin.behaviour.faults = [parse("missing,call=list")]
    assert {asset.asset_id for asset in client.list_assets(**everything)} == {*sources}
    assert "assets on a page of its list, and lists" in caplog.text, "no silence"


def test_each_page_is_asked_for_once(standin: Standin, client: VodClient) -> None:
    standin.add_virtual(990, created_from="20240101000000", created_to="20240101235959")
    assert len(list(client.list_assets(**DAY))) == 990
    assert stats(standin)["calls"]["list"]["total"] == 10


# --- against a model of asset/list ----------------------------------------------------------------


class Model:
    """Assets that come and go between two pages, and the choices that the contract leaves open."""

    def __init__(
        self, created: list[int], *, inclusive: bool = True, oldest_first: bool = False, seed: int = 0
    ) -> None:
        self.assets = {f"a{number}": second for number, second in enumerate(created)}
        self.inclusive, self.oldest_first = inclusive, oldest_first
        self.lasting = set(self.assets)
        self.change: Callable[[], None] = lambda: None
        self._dice = Random(seed)
        self.changes_left = 4

    async def ask(self, params: Mapping[str, Any]) -> AssetPage:
        def seconds(name: str) -> int:
            moment = datetime.strptime(params[name], TIME_FORMAT).replace(tzinfo=timezone.utc)
            return int((moment - BEGIN).total_seconds())

        start, end = seconds("start_time"), seconds("end_time")
        found = sorted(
            (
                (second, int(name[1:]), name)
                for name, second in self.assets.items()
                if start <= second and (second <= end if self.inclusive else second < end)
            ),
            reverse=not self.oldest_first,
        )
        at = params["page"] * params["size"]
        page = AssetPage.parse(
            {
                "total": min(len(found), listing.REACHABLE),
                "assets": [
                    {
                        "asset_id": name,
                        "title": "t",
                        "create_time": (BEGIN + timedelta(seconds=second)).strftime(TIME_FORMAT),
                    }
                    for second, _, name in found[at : at + params["size"]]
                ],
            }
        )
        if self.changes_left and self._dice.random() < 0.5:
            self.changes_left -= 1
            self._change()
        return page

    def _change(self) -> None:
        for name in self._dice.sample(sorted(self.assets), min(3, len(self.assets))):
            del self.assets[name]
            self.lasting.discard(name)
        for _ in range(self._dice.randrange(3)):
            self.assets[f"a{self._dice.randrange(1000, 10**6)}"] = self._dice.randrange(8)


@settings(max_examples=300)
@given(
    created=st.lists(st.integers(0, 7) | st.integers(0, 100), max_size=60),
    inclusive=st.booleans(),
    oldest_first=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_all_that_lasts_is_found(created: list[int], inclusive: bool, oldest_first: bool, seed: int) -> None:
    model = Model(created, inclusive=inclusive, oldest_first=oldest_first, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "PAGE_SIZE", 5)
        patch.setattr(listing, "REACHABLE", 40)
        read = Listing(model.ask, {}).read(BEGIN - 60 * SECOND, BEGIN + 200 * SECOND)
        try:
            listed = set(run(_all(read)))
        except IncompleteListError:
            assert model.changes_left < 4 or max(map(created.count, created)) >= listing.REACHABLE
            return
    assert model.lasting <= listed


def test_pages_that_never_hold_still_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "PAGE_SIZE", 5)
    model = Model([0] * 500, seed=3)
    model.changes_left = 10**6
    with pytest.raises(IncompleteListError, match="changed each of the 5 times") as caught:
        run(_all(Listing(model.ask, {}).read(BEGIN, BEGIN + SECOND)))
    assert caught.value.retryable
