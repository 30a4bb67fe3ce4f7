"""On five workers without a common disk all is done, once, and visible only when it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import held_at_xcom, stats
from tests.distributed.conftest import AUDIO, WORKERS, Lab
from tests.object_store import BUCKET

pytestmark = pytest.mark.distributed


@pytest.fixture(autouse=True)
def _calm(lab: Lab) -> None:
    behaviour = lab.standin.behaviour
    behaviour.queue_seconds = behaviour.running_seconds = 0
    behaviour.quota_scale = 100


@pytest.fixture(scope="module", autouse=True)
def interrupted(lab: Lab) -> tuple[str, list[str]]:
    """A run whose workers were killed while they submitted, and its assets.

    It is begun first and looked at last: where an answer was lost, VOD's list is waited for, which takes
    three minutes.
    """
    lab.standin.behaviour.running_seconds = 5
    sources = lab.sources(60)
    run = lab.run(sources, 20)
    lab.api.await_(lambda: 5 <= len(lab.submissions(sources)) < 60, "the first submissions", 120)
    for name in ("worker-1", "worker-2"):
        lab.kill_worker(name)
        lab.start_worker(name)
    return run, sources


def test_work_is_spread_and_its_results_lie_in_the_store(lab: Lab) -> None:
    virtual, uploads, objects, spoken = lab.sources(200), lab.uploads(6), lab.objects(180), lab.objects(20)
    in_vod = lab.run(virtual, 20)
    copied = lab.run(uploads, 2, destination=AUDIO)
    many = lab.run(objects, 15, engine="ffmpeg")
    by_ffmpeg = lab.run(spoken, 2, engine="ffmpeg", transcribe=True)
    runs = ((in_vod, virtual), (copied, uploads), (many, objects), (by_ffmpeg, spoken))
    for run, assets in runs:
        assert lab.api.await_run("lab", run, 400) == "success"
        assert [record["asset"] for record in lab.records(run)] == assets
    assert lab.submissions(virtual + uploads) == dict.fromkeys(virtual + uploads, 1)
    machines = lab.machines(in_vod) + lab.machines(many) + lab.machines(by_ffmpeg, "transcribe")
    assert set(machines) == set(WORKERS), "each has done some of it"
    sizes = lab.store.sizes("audio/")
    for record in lab.records(copied) + lab.records(many) + lab.records(by_ffmpeg):
        assert sizes[record["uri"].removeprefix(f"obs://audio_store@{BUCKET}/")] == record["size"]
    texts = lab.records(by_ffmpeg, "transcribe")
    assert [text["outcome"] for text in texts] == ["transcribed"] * len(spoken)
    assert all(uri.startswith(AUDIO) for text in texts for uri in text["uris"].values())
    assert not lab.watcher.odd


def test_heavy_work_has_queues_of_its_own(lab: Lab) -> None:
    [source], [video] = lab.sources(1), lab.objects(1)
    runs = {"default": lab.run([source], 1), "media": lab.run([video], 1, engine="ffmpeg", transcribe=True)}
    for queue, run in runs.items():
        assert lab.api.await_run("lab", run, 200) == "success"
        found = {task["task_id"]: task["queue"] for task in lab.api.tasks("lab", run)}
        assert (found["plan"], found["extract"]) == ("default", queue)
        assert found["transcribe"] == "speech"


def test_the_same_list_started_twice_at_once(lab: Lab) -> None:
    lab.standin.behaviour.running_seconds = 10
    sources = lab.sources(40)
    runs = [lab.run(sources, 5), lab.run(sources, 5)]
    for run in runs:
        assert lab.api.await_run("lab", run, 300) == "success"
        assert len(lab.records(run)) == len(sources)
    assert lab.submissions(sources) == dict.fromkeys(sources, 1)


def test_a_folder_that_the_machines_do_not_share_is_refused(lab: Lab) -> None:
    """Each worker sees a folder of its own there."""
    run = lab.run(lab.objects(12), 1, engine="ffmpeg", destination=str(lab.airflow.state / "audio"))
    assert lab.api.await_run("lab", run, 300) == "failed"
    tasks = [task for task in lab.api.tasks("lab", run) if task["task_id"] == "extract"]
    assert len({task["hostname"] for task in tasks if task["state"] == "success"}) == 1, "the first to come"
    [failed, *_] = [task for task in tasks if task["state"] == "failed"]
    said = (lab.airflow.state / failed["hostname"]).rglob("*.log")
    assert any("is not the same on all machines" in path.read_text() for path in said)
    assert all(task["try_number"] == 1 for task in tasks if task["state"] == "failed"), "no retry helps"


@pytest.mark.parametrize("what", ["ffmpeg", "vod.speech.child"])
def test_a_worker_killed_at_work(what: str, lab: Lab) -> None:
    assets = lab.objects(8)
    run = lab.run(assets, 2, engine="ffmpeg", transcribe=True)
    name = lab.worker_with(what)
    lab.kill_worker(name)
    lab.start_worker(name)
    assert lab.api.await_run("lab", run, 400) == "success"
    assert [record["asset"] for record in lab.records(run)] == assets
    assert len(lab.records(run, "transcribe")) == len(assets)
    assert not lab.watcher.odd


def test_redis_and_the_store_fail_for_a_while(lab: Lab) -> None:
    with both_engines_at_work(lab, 5) as runs:
        lab.redis.restart()
        with lab.store.down():
            lab.api.await_(lambda: any_waits(lab, runs), "tasks that meet the outage", 60)


def test_a_store_that_is_slow_and_refuses_some_requests(lab: Lab) -> None:
    assets, refused = lab.objects(40), lab.store.refused
    with lab.store.unwell(failing=0.02, seconds=0.1):
        run = lab.run(assets, 10, engine="ffmpeg")
        assert lab.api.await_run("lab", run, 400) == "success"
    assert lab.store.refused > refused
    assert [(record["asset"], record["outcome"]) for record in lab.records(run)] == [
        (asset, "extracted") for asset in assets
    ]
    assert not lab.watcher.odd


def test_a_worker_killed_while_it_reports(lab: Lab) -> None:
    """The sample DAG as it is: it spreads over the queues and writes to the connection's destination."""
    dag, assets = "extract_and_transcribe", lab.objects(2)
    run = lab.api.trigger(dag, assets=assets, engine="ffmpeg", model="tiny.en", batch_size=1)
    with held_at_xcom(lab.airflow.database, run, "report", "report") as is_held:
        lab.api.await_(is_held, "the report", 300)
        name = lab.api.task(dag, run, "report")["hostname"]
        lab.kill_worker(name)
    lab.start_worker(name)
    assert lab.api.await_run(dag, run, 300) == "success"
    assert lab.api.task(dag, run, "report")["try_number"] == 2
    queues = {"batch.extract": "media", "batch.transcribe": "speech", "report": "default"}
    tasks = lab.api.tasks(dag, run)
    assert {task["task_id"]: task["queue"] for task in tasks if task["task_id"] in queues} == queues
    path = f"/dags/{dag}/dagRuns/{run}/taskInstances/batch.transcribe/xcomEntries/return_value"
    texts = [lab.api.call("GET", path, params={"map_index": number})["value"] for number in range(2)]
    assert all(text["uris"]["vtt"].startswith(AUDIO) for [text] in texts)


