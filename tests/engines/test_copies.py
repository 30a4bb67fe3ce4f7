"""The vod engine copies each file once, whatever is killed, and one that fails costs only itself."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowTaskTimeout

from tests.conftest import DictStore, client_of, connection_json, settle, stats
from tests.object_store import BUCKET, ObjectStore, running_store
from vod import media
from vod.batch.ledger import Ledger, LedgerPages
from vod.cloud.client import VodClient
from vod.engines import Outcomes, SubmissionStoppedError
from vod.engines.copies import AT_ONCE
from vod.engines.vod import VodEngine
from vod.hooks import VodHook
from vod.locations import local_path
from vod.records import AssetFailure, ExtractedAudio, SubmittedExtraction
from vod.standin import Standin
from vod.standin.faults import parse
from vod.storage.destination import Destination

QUOTAS = {"extract": 100_000, "info": 100_000}


@pytest.fixture(autouse=True)
def connection(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection_json(standin))


class Task:
    """A task whose engine copies; what it has submitted is ready."""

    def __init__(self, standin: Standin, video: Path, assets: int) -> None:
        self.standin = standin
        self.store = DictStore()
        client = client_of(standin)
        self.assets = [client.upload(video, title=f"video {number}") for number in range(assets)]
        submitted = self.engine(None).start(self.assets)
        audio = [one.audio_asset_id for one in submitted.values() if isinstance(one, SubmittedExtraction)]
        settle(client, *audio)
        client.close()

    def engine(self, destination: str | None) -> VodEngine:
        ledger = Ledger(LedgerPages(self.store), {})
        where = Destination(destination) if destination else None
        return VodEngine(VodHook(), ledger, "MP3", destination=where)

    def run(self, destination: str) -> Outcomes:
        """A try of the task."""
        return self.engine(destination).start(self.assets)

    @property
    def downloads(self) -> int:
        return downloads(self.standin)


def downloads(standin: Standin) -> int:
    return int(stats(standin)["calls"].get("storage download", {}).get("total", 0))


@pytest.fixture
def task(standin: Standin, video: Path) -> Callable[[int], Task]:
    return lambda assets: Task(standin, video, assets)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    pytest.importorskip("s3fs")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the library's own patience is not what is tested
    with running_store() as store:
        store.connect(monkeypatch, "obs_copies")
        yield store


def test_copies_run_beside_each_other(task: Callable[[int], Task], tmp_path: Path) -> None:
    batch = task(AT_ONCE)
    # Each waits until all are under way: one after another they would not get past it.
    together = threading.Barrier(AT_ONCE)
    real = VodClient.download

    def download(client: VodClient, asset: str, target: Any) -> int:
        together.wait(timeout=20)
        return int(real(client, asset, target))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VodClient, "download", download)
        outcomes = batch.run(str(tmp_path))
    assert [*outcomes] == batch.assets
    for outcome in outcomes.values():
        assert isinstance(outcome, ExtractedAudio)
        path = local_path(outcome.uri)
        assert path
        assert path.stat().st_size == outcome.size


def test_a_retry_copies_only_what_is_not_whole(
    task: Callable[[int], Task], tmp_path: Path, standin: Standin
) -> None:
    batch = task(4)
    first = batch.run(str(tmp_path))
    assert batch.downloads == 4
    before = stats(standin)["calls"]
    assert batch.run(str(tmp_path)) == first
    assert batch.downloads == 4
    assert stats(standin)["calls"] == before, "VOD need not be asked about what is whole"
    gone, cut = (tmp_path / f"{asset}.mp3" for asset in batch.assets[:2])
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-1])
    assert batch.run(str(tmp_path)) == first
    assert batch.downloads == 6
    elsewhere = batch.run(str(tmp_path / "elsewhere"))
    assert batch.downloads == 10
    assert {local_path(one.uri).parent for one in elsewhere.values()} == {tmp_path / "elsewhere"}  # type: ignore[union-attr]
    assert stats(standin)["submissions"] == dict.fromkeys(batch.assets, 1)


@pytest.mark.parametrize(
    "error", [KeyError("https://bucket/a?Signature=0123"), ConnectionResetError(104, "reset")]
)
def test_one_copy_that_fails_costs_only_itself_and_is_tried_again(
    task: Callable[[int], Task], tmp_path: Path, error: Exception
) -> None:
    batch = task(3)
    probe, first = media.probe, iter([True])

    def failing(path: Path, **options: Any) -> media.MediaInfo:
        if next(first, False):
            raise error
        return probe(path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media, "probe", failing)
        outcomes = batch.run(str(tmp_path))
    failed = [outcome for outcome in outcomes.values() if isinstance(outcome, AssetFailure)]
    assert len(failed) == 1
    assert failed[0].retryable
    assert failed[0].remedy
    assert "Signature" not in str(failed[0])
    if isinstance(error, KeyError):
        assert "KeyError" in failed[0].message
    assert not list(tmp_path.glob(".*")), "what was half done is removed"
    assert {type(outcome) for outcome in batch.run(str(tmp_path)).values()} == {ExtractedAudio}
    assert batch.downloads == 4


@pytest.mark.slow
def test_a_task_that_is_cancelled_stops_copying(
    task: Callable[[int], Task], tmp_path: Path, standin: Standin
) -> None:
    batch, out = task(AT_ONCE + 4), tmp_path / "out"
    standin.behaviour.faults = [parse("slow,bytes_per_second=20000")]
    engine = batch.engine(str(out))
    raised: list[BaseException] = []

    def run() -> None:
        try:
            engine.start(batch.assets)
        except SubmissionStoppedError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not list(out.glob(".vod-*")):
        time.sleep(0.01)
    engine.cancel()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert raised
    assert batch.downloads <= AT_ONCE, "none was begun after it"
    assert list(out.iterdir()) == []
    standin.behaviour.faults = []
    assert {type(outcome) for outcome in batch.run(str(out)).values()} == {ExtractedAudio}


@pytest.mark.slow
def test_a_task_that_runs_out_of_time_stops_copying_and_keeps_what_is_whole(
    task: Callable[[int], Task], tmp_path: Path
) -> None:
    batch, out = task(3 * AT_ONCE), tmp_path / "out"

    class Late(DictStore):
        """Airflow's timeout is raised wherever the main thread is: here, once two copies are noted."""

        def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
            super().set(key, value, retention=retention)
            if sum("copy" in entry for entry in value.values()) == 2:
                raise AirflowTaskTimeout("out of time")

    store, batch.store = batch.store, Late()
    batch.store.values = store.values
    with pytest.raises(AirflowTaskTimeout):
        batch.run(str(out))
    begun = batch.downloads
    assert begun < len(batch.assets), "the rest was not begun"
    assert not list(out.glob(".*"))
    batch.store = store
    assert {type(outcome) for outcome in batch.run(str(out)).values()} == {ExtractedAudio}
    assert batch.downloads - begun == len(batch.assets) - 2


