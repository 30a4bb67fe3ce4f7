"""Requests run blocking or on an event loop with the same result, and no log shows their secrets."""

from __future__ import annotations

import os

import pytest

from tests.cloud.test_client import INFO, KEYS, Script, say, script  # noqa: F401 - a fixture
from tests.conftest import service
from vod.cloud.client import AsyncVodClient, VodClient
from vod.cloud.errors import NotSentError

ELSEWHERE = "http://vod.invalid"


@pytest.fixture(autouse=True)
def no_proxies_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("scheme", ["http://", ""])
async def test_the_proxies_of_the_environment_are_those_of_both_clients(
    script: Script,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    scheme: str,
) -> None:
    monkeypatch.setenv(variable, scheme + script.url.removeprefix("http://"))
    script.answers = [say(200, INFO)] * 2
    client = AsyncVodClient(service(ELSEWHERE, "p", KEYS))
    assert await client.asset_info(["a"]) == VodClient(service(ELSEWHERE, "p", KEYS)).asset_info(["a"])
    await client.aclose()
    assert script.asked == ["GET info"] * 2
    monkeypatch.setenv("no_proxy", "vod.invalid")
    with pytest.raises(NotSentError):
        VodClient(service(ELSEWHERE, "p", KEYS), retry_seconds=0.0).asset_info(["a"])