def test_postgresql_restarts_and_the_triggerer_dies(lab: Lab) -> None:
    with both_engines_at_work(lab, 20):
        lab.restart_postgres()
        lab.airflow.kill_part("triggerer")
        lab.airflow.start_part("triggerer")


@contextmanager
def both_engines_at_work(lab: Lab, seconds: float) -> Iterator[list[str]]:
    """Runs of which all that VOD gets is submitted; after the block all is done, once.

    :param seconds: That VOD takes.
    """
    lab.standin.behaviour.running_seconds = seconds
    sources, objects = lab.sources(20), lab.objects(6)
    runs = {lab.run(sources, 5): sources, lab.run(objects, 2, engine="ffmpeg"): objects}
    lab.api.await_(lambda: len(lab.submissions(sources)) == len(sources), "all submissions", 120)
    yield [*runs]
    for run, assets in runs.items():
        assert lab.api.await_run("lab", run, 400) == "success"
        assert [record["asset"] for record in lab.records(run)] == assets
    assert lab.submissions(sources) == dict.fromkeys(sources, 1)
    assert not lab.watcher.odd


def test_a_worker_that_is_asked_to_stop_ends_what_it_does(lab: Lab) -> None:
    assets = lab.objects(6)
    run = lab.run(assets, 2, engine="ffmpeg", transcribe=True)
    name = lab.worker_with("vod.speech.child")
    lab.ask_worker_to_stop(name)
    lab.await_end_of(name, 120)
    lab.start_worker(name)
    assert lab.api.await_run("lab", run, 400) == "success"
    assert len(lab.records(run, "transcribe")) == len(assets)
    tasks = [task for task in lab.api.tasks("lab", run) if task["task_id"] == "transcribe"]
    assert {task["try_number"] for task in tasks} == {1}, "none was torn away"
    assert not lab.watcher.odd


def test_workers_together_keep_to_the_quota(lab: Lab) -> None:
    def refused() -> int:
        calls = stats(lab.standin)["calls"].get("extract_audio", {"by_status": {}})
        return int(calls["by_status"].get("429", 0))

    lab.standin.behaviour.quota_scale = 1
    sources, before = lab.sources(120), refused()
    run = lab.run(sources, 15, connection="vod_limited")

    def no_slot_is_held() -> bool:
        states = {task["state"] for task in lab.api.tasks("lab", run) if task["task_id"] == "extract"}
        return "deferred" in states <= {"deferred", "success"} and len(lab.submissions(sources)) < 120

    lab.api.await_(no_slot_is_held, "a moment in which all that are not done have left their slots", 200)
    assert lab.api.await_run("lab", run, 400) == "success"
    assert lab.submissions(sources) == dict.fromkeys(sources, 1)
    assert refused() - before <= 0.05 * len(sources)


def test_workers_killed_while_they_submitted(lab: Lab, interrupted: tuple[str, list[str]]) -> None:
    run, sources = interrupted
    assert lab.api.await_run("lab", run, 400) == "success"
    assert lab.submissions(sources) == dict.fromkeys(sources, 1)
    assert len(lab.records(run)) == len(sources)


def any_waits(lab: Lab, runs: list[str]) -> bool:
    """Whether a task runs, or is to be run again, while the store is down."""
    states = [task["state"] for run in runs for task in lab.api.tasks("lab", run)]
    return bool({"running", "up_for_retry"} & set(states))
