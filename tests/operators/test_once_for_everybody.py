"""Audio is extracted once for everybody: runs, people and workers that share a register submit each once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import AssetStores, DictStore, auth_of, context_of, stats
from tests.operators.conftest import Context, CrashingStore, Killed, extract
from vod.cloud.client import VodClient
from vod.library import register as register_module
from vod.library.known_audio import Wanted
from vod.library.register import Register
from vod.pipeline import planning
from vod.standin import Standin
from vod.standin.faults import parse


@pytest.fixture
def register() -> DictStore:
    return DictStore()


def run_of(register: DictStore, number: int, **of_instance: Any) -> Context:
    """The context of a run of its own, whose state nobody else sees."""
    return context_of(DictStore(), register, run_id=f"run {number}", **of_instance)


def entry_of(register: DictStore) -> dict[str, Any]:
    """What is stored of the only audio."""
    [entry] = [value for key, value in register.values.items() if key.startswith("audio_")]
    return dict(entry)


def submissions(standin: Standin) -> dict[str, int]:
    counted: dict[str, int] = stats(standin)["submissions"]
    return counted


def test_the_same_ids_in_two_runs_one_after_the_other(
    standin: Standin, connection: str, register: DictStore, uploaded: list[str]
) -> None:
    first = extract(run_of(register, 1), uploaded)
    second = extract(run_of(register, 2), uploaded)
    assert [record["audio_asset_id"] for record in first] == [record["audio_asset_id"] for record in second]
    assert submissions(standin) == dict.fromkeys(uploaded, 1)


def test_what_another_run_has_copied_to_the_same_place_is_not_downloaded_again(
    standin: Standin, connection: str, register: DictStore, uploaded: list[str], tmp_path: Path
) -> None:
    def downloads() -> int:
        return int(stats(standin)["calls"]["storage download"]["total"])

    first = extract(run_of(register, 1), uploaded, destination=str(tmp_path / "out"))
    assert downloads() == 3
    assert extract(run_of(register, 2), uploaded, destination=str(tmp_path / "out")) == first
    assert downloads() == 3
    (tmp_path / "out" / f"{uploaded[0]}.mp3").write_bytes(b"cut")
    assert extract(run_of(register, 3), uploaded, destination=str(tmp_path / "out")) == first
    assert downloads() == 4
    extract(run_of(register, 4), uploaded, destination=str(tmp_path / "elsewhere"))
    assert downloads() == 7
    assert submissions(standin) == dict.fromkeys(uploaded, 1)


@pytest.mark.parametrize("between", ["nowhere", "elsewhere"])
def test_a_copy_is_remembered_when_another_run_wants_the_audio_elsewhere(
    standin: Standin,
    connection: str,
    client: VodClient,
    register: DictStore,
    uploaded: list[str],
    tmp_path: Path,
    between: str,
) -> None:
    """*between*: where the second run wants it; nowhere leaves it in VOD."""
    here, [video, *_] = str(tmp_path / "here"), uploaded
    other = {"destination": str(tmp_path / between)} if between == "elsewhere" else {}
    [first] = extract(run_of(register, 1), [video], destination=here)
    [second] = extract(run_of(register, 2), [video], **other)
    assert entry_of(register)["record"]["uri"] == second["uri"]
    downloads = stats(standin)["calls"]["storage download"]["total"]
    client.delete([first["audio_asset_id"]])
    wanted = [Wanted(asset=video, audio_format="MP3")]
    assert set(planning.known_audio(wanted, AssetStores(register), "vod", here).done) == {video}
    assert extract(run_of(register, 3), [video], destination=here) == [first]
    assert submissions(standin) == {video: 1}
    assert stats(standin)["calls"]["storage download"]["total"] == downloads
    assert entry_of(register)["record"]["uri"] == first["uri"], "the library shows what the last run got"
    if other:
        assert extract(run_of(register, 4), [video], **other) == [second]
    else:  # the audio is gone where the fourth run wants it
        [fourth] = extract(run_of(register, 4), [video])
        assert fourth["audio_asset_id"] != first["audio_asset_id"]
        assert "copies" not in entry_of(register), "they are of the audio before"
    assert submissions(standin) == {video: 1 if other else 2}


def test_no_more_than_a_few_copies_are_remembered() -> None:
    register = Register(DictStore(), "task", {})
    for number in range(9):
        record = {"uri": f"s3://b/{number}/a.mp3", "audio_asset_id": "of a"}
        register.finish({"a": record}, {"a": 1.0}, shared=["a"])
    entry = register.get("a")
    assert entry
    assert [record["uri"][7] for record in entry.records] == ["8", "7", "6", "5", "4"]


def test_the_same_ids_in_many_runs_at_once(
    standin: Standin, connection: str, register: DictStore, uploaded: list[str]
) -> None:
    standin.behaviour.running_seconds = 1
    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(lambda number: extract(run_of(register, number), uploaded), range(6)))
    assert all([record["outcome"] for record in run] == ["extracted"] * 3 for run in runs)
    assert submissions(standin) == dict.fromkeys(uploaded, 1)


def test_a_cleared_success_whose_own_state_is_gone_submits_nothing(
    standin: Standin, connection: str, register: DictStore, uploaded: list[str]
) -> None:
    extract(run_of(register, 1), uploaded)
    assert len(extract(run_of(register, 1, max_tries=1), uploaded)) == 3
    assert submissions(standin) == dict.fromkeys(uploaded, 1)


def test_force_extracts_once_more_for_each_run_that_asks(
    standin: Standin, connection: str, register: DictStore, uploaded: list[str]
) -> None:
    first = extract(run_of(register, 1), uploaded[0])
    store = DictStore()
    forced = extract(context_of(store, register, run_id="forced"), uploaded[0], force=True)
    again = extract(context_of(store, register, run_id="forced"), uploaded[0], force=True)
    assert first != forced == again
    assert submissions(standin) == {uploaded[0]: 2}
    assert extract(run_of(register, 3), uploaded[0]) == forced, "later runs find the newer audio"


def test_audio_that_was_deleted_in_vod_since_is_extracted_again(
    standin: Standin, connection: str, register: DictStore, uploaded: list[str]
) -> None:
    [first] = extract(run_of(register, 1), uploaded[0])
    httpx.delete(
        f"{standin.url}/v1.0/{standin.settings.project_id}/asset",
        params={"asset_id": first["audio_asset_id"]},
        headers={"Content-Type": "application/json"},
        auth=auth_of(standin),
    ).raise_for_status()
    for value in register.values.values():
        if isinstance(value, dict) and "accepted" in value:
            value["accepted"] -= 3600  # long ago: it is not just invisible yet
    [second] = extract(run_of(register, 2), uploaded[0])
    assert second["audio_asset_id"] != first["audio_asset_id"]


def test_an_extraction_that_another_run_has_submitted_is_waited_for_and_not_cancelled(
    standin: Standin, connection: str, register: DictStore, uploaded: list[str]
) -> None:
    standin.behaviour.queue_seconds = 30
    submitted = extract(run_of(register, 1), uploaded, wait_for_completion=False)
    with pytest.raises(Exception, match="still WAITING_TRANSCODE"):
        extract(run_of(register, 2), uploaded, timeout=1.5)
    assert stats(standin)["cancels_by_id"] == {"source": 0, "audio": 0}
    standin.behaviour.queue_seconds = 0
    assert submissions(standin) == dict.fromkeys(uploaded, 1)
    assert len(submitted) == 3


@pytest.mark.quick(3)
@pytest.mark.parametrize("at", range(1, 16))
def test_a_worker_killed_at_any_write_of_the_register(
    standin: Standin,
    connection: str,
    uploaded: list[str],
    at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own next try goes on, and so does another run once the dead one's lease is over."""
    crashing = CrashingStore(at, after=at % 2 == 0)
    with pytest.raises(Killed):
        extract(run_of(crashing, 1), uploaded)
    monkeypatch.setenv("AIRFLOW__VOD__CLAIM_LEASE", "0.2")
    records = extract(run_of(crashing, 2), uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert [record["outcome"] for record in extract(run_of(crashing, 1), uploaded)] == ["extracted"] * 3
    assert submissions(standin) == dict.fromkeys(uploaded, 1)


def test_what_vod_ends_without_audio_gets_its_second_chance(
    standin: Standin, connection: str, register: DictStore, uploaded: list[str]
) -> None:
    standin.behaviour.faults = [parse(f"fail,asset={uploaded[0]},count=1")]
    records = extract(run_of(register, 1), uploaded)
    assert [record["outcome"] for record in records] == ["extracted"] * 3
    assert submissions(standin) == {**dict.fromkeys(uploaded, 1), uploaded[0]: 2}


def test_what_one_run_found_impossible_another_that_waited_does_not_try(
    standin: Standin, connection: str, register: DictStore, uploaded: list[str]
) -> None:
    waiting = Register(register, "waiting", {"n": 1}, settling=0.0)
    working = Register(register, "working", {"n": 1}, settling=0.0)
    assert set(working.claim(["a", "b"]).granted) == {"a", "b"}
    assert set(waiting.claim(["a", "b"]).elsewhere) == {"a", "b"}
    working.fail("a", {"outcome": "no_audio_track", "asset": "a", "message": "No sound."})
    working.release({"b": None})
    claims = waiting.claim(["a", "b"], waited_for={"a": "working", "b": "working"})
    assert set(claims.failed) == {"a"}
    assert set(claims.granted) == {"b"}
    later = Register(register, "later", {"n": 1}, settling=0.0)
    assert set(later.claim(["a"]).granted) == {"a"}, "a later run was not waiting: it tries again"


def test_of_many_that_claim_at_once_one_is_granted_each() -> None:
    store = DictStore()
    barrier = threading.Barrier(16)

    def claim(number: int) -> set[str]:
        register = Register(store, f"task {number}", {}, settling=0.3)
        barrier.wait()
        return set(register.claim([f"asset {index}" for index in range(20)]).granted)

    with ThreadPoolExecutor(16) as pool:
        granted = list(pool.map(claim, range(16)))
    assert sorted(asset for one in granted for asset in one) == sorted(
        f"asset {index}" for index in range(20)
    )


def test_a_claim_that_was_written_too_slowly_is_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(DictStore):
        def set(self, key: str, value: Any, **options: Any) -> None:
            if key.startswith("audio_"):
                threading.Event().wait(0.2)
            super().set(key, value, **options)

    monkeypatch.setattr(register_module, "LONGEST_WRITE", 0.1)
    claims = Register(Slow(), "slow", {}, settling=0.0).claim(["asset"])
    assert not claims.granted
    assert set(claims.elsewhere) == {"asset"}


def test_a_claim_that_a_suspended_machine_wrote_is_no_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a machine sleeps only its wall clock goes on."""
    slept = 0.0

    class Sleeping(DictStore):
        def set(self, key: str, value: Any, **options: Any) -> None:
            nonlocal slept
            slept += 3600 if key.startswith("audio_") else 0
            super().set(key, value, **options)

    awake = time.time
    monkeypatch.setattr(time, "time", lambda: awake() + slept)
    claims = Register(Sleeping(), "asleep", {}, settling=0.0).claim(["asset"])
    assert set(claims.elsewhere) == {"asset"}


def test_a_submission_looks_at_its_claim_unless_it_has_just_been_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = DictStore()
    mine, other = (Register(store, name, {}, settling=0.0) for name in ("mine", "other"))
    assert set(mine.claim(["a", "b"]).granted) == {"a", "b"}
    reads = store.reads
    assert mine.intend("a", 1.0)
    assert store.reads == reads, "nobody can have taken it over"
    late = time.time() + 2 * register_module.CLAIM_LEASE
    monkeypatch.setattr(time, "time", lambda: late)
    assert set(other.claim(["b"]).granted) == {"b"}
    assert not mine.intend("b", 2.0)


def test_without_a_register_the_ledger_still_holds_and_the_log_says_so(
    standin: Standin, connection: str, uploaded: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    context = context_of(DictStore())
    assert extract(context, uploaded) == extract(context, uploaded)
    assert submissions(standin) == dict.fromkeys(uploaded, 1)
    assert any("There is no register here" in line for line in caplog.messages)
