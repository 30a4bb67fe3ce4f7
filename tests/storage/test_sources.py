"""Whatever a task may name is read, or refused before anything is done."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.conftest import attach_memory, client_of
from vod.errors import InvalidInputError
from vod.hooks import VodHook
from vod.locations import asset_uri, file_stem, is_asset_id, local_path
from vod.standin import Standin
from vod.storage.destination import Destination
from vod.storage.outside import outside_url
from vod.storage.sources import check_source, local_copy

ASSET = "3e1cd21131a94525be55acf65888bf46"
NASTY = [
    '/m/it\'s "quoted".mp4',
    "/m/-dash.mp4",
    "/m/%d.mp4",
    "/m/a:b.mp4",
    "/m/日本語.mp4",
    f"/m/{'x' * 300}.mp4",
    "/m/..mp4",
    "/m/ .mp4",
]


@pytest.fixture(autouse=True)
def _memory_storage() -> None:
    """fsspec's file system in memory, as an object storage that needs no account."""
    attach_memory()


@pytest.mark.parametrize("asset", [ASSET, "5412", "a-b_c"])
def test_ids_are_opaque(asset: str) -> None:
    assert is_asset_id(asset)
    check_source(asset)
    assert file_stem(asset) == asset


@pytest.mark.parametrize(
    "asset", ["/media/a.mp4", "file:///media/a.mp4", "s3://b/a.mov", "a.mp4", "a/b", "é"]
)
def test_paths_and_urls_are_not_ids(asset: str) -> None:
    assert not is_asset_id(asset)


@pytest.mark.parametrize(
    ("asset", "sentence"),
    [("talk.mp4", "absolute path"), ("./talk.mp4", "absolute path"), ("gopher://x/a", "No file system")],
)
def test_a_source_that_cannot_be_read_is_refused_before_anything_is_done(asset: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        check_source(asset)
    assert caught.value.asset == asset


def test_a_file_url_is_a_local_path() -> None:
    path = Path("/media/my talk #1 100%.mp4")
    assert local_path(path.as_uri()) == path
    assert local_path("s3://b/a.mov") is None


@pytest.mark.parametrize("asset", NASTY)
def test_stems_are_harmless_and_stable(asset: str) -> None:
    stem = file_stem(asset)
    assert stem == file_stem(asset)
    assert not stem.startswith(("-", "."))
    assert not set(stem) & set("/\\:%'\" \n")
    assert len(stem.encode()) <= 120


def test_stems_of_different_assets_differ() -> None:
    stems = {
        file_stem(asset) for asset in ["/a/talk.mp4", "/b/talk.mp4", "s3://a/talk.mp4", "/a/talk.mkv", *NASTY]
    }
    assert len(stems) == 4 + len(NASTY)


@pytest.mark.parametrize("scheme", ["id", "vod", "path", "file", "memory"])
def test_a_local_copy_of_everything(
    scheme: str, standin: Standin, connection: str, video: Path, tmp_path: Path
) -> None:
    hook = VodHook(connection)
    where = str(video)
    if scheme in ("id", "vod"):
        asset_id = client_of(standin).upload(video)
        where = asset_id if scheme == "id" else asset_uri(connection, asset_id)
    elif scheme == "file":
        where = video.as_uri()
    elif scheme == "memory":
        bucket = Destination(f"memory://bucket-{uuid.uuid4().hex}/v")
        with bucket.writing("a.mp4") as path:
            path.write_bytes(video.read_bytes())
        where = bucket.uri("a.mp4")
    with local_copy(where, hook) as copy:
        assert copy.read_bytes() == video.read_bytes()
    assert copy.exists() is (scheme in ("path", "file")), "copies are removed, originals are not"


@pytest.mark.parametrize("other", ["vod_b", "team b/50%"])
def test_an_asset_of_another_connection_is_refused_before_anything_is_asked(other: str) -> None:
    uri, mine = asset_uri(other, ASSET), VodHook("not_even_defined")
    for read in (lambda: local_copy(uri, mine).__enter__(), lambda: outside_url(uri, mine)):
        with pytest.raises(InvalidInputError, match="belongs to the connection") as caught:
            read()
        assert caught.value.asset == uri
        assert caught.value.message.endswith(f"{other}, and this task uses not_even_defined.")
        assert f"vod_conn_id={other!r}" in caught.value.remedy
    assert check_source(uri, vod_conn_id=other).name == ASSET
    assert check_source(uri).name == ASSET, "whoever follows the address itself may read any"
