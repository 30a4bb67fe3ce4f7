"""An Airflow connection becomes a client, blocking and asynchronous, with its own errors."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from requests.exceptions import InvalidSchema

from tests.cloud.test_client import Script, say
from tests.conftest import connection_json, stats
from vod.cloud.assets import Asset
from vod.cloud.budget import budget_of
from vod.cloud.errors import AnswerLostError, AssetNotFoundError, AuthenticationError, InvalidRequestError
from vod.connection import InsecureEndpointError, InvalidConnectionError
from vod.hooks import VodHook
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
        assert poller._client._session._quota_share == 0.8 * hook.settings.service.quota_share


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


def test_the_project_of_any_other_call_may_be_looked_up(
    standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = {"project_id": "", "iam_endpoint": standin.url}
    hook = define(monkeypatch, standin, extra=extra)
    assert hook.run("v1.0/{project_id}/asset/info?asset_id=a&asset_id=b").json()["total"] == 2


def with_token(monkeypatch: pytest.MonkeyPatch, standin: Standin) -> VodHook:
    settings = standin.settings
    extra = {"account": settings.account, "iam_endpoint": standin.url}
    return define(monkeypatch, standin, login=settings.user, password=settings.password, extra=extra)


@pytest.mark.parametrize("fault", ["revoke_tokens", "throttle,call=info,count=1", "drop,call=info,count=1"])
def test_any_other_call_is_repeated_as_those_of_the_client_are(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    hook = with_token(monkeypatch, standin)
    hook.client.asset_info(["a"])
    standin.behaviour.faults = [parse(fault)]
    assert hook.run("v1.0/{project_id}/asset/info", data={"asset_id": "a"}).status_code == 200


def test_any_other_call_fails_in_the_same_words(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(AssetNotFoundError, match=r"VOD\.10062") as caught:
        define(monkeypatch, standin).run("v1.0/{project_id}/asset/details", data={"asset_id": "a"})
    assert caught.value.request_id
    hook = define(monkeypatch, standin, password="not-the-secret", extra={"security_token": "hush-hush"})
    with pytest.raises(AuthenticationError, match="Check access key, secret key"):
        hook.run("v1.0/{project_id}/asset/info")
    assert stats(standin)["calls"]["info"]["total"] == 1, "five failures lock the key: never repeat one"
    assert "hush-hush" not in caplog.text
    hook = define(monkeypatch, standin, extra={"timeout": 1})
    hook.method = "POST"
    standin.behaviour.faults = [parse("latency,seconds=3")]
    with pytest.raises(AnswerLostError, match="ReadTimeout"):
        hook.run("v1.0/{project_id}/asset/status/publish", data='{"asset_id": ["a"]}')


def test_keys_and_tokens_go_to_the_endpoint_alone(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    here, elsewhere = Script(), Script()
    try:
        here.answers = [say(307, Location=f"{elsewhere.url}/asset")]
        elsewhere.answers = [say(200, {})] * 2
        hook = with_token(monkeypatch, standin)
        hook.settings = replace(hook.settings, service=replace(hook.settings.service, endpoint=here.url))
        with pytest.raises(InvalidRequestError, match="307"):
            hook.run("v1.0/{project_id}/asset/info")
        with pytest.raises(InvalidSchema):
            hook.get_conn().get(f"{elsewhere.url}/asset")
        assert (here.asked, elsewhere.asked) == (["GET info"], [])
    finally:
        here.close()
        elsewhere.close()


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
        ({"extra": {"quotas": {"extracts": 5}}}, "has invalid quotas"),
        ({"extra": {"quotas": {"extract": 0}}}, "quota of extract 0 is not a number from 1 to 1000000"),
        ({"extra": {"quotas": [1]}}, "has invalid quotas"),
        ({"host": "", "extra": {"region": ""}}, "region, or an endpoint"),
        ({"extra": {"allow_http": "perhaps"}}, "allow_http 'perhaps'"),
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
        ({"host": "https://vod.example.com/", "port": 443}, "https://vod.example.com:443/"),
        ({"host": "http://localhost/base", "port": 8600}, "http://localhost:8600/base"),
        ({"host": "http://[::1]", "port": 8600}, "http://[::1]:8600"),
    ],
)
def test_the_endpoint(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], endpoint: str
) -> None:
    assert define(monkeypatch, standin, **changes).settings.service.endpoint == endpoint


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "http://vod.example.com"},
        {"host": "HTTP://vod.example.com"},
        {"host": "http://user@vod.example.com:8600"},
        {"host": "http://127.0.0.1.example.com"},
        {"host": "http://10.0.0.1", "port": 8600},
        {"host": "http://localhost@vod.example.com"},
        {"extra": {"iam_endpoint": "http://iam.example.com"}},
        {"extra": {"account": "company", "iam_endpoint": " http://iam.example.com"}},
        {"extra": {"obs_endpoint": "http://obs.example.com"}},
        {"host": "http://vod.example.com", "extra": {"allow_http": False}},
    ],
)
def test_secrets_are_not_sent_in_clear(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    with pytest.raises(InsecureEndpointError, match=r"without encryption.*allow_http"):
        define(monkeypatch, standin, **changes).settings  # noqa: B018 - reading it is the test


@pytest.mark.parametrize("allowed", [True, "true", "True", "1"])
def test_a_trusted_network_can_be_allowed(
    standin: Standin, monkeypatch: pytest.MonkeyPatch, allowed: object
) -> None:
    changes = {"host": "http://vod.example.com", "extra": {"allow_http": allowed}}
    assert define(monkeypatch, standin, **changes).settings.service.endpoint == "http://vod.example.com"


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
        assert await poller.wait(["f" * 32], deadline=time.time() + 30, interval=60, settled=_seen) == []
    assert time.monotonic() - started >= least


@pytest.mark.anyio
async def test_a_poller_lives_as_long_as_somebody_holds_it(connection: str) -> None:
    """Also when he has not begun to wait while another one leaves."""
    async with VodHook(connection).poller() as mine:
        async with VodHook(connection).poller() as shared:
            assert shared is mine
        assert await mine.wait(["f" * 32], deadline=time.time() + 20, interval=0.05, settled=_seen) == []
    async with VodHook(connection).poller() as later:
        assert later is not mine


def test_a_quota_that_was_granted_is_used(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    value = connection_json(standin, quotas={"extract": 500}, quota_share=0.5)
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", value)
    quotas = VodHook().client._coroutines._session._quotas
    assert (quotas["extract"], quotas["info"]) == (500, 1500)
    asset = standin.add_virtual(1)[0]
    VodHook().client.extract_audio(asset)
    service = VodHook().settings.service
    budget = budget_of(f"{service.endpoint}/{service.project_id}", "extract", 250.0)
    assert 230 < budget.per_minute <= 250
    assert len(budget._passed) == 1, "the client uses this budget"


def _seen(_: Asset) -> bool:
    """One look at whatever it is will do."""
    return True
