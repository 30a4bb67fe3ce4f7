"""A malformed or missing element of an answer costs itself, never the call, and is no word of VOD."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.cloud.scripted import Script, say
from tests.conftest import service
from vod.cloud import assets
from vod.cloud.assets import Asset, PullRequest, Readiness
from vod.cloud.client import VodClient
from vod.cloud.errors import AnswerLostError
from vod.cloud.signing import Credentials

GOOD = {"asset_id": "good", "status": "PUBLISHED", "base_info": {"create_time": "20240102030405"}}
BAD: dict[str, Any] = {
    "no object": "bad",
    "null": None,
    "no id": {"status": "CREATED"},
    "id of the wrong type": {"asset_id": ["bad"], "status": "CREATED"},
    "status of the wrong type": {"asset_id": "bad", "status": {}},
    "base_info of the wrong type": {"asset_id": "bad", "status": "CREATED", "base_info": "none"},
    "title of the wrong type": {"asset_id": "bad", "status": "CREATED", "base_info": {"title": []}},
    "meta_data of the wrong type": {"asset_id": "bad", "status": "CREATED", "base_info": {"meta_data": [1]}},
}


@pytest.fixture(autouse=True)
def _not_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "_complaints", set())


@pytest.fixture
def client(script: Script) -> VodClient:
    return VodClient(service(script.url, "p", Credentials(ak="EXAMPLEAK", sk="EXAMPLESK")), retry_seconds=0)


@pytest.mark.parametrize("call", ["asset_info", "publish", "unpublish"])
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_of_states(
    client: VodClient,
    script: Script,
    caplog: pytest.LogCaptureFixture,
    call: str,
    bad: Any,
) -> None:
    script.answers = [say(200, {"asset_info_array": [bad, GOOD]})] * 2
    for _ in range(2):
        read = getattr(client, call)(["bad", "good"])
    assert read["good"].status == "PUBLISHED"
    assert read["bad"].readiness is Readiness.UNKNOWN
    assert not read["bad"].settled(grace=False)
    complaints = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(complaints) == 1, "said once"


@pytest.mark.parametrize("moment", ["soon", "2024010203040", "202401020304055", "20241301000000", 5, [], {}])
def test_of_times(client: VodClient, script: Script, moment: Any) -> None:
    """A time says little about an asset: the rest counts."""
    bad = {"asset_id": "bad", "status": "PUBLISHED", "base_info": {"create_time": moment}}
    script.answers = [say(200, {"asset_info_array": [bad, GOOD]})]
    read = client.asset_info(["bad", "good"])
    assert read["bad"].readiness is Readiness.READY
    assert read["bad"].created is None
    assert read["good"].created


def test_a_time_as_a_number_is_one() -> None:
    assert Asset.parse({"asset_id": "a", "base_info": {"create_time": 20240102030405}}).created


@pytest.mark.parametrize(
    "bad", ["bad", None, {"title": "t"}, {"asset_id": "bad", "title": []}, {"asset_id": {}}]
)
def test_of_a_list(client: VodClient, script: Script, bad: Any) -> None:
    good = {"asset_id": "good", "title": "t", "create_time": "20240102030405"}
    script.answers = [say(200, {"total": 2, "assets": [bad, good]})]
    assert [asset.asset_id for asset in client.find_by_title("t")] == ["good"]


@pytest.mark.parametrize("bad", ["bad", None, {"asset_id": "bad"}, {"status": "DELETED"}])
def test_of_deletions(client: VodClient, script: Script, bad: Any) -> None:
    script.answers = [say(200, {"delete_result_array": [bad, {"asset_id": "good", "status": "DELETED"}]})]
    assert client.delete(["bad", "good"]) == {"bad": False, "good": True}


URLS = ["http://a/bad.mp4", "http://a/good.mp4"]


@pytest.mark.parametrize(
    "elements",
    [
        ["bad", {"url": URLS[1], "asset_id": "x"}],
        [{"url": URLS[0], "asset_id": ["bad"]}, {"url": URLS[1], "asset_id": "x"}],
        [{"url": URLS[1], "asset_id": "x"}],
    ],
    ids=["no object", "id of the wrong type", "missing"],
)
def test_of_pulls(client: VodClient, script: Script, elements: list[Any]) -> None:
    script.answers = [say(200, {"upload_assets": elements})]
    lost, good = client.pull([PullRequest(url=url, title="t") for url in URLS])
    assert (lost.url, lost.asset_id, lost.error_code) == (URLS[0], None, "answer_lost")
    assert good.asset_id == "x"


@pytest.mark.parametrize("elements", ["bad", [{}, {}, {}]], ids=["no list", "too many"])
def test_an_answer_that_is_no_list_of_pulls_is_lost(
    client: VodClient,
    script: Script,
    elements: Any,
) -> None:
    script.answers = [say(200, {"upload_assets": elements})]
    with pytest.raises(AnswerLostError):
        client.pull([PullRequest(url=url, title="t") for url in URLS])


def test_pulls_of_one_url_cannot_be_told_apart(client: VodClient, script: Script) -> None:
    script.answers = [say(200, {"upload_assets": [{"url": URLS[0], "asset_id": "x"}]})]
    results = client.pull([PullRequest(url=URLS[0], title=title) for title in "ab"])
    assert [result.error_code for result in results] == ["answer_lost"] * 2
