"""Many tasks wait, one poller asks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import auth_of, service, stats
from vod.cloud import poller as poller_module
from vod.cloud import refusals
from vod.cloud.assets import Asset, Readiness
from vod.cloud.client import AsyncVodClient, VodClient
from vod.cloud.errors import InvalidRequestError
from vod.cloud.poller import Poller
from vod.cloud.signing import Credentials
from vod.standin import Standin
from vod.standin.faults import parse

pytestmark = pytest.mark.anyio


@pytest.fixture
def poller(standin: Standin) -> Poller:
    settings = standin.settings
    keys = Credentials(ak=settings.access_key, sk=settings.secret_key)
    return Poller(AsyncVodClient(service(standin.url, settings.project_id, keys)))


@pytest.fixture
def audio(standin: Standin, client: VodClient, video: Path) -> Iterator[list[str]]:
    """Forty audio assets that stay in the queue until a test lets them go."""
    standin.behaviour.queue_seconds = 3600
    body = {"asset_id": client.upload(video)}
    url = f"{standin.url}/v1.0/{standin.settings.project_id}/asset/extract_audio"
    # Not with the client, which would take its time.
    with httpx.Client(auth=auth_of(standin), headers={"Content-Type": "application/json"}) as http:
        yield [http.post(url, json=body).json()["audio_asset_id"] for _ in range(40)]
    standin.behaviour.queue_seconds = 0


async def test_one_of_several_may_be_enough(
    standin: Standin, poller: Poller, client: VodClient, audio: list[str]
) -> None:
    wait = asyncio.create_task(
        poller.wait(audio[:5], deadline=time.time() + 30, interval=0.05, any_will_do=True)
    )
    await asyncio.sleep(0)
    standin.behaviour.faults = [parse(f"spelling,shows=PUBLISHED,asset={audio[2]}")]
    assert await wait == [*audio[:2], *audio[3:5]]
    assert not poller._watched


async def test_the_ids_of_many_tasks_share_their_calls(
    standin: Standin, poller: Poller, audio: list[str]
) -> None:
    tasks = [
        asyncio.create_task(poller.wait(audio[start : start + 4], deadline=time.time() + 1.0, interval=10))
        for start in range(0, 40, 4)
    ]
    assert sum(map(len, await asyncio.gather(*tasks))) == 40
    assert stats(standin)["calls"]["info"]["total"] == 4, "ten tasks, forty ids, four calls"
    assert not poller._watched


async def test_an_id_that_several_wait_for_is_asked_for_once(
    standin: Standin, poller: Poller, audio: list[str]
) -> None:
    tasks = [
        asyncio.create_task(poller.wait(audio[:10], deadline=time.time() + 1.0, interval=10))
        for _ in range(5)
    ]
    await asyncio.gather(*tasks)
    assert stats(standin)["calls"]["info"]["total"] <= 2, "those who join ask at once, together"


async def test_each_learns_of_its_own_and_only_of_those(
    standin: Standin, poller: Poller, audio: list[str]
) -> None:
    seen: list[set[str]] = [set(), set()]

    async def wait(number: int) -> list[str]:
        mine = audio[number * 5 : number * 5 + 5]
        return await poller.wait(
            mine, deadline=time.time() + 30, interval=0.05, on_poll=lambda read, _: seen[number].update(read)
        )

    tasks = [asyncio.create_task(wait(number)) for number in (0, 1)]
    await asyncio.sleep(0)
    standin.behaviour.queue_seconds = 0
    assert await asyncio.gather(*tasks) == [[], []]
    assert seen == [set(audio[:5]), set(audio[5:10])]


async def test_the_interval_grows(standin: Standin, poller: Poller, audio: list[str]) -> None:
    await poller.wait(audio[:1], deadline=time.time() + 2.0, interval=0.1, longest_interval=0.8)
    assert 4 <= stats(standin)["calls"]["info"]["total"] <= 9, "0, 0.1, 0.25, 0.48, 0.81, 1.3, 2.1 s"


@pytest.mark.slow
async def test_intervals_stretch_evenly_to_what_the_quota_allows(standin: Standin, audio: list[str]) -> None:
    keys = Credentials(ak=standin.settings.access_key, sk=standin.settings.secret_key)
    # 40 ids take a second, and want to be asked ten times a second.
    quotas = (("info", 240),)
    of_service = service(standin.url, standin.settings.project_id, keys, quotas=quotas)
    poller = Poller(AsyncVodClient(of_service))
    looks: dict[str, list[float]] = {asset_id: [] for asset_id in audio}

    def on_poll(read: Mapping[str, Asset], _: float) -> None:
        for asset_id in read:
            looks[asset_id].append(time.time())

    def wait(ids: list[str]) -> Coroutine[Any, Any, list[str]]:
        return poller.wait(ids, deadline=time.time() + 6, interval=0.1, longest_interval=0.1, on_poll=on_poll)

    await asyncio.gather(*(wait(audio[start : start + 8]) for start in range(0, 40, 8)))
    calls = stats(standin)["calls"]["info"]["total"]
    assert 20 <= calls <= 30
    assert sum(map(len, looks.values())) >= 9.5 * (calls - 1), "calls are full"
    assert {len(moments) for moments in looks.values()} <= {calls // 4 - 1, calls // 4, calls // 4 + 1}


@pytest.mark.slow
async def test_a_passing_fault_postpones_and_is_told_once(
    standin: Standin, poller: Poller, audio: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    standin.behaviour.faults = [parse("error,call=info,count=6")]
    standin.behaviour.queue_seconds = 0
    poller._client._session._patience = 0.0  # the poller itself is what goes on here
    with caplog.at_level(logging.WARNING, logger="vod.cloud.poller"):
        assert await poller.wait(audio[:3], deadline=time.time() + 30, interval=0.05) == []
    assert caplog.text.count("VOD cannot be read, trying on") == 1


@pytest.mark.slow
async def test_while_a_key_is_refused_one_call_is_made_for_all_at_growing_intervals(
    standin: Standin, audio: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(refusals, "FIRST_PAUSE", 0.5)
    wrong = Credentials(ak=standin.settings.access_key, sk="not-the-secret")
    poller = Poller(AsyncVodClient(service(standin.url, standin.settings.project_id, wrong)))
    deadline = time.time() + 4
    waits = [poller.wait(audio[start : start + 10], deadline=deadline) for start in range(0, 40, 10)]
    with caplog.at_level(logging.WARNING, logger="vod.cloud.poller"):
        left = await asyncio.gather(*waits)
    assert sum(map(len, left)) == 40, "nobody gave up before the time was over"
    # All at once to begin with, since nothing was known; then after 0.5, 1 and 2 s.
    assert 4 <= stats(standin)["calls"]["info"]["by_status"]["401"] <= 4 + 3
    assert not poller._watched


async def test_a_key_that_another_client_of_the_process_found_refused_is_left_in_peace(
    standin: Standin, poller: Poller, audio: list[str]
) -> None:
    poller._client._session.refusals.refused()
    await poller.wait(audio[:3], deadline=time.time() + 1)
    assert "info" not in stats(standin)["calls"]


async def test_a_key_that_was_replaced_is_asked_for_and_taken(standin: Standin, audio: list[str]) -> None:
    standin.behaviour.queue_seconds = 0
    settings = standin.settings
    right = Credentials(ak=settings.access_key, sk=settings.secret_key)
    asked: list[float] = []

    async def renew() -> AsyncVodClient | None:
        asked.append(time.time())
        return None if len(asked) == 1 else AsyncVodClient(service(standin.url, settings.project_id, right))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refusals, "FIRST_PAUSE", 0.2)
        wrong = Credentials(ak=settings.access_key, sk="old")
        poller = Poller(AsyncVodClient(service(standin.url, settings.project_id, wrong)), renew)
        assert await poller.wait(audio[:1], deadline=time.time() + 20, interval=0.05) == []
    assert len(asked) == 2
    await poller.aclose()


async def test_an_id_that_vod_calls_malformed_twice_ends_only_the_waits_for_it(
    standin: Standin, poller: Poller, audio: list[str]
) -> None:
    standin.behaviour.faults = [parse(f"refuse,call=info,code=VOD.10053,status=400,asset={audio[3]}")]
    deadline = time.time() + 20
    bad = asyncio.create_task(poller.wait(audio[3:4], deadline=deadline, interval=0.05))
    good = asyncio.create_task(poller.wait([*audio[:3], *audio[4:10]], deadline=deadline, interval=0.05))
    with pytest.raises(InvalidRequestError):
        await bad
    assert not good.done()
    standin.behaviour.queue_seconds = 0
    assert await good == []


async def test_an_id_that_vod_calls_malformed_once_is_asked_for_again(
    standin: Standin, poller: Poller, audio: list[str]
) -> None:
    standin.behaviour.queue_seconds = 0
    standin.behaviour.faults = [parse(f"refuse,call=info,code=VOD.10053,status=400,count=1,asset={audio[0]}")]
    assert await poller.wait(audio[:1], deadline=time.time() + 20, interval=0.05) == []


async def test_while_vod_cannot_be_read_few_calls_are_made(
    standin: Standin, poller: Poller, audio: list[str]
) -> None:
    poller._client._session._retry_seconds = 0.0  # the poller itself is what goes on here
    standin.behaviour.faults = [parse("error,call=info")]
    waits = [
        poller.wait(audio[start : start + 10], deadline=time.time() + 3, interval=0.1)
        for start in range(0, 40, 10)
    ]
    await asyncio.gather(*waits)
    assert stats(standin)["calls"]["info"]["total"] <= 4 + 5, (
        "four at once, then after 0.1, 0.2, 0.4, 0.8, 1.6 s"
    )


async def test_an_asset_counts_as_gone_once_vod_has_said_so_for_a_while(
    standin: Standin, poller: Poller, audio: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "CONFIRMATION_PAUSE", 1.0)
    standin.behaviour.faults = [
        parse(f"missing,asset={audio[0]}"),
        parse(f"no_asset,count=3,asset={audio[1]}"),
    ]
    gone_since: dict[str, float] = {}
    began = time.time()
    left = await poller.wait(
        audio[:2], deadline=began + 3, interval=0.05, longest_interval=0.1, gone_since=gone_since
    )
    assert left == [audio[1]], "that one was only gone for a moment"
    assert list(gone_since) == [audio[0]]
    assert began <= gone_since[audio[0]] <= began + 1


@pytest.mark.parametrize("callback", ["settled", "on_poll"])
async def test_a_mistake_of_whoever_waits_ends_his_wait(
    poller: Poller, audio: list[str], callback: str
) -> None:
    def mistaken(*_: object) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await poller.wait(audio[:1], deadline=time.time() + 5, **{callback: mistaken})  # type: ignore[arg-type]
    assert not poller._watched


async def test_whoever_is_cancelled_leaves_the_others_waiting(
    standin: Standin, poller: Poller, audio: list[str]
) -> None:
    first = asyncio.create_task(poller.wait(audio[:5], deadline=time.time() + 30, interval=0.05))
    second = asyncio.create_task(poller.wait(audio[3:8], deadline=time.time() + 30, interval=0.05))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    standin.behaviour.queue_seconds = 0
    assert await second == []
    assert not poller._watched


@pytest.mark.parametrize("quirk", ["no_asset_polls", "missing_polls", "urlless_polls"])
async def test_the_wait_outlives_the_quirks_of_a_young_asset(
    standin: Standin, poller: Poller, client: VodClient, video: Path, quirk: str
) -> None:
    setattr(standin.behaviour, quirk, 3)
    audio = client.extract_audio(client.upload(video)).audio_asset_id
    now = time.time()
    assert await poller.wait([audio], deadline=now + 20, interval=0.05, grace_until=now + 20) == []
    assert client.asset_info([audio])[audio].readiness is Readiness.READY


async def test_an_unknown_asset_is_settled_once_the_grace_is_over(
    poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller_module, "CONFIRMATION_PAUSE", 0.2)
    now = time.time()
    assert await poller.wait(["0" * 32], deadline=now + 20, interval=0.05, grace_until=now + 0.3) == []
    assert time.time() >= now + 0.3


async def test_while_nobody_waits_nothing_runs(standin: Standin, poller: Poller, audio: list[str]) -> None:
    standin.behaviour.faults = [parse("throttle,call=info,retry_after=60")]
    assert await poller.wait(audio[:1], deadline=time.time() + 0.5) == audio[:1]
    assert poller._task
    await asyncio.wait_for(poller._task, 10)
    assert stats(standin)["calls"]["info"]["total"] == 1


async def test_nothing_to_wait_for_is_no_wait(poller: Poller) -> None:
    assert await poller.wait([], deadline=time.time() + 30) == []
    assert not poller._watched
