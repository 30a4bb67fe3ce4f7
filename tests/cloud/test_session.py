"""Whoever observes the calls hears of each request once, and how it was answered."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from vod.cloud import session
from vod.cloud.errors import CloudError
from vod.cloud.runtime import LoopRuntime
from vod.cloud.session import Session
from vod.cloud.settings import ServiceSettings
from vod.cloud.signing import Credentials
from vod.standin import Standin, StandinSettings, faults

Answers = list[tuple[str, str, str]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Service, call and answer of each request."""
    seen: Answers = []
    monkeypatch.setattr(session, "observers", [lambda *told: seen.append(told[:3])])
    return seen


def session_of(endpoint: str) -> Session:
    known = StandinSettings(data=".")  # type: ignore[arg-type]
    keys = Credentials(ak=known.access_key, sk=known.secret_key)
    settings = ServiceSettings(endpoint=endpoint, project_id=known.project_id, credentials=keys)
    return Session(settings, retry_seconds=0.0, runtime=LoopRuntime())


def asking(calls: Session) -> Any:
    return calls.call("GET", "/asset/info", dict, quota="info", params={"asset_id": "f" * 32})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        (None, "ok"),
        (faults.Throttle(call="info"), "throttled"),
        (faults.Refuse(call="info", code="APIGW.0301", status=401), "refused"),
        (faults.Error(call="info", status=503), "failed"),
        (faults.Drop(call="info"), "lost"),
    ],
)
async def test_how_a_request_was_answered(
    standin: Standin, answers: Answers, fault: faults.Fault | None, answer: str
) -> None:
    standin.behaviour.faults = [fault] if fault else []
    calls = session_of(standin.url)
    with suppress(CloudError):
        await asking(calls)
    assert answers == [("VOD", "info", answer)]
    await calls.http.aclose()


@pytest.mark.anyio
async def test_nobody_there(answers: Answers) -> None:
    calls = session_of("http://127.0.0.1:9")
    with pytest.raises(CloudError):
        await asking(calls)
    assert answers == [("VOD", "info", "unreachable")]
    await calls.http.aclose()


@pytest.mark.anyio
async def test_a_request_that_nobody_waits_for_any_more(answers: Answers) -> None:
    arrived = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        arrived.set()
        await reader.read()  # until the other side goes
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    calls = session_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    call = asyncio.ensure_future(asking(calls))
    await arrived.wait()
    call.cancel()
    with suppress(asyncio.CancelledError):
        await call
    assert answers == [("VOD", "info", "cancelled")]
    await calls.http.aclose()
    server.close()
