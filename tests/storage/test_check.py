"""What is wrong with a destination is said before anything is done; the check leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.io import fs
from airflow.sdk.io import store as stores

from tests.object_store import BUCKET, REGION, ObjectStore, refusing_store, running_store
from vod import media
from vod.storage.destination import Destination
from vod.storage.errors import StorageRefusedError

s3fs = pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with running_store() as store:
        yield store


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    Destination(str(tmp_path / "new" / "audio")).check()
    assert list((tmp_path / "new" / "audio").iterdir()) == []


@pytest.mark.parametrize("what", ["file", "below a file", "no permission", "read-only"])
def test_a_folder_that_cannot_be_written_to(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "audio"
    if what == "file":
        folder.write_bytes(b"")
    elif what == "below a file":
        folder.write_bytes(b"")
        folder = folder / "deep"
    elif what == "no permission":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        folder.mkdir(mode=0o500)
    else:
        folder = Path("/proc/vod-audio")
    with pytest.raises(media.DestinationError) as caught:
        Destination(str(folder)).check()
    assert str(folder) in str(caught.value)
    assert "Choose a destination" in str(caught.value)
    assert not caught.value.retryable


@pytest.mark.parametrize("below", ["", "/audio/deep"])
def test_object_storage_is_written_to_and_left_as_it_was(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    store.connect(monkeypatch, "obs_check")
    Destination(f"obs://obs_check@{BUCKET}{below}").check()
    assert store.sizes() == {}


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        (["s3:GetObject", "s3:ListBucket"], "may not be written to with these keys"),
        (["s3:PutObject", "s3:GetObject", "s3:ListBucket"], "may write, but not delete"),
    ],
)
def test_keys_that_may_not_do_enough(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, actions: list[str], words: str
) -> None:
    name = f"user{len(actions)}"
    key = store.user(name, actions)
    store.connect(monkeypatch, f"obs_{name}", login=key[0], password=key[1])
    with pytest.raises(StorageRefusedError) as caught:
        Destination(f"obs://obs_{name}@{BUCKET}/audio").check()
    assert words in str(caught.value)
    assert f"obs://obs_{name}@{BUCKET}/audio" in str(caught.value)


@pytest.fixture
def amazon(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """``s3://`` as the provider amazon makes it for a URL that names no connection, without credentials."""

    def get_fs(conn_id: str | None, options: Any = None) -> Any:
        return s3fs.S3FileSystem(
            anon=True,
            endpoint_url=url,
            client_kwargs={"region_name": REGION},
            skip_instance_cache=True,
        )

    monkeypatch.setitem(fs._BUILTIN_SCHEME_TO_FS, "s3", get_fs)
    fs._register_filesystems.cache_clear()
    with refusing_store(403, "AccessDenied") as url:  # as Amazon answers
        yield f"{BUCKET}/audio"
    fs._register_filesystems.cache_clear()
    for alias in ("s3", "s3-nobody"):
        stores._STORE_CACHE.pop(alias, None)


@pytest.mark.parametrize(
    ("user", "remedy"),
    [
        ("", f"Name a connection in the URL, such as s3://aws_default@{BUCKET}/audio, or give the worker "),
        ("nobody@", "Give the connection nobody keys, or the worker "),
    ],
)
def test_without_credentials_it_says_what_is_missing(amazon: str, user: str, remedy: str) -> None:
    with pytest.raises(StorageRefusedError) as caught:
        Destination(f"s3://{user}{amazon}").check()
    assert "The access is anonymous." in str(caught.value)
    assert f"{remedy}credentials." in str(caught.value)
