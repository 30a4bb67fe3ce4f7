"""``obs://`` against a real S3 server that checks signatures: moto's, on the loopback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath

from tests.object_store import ObjectStore, running_store
from vod.connection import InvalidConnectionError
from vod.errors import InvalidInputError
from vod.storage.destination import Destination
from vod.storage.obs import get_fs
from vod.storage.sources import local_copy

pytest.importorskip("s3fs")


@pytest.fixture(scope="module")
def obs() -> Iterator[ObjectStore]:
    """A bucket, and the one access key that may use it."""
    with running_store() as store:
        yield store


def test_written_read_and_listed(obs: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    obs.connect(monkeypatch, "obs_listed")
    folder = ObjectStoragePath("obs://obs_listed@media/listed")
    (folder / "a.txt").write_text("one")
    with (folder / "deep" / "b.bin").open("wb") as file:
        file.write(b"2" * 6_000_000)
    assert (folder / "a.txt").read_text() == "one"
    assert (folder / "deep" / "b.bin").stat().st_size == 6_000_000
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "deep"]
    assert [path.path for path in folder.rglob("*.bin")] == ["media/listed/deep/b.bin"]
    assert str(folder / "a.txt") == "obs://obs_listed@media/listed/a.txt"
    assert not (folder / "c.txt").exists()
    bucket = ObjectStoragePath("obs://obs_listed@media")
    assert "listed" in [path.name for path in bucket.iterdir()]
    assert str(bucket / "top.txt") == "obs://obs_listed@media/top.txt"


@pytest.mark.parametrize("folder", ["media", "media/audio/deep"])
def test_a_destination(obs: ObjectStore, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    obs.connect(monkeypatch, "obs_destination")
    destination = Destination(f"obs://obs_destination@{folder}")
    assert destination.size("talk.mp3") is None
    with destination.writing("talk.mp3") as path:
        path.write_bytes(b"sound")
    assert destination.size("talk.mp3") == 5
    assert destination.uri("talk.mp3") == f"obs://obs_destination@{folder}/talk.mp3"
    hook: Any = None  # object storage does not need it
    with local_copy(destination.uri("talk.mp3"), hook) as copy:
        assert copy.read_bytes() == b"sound"


def test_the_example_of_the_docs(
    obs: ObjectStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    obs.connect(monkeypatch, "vod_default")
    docs = (Path(__file__).parents[2] / "docs" / "connection.md").read_text()
    [example] = re.findall(r"```python\n(.*?)```", docs, re.DOTALL)
    exec(example, {})
    assert "note.txt" in capsys.readouterr().out


def test_a_wrong_secret_is_refused(obs: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """This also shows that the server of these tests does look at signatures."""
    obs.connect(monkeypatch, "obs_wrong", password="not-the-secret")
    with pytest.raises(PermissionError) as caught:
        ObjectStoragePath("obs://obs_wrong@media/x").write_text("x")
    assert "not-the-secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "host"),
    [
        ({"obs_endpoint": None}, "https://media.obs.ap-southeast-3.myhuaweicloud.com/"),
        ({"obs_endpoint": "obs.example.com"}, "https://media.obs.example.com/"),
    ],
)
def test_the_bucket_is_part_of_the_host_as_obs_wants_it(
    obs: ObjectStore, monkeypatch: pytest.MonkeyPatch, extra: dict[str, Any], host: str
) -> None:
    obs.connect(monkeypatch, "obs_host", extra={**extra, "security_token": "temporary"})
    signed = get_fs("obs_host").sign("obs://media/a.mp3")
    assert signed.startswith(f"{host}a.mp3?")
    assert "X-Amz-Security-Token=temporary" in signed


def test_no_checksums_that_obs_refuses(obs: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    obs.connect(monkeypatch, "obs_checksums")
    fs = get_fs("obs_checksums")
    sent: list[dict[str, Any]] = []
    fs.connect()
    fs.s3.meta.events.register("before-send.s3", lambda request, **_: sent.append(dict(request.headers)))
    fs.pipe_file("obs://media/plain.bin", b"plain")
    assert fs.cat_file("obs://media/plain.bin") == b"plain"
    assert sent
    assert not [name for headers in sent for name in headers if "checksum" in name.lower()]


def test_token_login_cannot_be_used(obs: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    obs.connect(monkeypatch, "obs_token", extra={"account": "somebody"})
    with pytest.raises(InvalidConnectionError, match="OBS takes access keys only"):
        get_fs("obs_token")


def test_a_url_without_a_connection_goes_nowhere() -> None:
    with pytest.raises(InvalidInputError, match="obs://<connection>@<bucket>/<key>"):
        ObjectStoragePath("obs://media/x").read_text()


def test_a_url_with_an_unknown_connection_goes_nowhere() -> None:
    with pytest.raises((InvalidInputError, InvalidConnectionError), match="connection"):
        ObjectStoragePath("obs://nowhere@media/x").read_text()


def test_without_s3fs_it_says_what_to_install(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["s3fs"] = None
from vod.errors import InvalidInputError
from vod.storage.destination import Destination
try:
    Destination("obs://vod_default@media/audio")
except InvalidInputError as error:
    print("SAID", error)
from airflow.sdk.io import has_fs
print("OTHERS", has_fs("file"))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install 's3fs'" in done.stdout
    assert "OTHERS True" in done.stdout


def test_the_error_of_an_unknown_scheme_stays() -> None:
    with pytest.raises(InvalidInputError, match="No file system"):
        Destination("nope://bucket/audio")
