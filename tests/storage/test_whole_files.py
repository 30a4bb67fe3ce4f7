"""Under its final name a file is whole, whatever interrupts its writer; what was interrupted is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from tests.conftest import attach_memory
from tests.object_store import BUCKET, ObjectStore, running_store
from vod.storage.destination import Destination
from vod.storage.errors import StorageError

pytest.importorskip("s3fs")

SIZE = 160 << 20
"""Bytes: ten parts."""

WRITER = """
import signal, sys
from airflow.sdk.exceptions import AirflowTaskTimeout
from vod.storage.destination import Destination, replacing

def out_of_time(*_):
    raise AirflowTaskTimeout("timed out")

signal.signal(signal.SIGALRM, out_of_time)  # as execution_timeout does
with Destination(sys.argv[1]).writing("talk.mp3") as path, replacing(path) as part, part.open("wb") as file:
    file.truncate(int(sys.argv[2]))
"""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with running_store() as store:
        store.connect(monkeypatch, "obs_whole")
        yield store


def wait_for(condition: Any, child: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert child is None or child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def parts_of(store: ObjectStore) -> int:
    client = store.client()
    return sum(
        len(client.list_parts(Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"]).get("Parts", []))
        for one in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    )


@pytest.mark.parametrize(
    "interruption",
    [
        pytest.param(signal.SIGALRM, marks=pytest.mark.slow),
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "before",
    [pytest.param(b"", marks=pytest.mark.slow), b"of an earlier run"],
    ids=["first", "replaced"],
)
def test_an_interrupted_upload_leaves_nothing_under_the_name(
    store: ObjectStore, interruption: signal.Signals, before: bytes
) -> None:
    if before:
        store.client().put_object(Bucket=BUCKET, Key="audio/talk.mp3", Body=before)
    earlier = store.sizes()
    with store.holding("partNumber=7"):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, f"obs://obs_whole@{BUCKET}/audio", str(SIZE)],
            stderr=subprocess.PIPE,
        )
        wait_for(lambda: parts_of(store), child)
        assert parts_of(store) < SIZE >> 24, "the test must have interrupted it at work"
        child.send_signal(interruption)
        complaint = child.communicate()[1].decode()
    assert ("AirflowTaskTimeout" in complaint) is (interruption == signal.SIGALRM)
    assert store.sizes() == earlier


@pytest.mark.slow
def test_a_file_in_parts_is_never_seen_half(store: ObjectStore) -> None:
    seen: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.extend(store.sizes().values())

    watcher = threading.Thread(target=watch)
    watcher.start()
    destination = Destination(f"obs://obs_whole@{BUCKET}")
    with destination.writing("talk.mp3") as path, path.open("wb") as file:
        file.truncate(SIZE)
    wait_for(lambda: seen)
    done.set()
    watcher.join()
    assert set(seen) == {SIZE}
    assert store.client().head_object(Bucket=BUCKET, Key="talk.mp3")["ETag"].endswith('-10"'), "in ten parts"


@pytest.mark.parametrize("failure", [OSError("gone"), KeyboardInterrupt()])
def test_a_store_that_shows_what_is_being_written_gets_it_under_another_name(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """fsspec's file system in memory is such a one, as are SFTP and shares of Windows."""
    storage = fsspec.filesystem("memory")
    attach_memory(storage)
    folder = f"/whole-{os.getpid()}-{time.time_ns()}"
    destination = Destination(f"memory:/{folder}")
    real = storage.put_file

    def break_off(local: str, remote: str, **options: Any) -> None:
        real(local, remote, **options)
        with storage.open(remote, "wb") as file:
            file.write(b"hal")
        raise failure

    def write() -> None:
        with destination.writing("talk.mp3") as path:
            path.write_bytes(b"whole")

    monkeypatch.setattr(storage, "put_file", break_off)
    with pytest.raises(StorageError if isinstance(failure, OSError) else KeyboardInterrupt):
        write()
    assert storage.ls(folder, detail=False) == []
    monkeypatch.setattr(storage, "put_file", lambda *_, **__: storage.pipe_file(f"{_[1]}", b"who"))
    with pytest.raises(StorageError, match="3 of 5 bytes arrived"):
        write()
    assert storage.ls(folder, detail=False) == []
    monkeypatch.undo()
    write()
    assert storage.ls(folder, detail=False) == [f"{folder}/talk.mp3"]
    assert destination.read("talk.mp3") == b"whole"


@pytest.mark.slow
def test_a_killed_writer_leaves_nothing_once_the_folder_is_written_to_again(tmp_path: Path) -> None:
    (tmp_path / ".stranger.part").write_bytes(b"not ours")
    child = subprocess.Popen([sys.executable, "-c", f"{WRITER}    signal.pause()", tmp_path, "1000"])
    wait_for(lambda: list(tmp_path.glob(".vod-*")), child)
    beside = Destination(str(tmp_path))
    with beside.writing("b.mp3") as path:
        path.write_bytes(b"b")
    assert len(list(tmp_path.glob(".vod-*"))) == 1, "its writer is alive"
    child.kill()
    child.wait()
    assert not (tmp_path / "talk.mp3").exists()
    with Destination(str(tmp_path)).writing("c.mp3") as path:
        path.write_bytes(b"c")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".stranger.part", "b.mp3", "c.mp3"]
