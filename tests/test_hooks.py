from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import connection_json
from vod.cloud.errors import AuthenticationError
from vod.hooks import InvalidConnectionError, VodHook
from vod.standin import Standin
from vod.standin.faults import parse


def define(monkeypatch: pytest.MonkeyPatch, standin: Standin, **changes: Any) -> VodHook:
    given = json.loads(connection_json(standin))
    extra = {**given["extra"], **changes.pop("extra", {})}
    monkeypatch.setenv("AIRFLOW_CONN_VOD_TEST", json.dumps({**given, **changes, "extra": extra}))
    return VodHook("vod_test")


def test_the_connection_becomes_a_client(standin: Standin, connection: str, video: Path) -> None:
    hook = VodHook(connection)
    asset_id = hook.client.upload(video)
    assert hook.client.asset_info([asset_id])[asset_id].title == video.stem
    assert hook.settings.engine == "vod"


@pytest.mark.anyio
async def test_the_connection_becomes_an_asynchronous_client(standin: Standin, connection: str) -> None:
    async with VodHook(connection).async_client() as client:
        assert (await client.asset_info(["f" * 32]))["f" * 32].status == "NO_ASSET"


@pytest.mark.anyio
async def test_waiting_leaves_some_of_the_quota_to_those_who_work(standin: Standin, connection: str) -> None:
    hook = VodHook(connection)
    async with hook.poller() as poller:
        assert poller._client._session._quota_share == 0.8 * hook.settings.quota_share


def test_any_other_call_is_signed_as_well(standin: Standin, connection: str, video: Path) -> None:
    hook = VodHook(connection)
    asset_id = hook.client.upload(video)
    project = standin.settings.project_id
    answer = hook.run(f"/v1.0/{project}/asset/info", data={"asset_id": [asset_id, "f" * 32]})
    assert {element["asset_id"] for element in answer.json()["asset_info_array"]} == {asset_id, "f" * 32}
    posted = VodHook(connection, method="POST").run(
        f"/v1.0/{project}/asset/status/publish", data=json.dumps({"asset_id": [asset_id]})
    )
    assert posted.json()["asset_info_array"][0]["status"] == "PUBLISHED"


def test_nothing_of_the_extra_becomes_a_header(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = define(monkeypatch, standin, extra={"api_token": "hush-hush"})
    session = hook.get_conn()
    assert "hush-hush" not in str(session.headers)
    assert "api_token" not in session.headers


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"login": ""}, "access key"),
        ({"password": ""}, "secret key"),
        ({"login": "AK\N{NO-BREAK SPACE}"}, "access key holds a character"),
        ({"extra": {"security_token": "one\ntwo"}}, "security token holds a character"),
        ({"extra": {"timeout": "soon"}}, "timeout 'soon'"),
        ({"extra": {"quota_share": 2}}, "quota_share 2"),
        ({"host": "", "extra": {"region": ""}}, "region, or an endpoint"),
        ({"extra": {"engine": "gstreamer"}}, "unknown engine 'gstreamer'"),
    ],
)
def test_what_a_connection_lacks_is_named(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidConnectionError, match=named) as caught:
        define(monkeypatch, standin, **changes).settings  # noqa: B018 - reading it is the test
    assert "vod_test" in str(caught.value)
    assert standin.settings.secret_key not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "endpoint"),
    [
        ({"host": "", "extra": {"region": "ap-southeast-3"}}, "https://vod.ap-southeast-3.myhuaweicloud.com"),
        ({"host": "vod.example.com"}, "https://vod.example.com"),
        ({"host": "http://localhost", "port": 8600}, "http://localhost:8600"),
        ({"host": "http://localhost:8600", "port": 443}, "http://localhost:8600"),
        ({"host": "http://[::1]", "port": 8600}, "http://[::1]:8600"),
    ],
)
def test_the_endpoint(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], endpoint: str
) -> None:
    assert define(monkeypatch, standin, **changes).settings.endpoint == endpoint


def test_a_missing_connection_is_one_sentence_with_a_remedy() -> None:
    with pytest.raises(
        InvalidConnectionError, match=r"'nowhere' is not defined.*Admin > Connections"
    ) as caught:
        VodHook("nowhere").client  # noqa: B018 - reading it is the test
    assert "AIRFLOW_CONN_NOWHERE" in str(caught.value)


@pytest.mark.anyio
async def test_a_missing_connection_in_the_triggerer() -> None:
    with pytest.raises(InvalidConnectionError, match="'nowhere' is not defined"):
        async with VodHook("nowhere").async_client():
            pass


def test_the_test_button(standin: Standin, connection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert VodHook(connection).test_connection() == (True, f"VOD at {standin.url} accepts the keys.")
    ok, words = define(monkeypatch, standin, password="not-the-secret").test_connection()
    assert not ok
    assert "Check access key, secret key" in words
    assert "not-the-secret" not in words
    ok, words = VodHook("nowhere").test_connection()
    assert not ok
    assert "is not defined" in words
    ok, words = define(monkeypatch, standin, host="http://127.0.0.1:1").test_connection()
    assert not ok
    assert "cannot be reached" in words


def test_a_wrong_project_is_an_authentication_error(
    standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = define(monkeypatch, standin, extra={"project_id": "f" * 32})
    with pytest.raises(AuthenticationError):
        hook.client.asset_info(["a"])


@pytest.mark.anyio
@pytest.mark.parametrize(("retry_after", "least"), [("", 0.0), (",retry_after=1", 1.0)])
async def test_a_look_that_was_refused_for_the_quota_does_not_wait_a_whole_interval(
    standin: Standin, connection: str, retry_after: str, least: float
) -> None:
    standin.behaviour.faults = [parse(f"throttle,call=info,count=1{retry_after}")]
    started = time.monotonic()
    async with VodHook(connection).poller() as poller:
        assert await poller.wait(["f" * 32], deadline=time.time() + 30, interval=60) == []
    assert time.monotonic() - started >= least


@pytest.mark.anyio
async def test_a_poller_lives_as_long_as_somebody_holds_it(connection: str) -> None:
    """Also when he has not begun to wait while another one leaves."""
    async with VodHook(connection).poller() as mine:
        async with VodHook(connection).poller() as shared:
            assert shared is mine
        assert await mine.wait(["f" * 32], deadline=time.time() + 20, interval=0.05) == []
    async with VodHook(connection).poller() as later:
        assert later is not mine
