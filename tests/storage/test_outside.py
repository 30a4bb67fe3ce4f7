"""A service of the cloud can fetch what it is given a URL for, and is given none for what it cannot fetch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests.conftest import connection_json
from tests.object_store import ObjectStore, running_store
from vod.cloud.client import VodClient
from vod.connection import InvalidConnectionError
from vod.hooks import VodHook
from vod.speech.errors import UnreachableAudioError
from vod.standin import Standin
from vod.storage.outside import SIGNED_SECONDS, outside_url

URI = "obs://obs_outside@media/talks/长~talk+1.mp3"


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    pytest.importorskip("s3fs")
    with running_store() as running:
        yield running


@pytest.fixture
def hook(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> VodHook:
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection_json(standin))
    return VodHook()


def test_an_object_is_read_without_a_key(
    store: ObjectStore, hook: VodHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.connect(monkeypatch, "obs_outside")
    store.client().put_object(Bucket="media", Key="talks/长~talk+1.mp3", Body=b"sound")
    url = outside_url(URI, hook)
    assert store.password not in url
    with store.unchecked():
        assert httpx.get(url).content == b"sound"
        assert httpx.get(url.partition("?")[0]).status_code == 403, "only who has the signature may read"
    # SIS fetches hours later.
    query = {name.lower(): values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert "x-amz-expires" in query or "expires" in query
    assert int(query.get("x-amz-expires", SIGNED_SECONDS)) == SIGNED_SECONDS


def test_an_object_behind_a_connection_that_is_not_there(hook: VodHook) -> None:
    pytest.importorskip("s3fs")
    with pytest.raises(InvalidConnectionError, match="'obs_nobody_made' is not defined"):
        outside_url("obs://obs_nobody_made@media/a.mp3", hook)


def test_an_asset_is_read_without_a_key(client: VodClient, hook: VodHook, video: Path) -> None:
    asset = client.upload(video)
    assert httpx.get(outside_url(f"vod://vod_default/{asset}", hook)).content == video.read_bytes()


@pytest.mark.parametrize("url", ["https://media.example.com/a.mp3?Signature=x", "https://例え.example/a.mp3"])
def test_a_public_url_is_given_as_it_is(hook: VodHook, url: str) -> None:
    assert outside_url(url, hook) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://10.0.0.1/a.mp3",
        "https://[fd00::1]/a.mp3",
        "https://localhost/a.mp3",
        "https://recorder/a.mp3",
        "https://recorder./a.mp3",
        "file:///media/a.mp3",
        "/media/a.mp3",
    ],
)
def test_what_only_this_machine_or_network_reaches(hook: VodHook, url: str) -> None:
    with pytest.raises(UnreachableAudioError, match="cannot fetch") as caught:
        outside_url(url, hook)
    assert "obs://" in caught.value.remedy
