"""What a batch survives when parts of Airflow die or are there twice: nothing is done twice, nothing lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil
import pytest

from dev.airflow import Api
from tests.conftest import stats
from tests.system.cluster import Cluster
from vod.standin.faults import parse

pytestmark = [pytest.mark.system, pytest.mark.long]


@dataclass
class LockedOut:
    """A run whose key VOD refuses for six minutes, while it waits and the other tests go on."""

    run: str
    sources: list[str]
    over: threading.Event


@pytest.fixture(scope="module")
def locked_out(module_cluster: Cluster) -> Iterator[LockedOut]:
    behaviour = module_cluster.locked.standin.behaviour
    behaviour.running_seconds = 30
    sources = module_cluster.locked.standin.add_virtual(20)
    run = module_cluster.api.trigger("batch_locked", assets=sources)
    module_cluster.api.await_task("batch_locked", run, "extract", "deferred")
    behaviour.faults = [parse("refuse,call=*,code=APIGW.0301,status=401")]
    over = threading.Event()

    def unlock() -> None:
        behaviour.faults = []
        over.set()

    timer = threading.Timer(360, unlock)
    timer.start()
    yield LockedOut(run, sources, over)
    timer.cancel()


@pytest.mark.usefixtures("locked_out")  # begun here: it takes six minutes
def test_videos_of_three_titles_and_a_worker_killed_ten_times(cluster: Cluster) -> None:
    """What tells them apart is their length; VOD's clock is ten minutes ahead, its list a minute behind."""
    cluster.standin.behaviour.clock_ahead, cluster.standin.behaviour.list_lag = 600, 60
    lengths = {
        cluster.standin.add_virtual(1, title=f"Lecture {number % 3}", duration=60 + 4 * number)[0]: 60
        + 4 * number
        for number in range(200)
    }
    sources, dice = list(lengths), random.Random(1)
    cluster.standin.behaviour.faults = [parse("drop,call=extract_audio,accepted=true,percent=5")]
    run = cluster.api.trigger("batch", assets=sources)

    def tries() -> int:
        return int(cluster.api.task("batch", run, "extract")["try_number"])

    # A kill that comes when the task has just deferred costs no try: what counts is the tries that were lost.
    while tries() <= 10:
        Api.await_(cluster.task_process, "the next try", 90)
        victim = cluster.task_process()
        if victim is None:
            continue  # three answers lost in a row: the task has deferred, and submits the rest later
        wanted = len(cluster.submissions(sources)) + dice.randint(1, 8)

        def is_that_far(wanted: int = wanted, victim: psutil.Process = victim) -> bool:
            return len(cluster.submissions(sources)) >= wanted or not victim.is_running()

        Api.await_(is_that_far, f"{wanted} submissions, or the end of the task", 90)
        time.sleep(dice.random() / 5)  # anywhere between two of them
        with suppress(psutil.NoSuchProcess):
            victim.kill()
            psutil.wait_procs([victim], timeout=10)
    assert cluster.api.await_run("batch", run, 600) == "success"
    assert tries() > 10
    records = cluster.api.returned("batch", run, "extract")
    assert {record["asset"]: record.get("duration") for record in records} == lengths
    assert cluster.submissions(sources) == dict.fromkeys(sources, 1)


def test_what_another_run_has_claimed_is_taken_over_when_that_one_is_killed(cluster: Cluster) -> None:
    sources = cluster.sources(200)
    cluster.api.trigger("batch_on_worker", assets=sources)  # no retries
    Api.await_(lambda: len(cluster.submissions(sources)) >= 20, "20 submissions", 90)
    second = cluster.api.trigger("batch", assets=sources)
    cluster.api.await_task("batch", second, "extract", "deferred")
    victim = cluster.task_process()
    if victim is not None:
        victim.kill()
    assert cluster.api.await_run("batch", second, 300) == "success"
    assert cluster.outcomes("batch", second) == ["extracted"] * 200
    assert cluster.submissions(sources) == dict.fromkeys(sources, 1)