@pytest.mark.slow
def test_a_store_that_is_out_of_reach_while_copying_loses_nothing(
    task: Callable[[int], Task], standin: Standin, store: ObjectStore
) -> None:
    batch = task(12)
    folder = f"obs://obs_copies@{BUCKET}/audio"
    real = VodClient.download
    begun: list[str] = []

    def download(client: VodClient, asset: str, target: Any) -> int:
        begun.append(asset)
        if len(begun) == 5:
            store.stop()
        return int(real(client, asset, target))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(VodClient, "download", download)
        outcomes = batch.run(folder)
    failed = [outcome for outcome in outcomes.values() if isinstance(outcome, AssetFailure)]
    assert failed, "the outage must have hit some"
    assert all(failure.retryable for failure in failed), failed
    assert all("obs://obs_copies@media/audio" in failure.message for failure in failed)
    during = batch.run(folder)
    assert all(isinstance(outcome, AssetFailure) and outcome.retryable for outcome in during.values()), during
    store.start()
    before = batch.downloads
    after = batch.run(folder)
    assert {type(outcome) for outcome in after.values()} == {ExtractedAudio}
    assert batch.downloads - before == len(failed), "what was whole is not copied again"
    assert store.sizes("audio/") == {
        f"audio/{asset}.mp3": outcome.size
        for asset, outcome in after.items()
        if isinstance(outcome, ExtractedAudio)
    }
    assert stats(standin)["submissions"] == dict.fromkeys(batch.assets, 1)