def test_a_killed_triggerer(cluster: Cluster) -> None:
    cluster.standin.behaviour.running_seconds = 15
    batches = [cluster.sources(10) for _ in range(5)]
    runs = [cluster.api.trigger("batch", assets=batch) for batch in batches]
    for run in runs:
        cluster.api.await_task("batch", run, "extract", "deferred")
    cluster.airflow.kill_part("triggerer")
    cluster.airflow.start_part("triggerer")
    for run, batch in zip(runs, batches, strict=True):
        assert cluster.api.await_run("batch", run) == "success"
        assert cluster.submissions(batch) == dict.fromkeys(batch, 1)
        assert cluster.api.task("batch", run, "extract")["try_number"] == 1


def test_two_schedulers_and_two_triggerers(cluster: Cluster) -> None:
    cluster.standin.behaviour.running_seconds = 20
    batches = [cluster.sources(20) for _ in range(4)]
    for part in ("triggerer", "scheduler"):
        cluster.airflow.start_part(part, f"{part} 2")
    try:
        before = stats(cluster.standin)["calls"].get("info", {"total": 0})["total"]
        runs = [cluster.api.trigger("batch", assets=batch) for batch in batches]
        for run, batch in zip(runs, batches, strict=True):
            assert cluster.api.await_run("batch", run) == "success"
            assert cluster.submissions(batch) == dict.fromkeys(batch, 1)
        calls = stats(cluster.standin)["calls"]["info"]["total"] - before
    finally:
        for part in ("scheduler", "triggerer"):
            cluster.airflow.kill_part(f"{part} 2")
    # An asset is polled after 0, 1, 2.5, 4.8, 8.1, 13, 21 s by one triggerer, ten to a call; each batch is
    # read before and after. If both polled all, it would be 56 calls more.
    polls = 4 * 2 * 8
    assert calls <= polls + 4 * 2 * 2


def test_two_runs_wait_for_the_same_texts_while_a_triggerer_dies(cluster: Cluster) -> None:
    """Speech recognition by SIS: ordered once, and no worker waits."""
    sources = cluster.sources(8)
    cluster.standin.behaviour.queue_seconds = 30  # of orders as well
    api = cluster.api
    runs = [api.trigger("heard_elsewhere", assets=sources) for _ in range(2)]
    for run in runs:
        api.await_task("heard_elsewhere", run, "transcribe", "deferred")
    orders = cluster.standin.settings.data / "speech"
    assert len(list(orders.glob("*.json"))) == 8
    cluster.airflow.kill_part("triggerer")
    cluster.airflow.start_part("triggerer")
    for run in runs:
        assert api.await_run("heard_elsewhere", run, 180) == "success"
        outcomes = [record["outcome"] for record in api.returned("heard_elsewhere", run, "transcribe")]
        assert outcomes == ["transcribed"] * 8
    assert len(list(orders.glob("*.json"))) == 8
    assert cluster.submissions(sources) == dict.fromkeys(sources, 1)


def test_a_key_that_vod_refuses_for_six_minutes(cluster: Cluster, locked_out: LockedOut) -> None:
    """Began with the first test of this module, so that no time is spent on waiting."""
    Api.await_(locked_out.over.is_set, "the end of the lock", 400)
    assert cluster.api.await_run("batch_locked", locked_out.run, 400) == "success"
    assert cluster.outcomes("batch_locked", locked_out.run) == ["extracted"] * 20
    counted = stats(cluster.locked.standin)
    assert {source: counted["submissions"][source] for source in locked_out.sources} == dict.fromkeys(
        locked_out.sources, 1
    )
    refused = sum(call["by_status"].get("401", 0) for call in counted["calls"].values())
    assert 1 <= refused <= 40, "few calls while the key is locked"