CHILD = """
import itertools, json, os, sys, threading
from pathlib import Path
from vod.batch.ledger import Ledger, LedgerPages
from vod.cloud.client import VodClient
from vod.engines import is_open
from vod.engines.vod import VodEngine
from vod.hooks import VodHook
from vod.storage.destination import Destination

class Store:  # as durable as Airflow's database
    def __init__(self, path):
        self.path = Path(path)
        self.values = json.loads(self.path.read_text()) if self.path.exists() else {}
    def get(self, key, default=None):
        return self.values.get(key, default)
    def set(self, key, value, *, retention=None):
        self.values[key] = value
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.values))
        os.replace(new, self.path)

state, folder, whole, *assets = sys.argv[1:]
real, begun = VodClient.download, itertools.count()

def download(client, asset, target):
    if next(begun) >= int(whole):
        target.write(b"the beginning")
        threading.Event().wait()
    return real(client, asset, target)

VodClient.download = download
ledger = Ledger(LedgerPages(Store(state)), {})
engine = VodEngine(VodHook(), ledger, "MP3", destination=Destination(folder))
outcomes = engine.start(assets)
while any(map(is_open, outcomes.values())):
    waiting = {asset: outcome for asset, outcome in outcomes.items() if is_open(outcome)}
    outcomes |= engine.advance(waiting, time_is_up=False)
print(json.dumps([outcome.to_json() for outcome in outcomes.values()]))
"""


def noted_copies(ledger: Path) -> int:
    pages = json.loads(ledger.read_text()) if ledger.exists() else {}
    return sum("copy" in entry for page in pages.values() for entry in page.values())


@pytest.mark.slow
def test_a_worker_killed_at_the_24th_of_40_copies_leaves_16_to_download(
    standin: Standin, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection_json(standin, quotas=QUOTAS))
    client = client_of(standin)
    assets = [client.upload(video, title=f"video {number}") for number in range(40)]
    client.close()
    out, ledger = tmp_path / "out", tmp_path / "ledger.json"

    def command(whole: int) -> list[str]:
        return [sys.executable, "-c", CHILD, str(ledger), str(out), str(whole), *assets]

    worker = subprocess.Popen(command(24), stdout=subprocess.DEVNULL)
    while noted_copies(ledger) < 24 or not [*out.glob(".vod-*")]:
        assert worker.poll() is None
        time.sleep(0.01)
    worker.kill()
    worker.wait()
    assert noted_copies(ledger) == 24
    whole = [*out.glob("*.mp3")]
    assert len(whole) == 24
    for path in whole:
        assert media.probe(path).audio, "under its final name a file is whole"
    before = downloads(standin)
    done = subprocess.run(command(40), stdout=subprocess.PIPE, check=True)
    records = json.loads(done.stdout.splitlines()[-1])  # the log is before it
    assert [record["outcome"] for record in records] == ["extracted"] * 40
    assert downloads(standin) - before == 16
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{asset}.mp3" for asset in assets), (
        "partials are swept"
    )
    subprocess.run(command(0), stdout=subprocess.PIPE, check=True)
    assert downloads(standin) - before == 16, "a clear downloads none"
    assert stats(standin)["submissions"] == dict.fromkeys(assets, 1)
