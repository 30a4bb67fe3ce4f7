"""What a batch survives, with every part of Airflow as a real process: nothing twice, nothing lost."""

from __future__ import annotations

import random
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from dev import stack
from dev.airflow import Airflow, Api, postgres
from dev.processes import Processes
from tests.conftest import client_of, has_ended, stats
from vod import media
from vod.standin import Standin, StandinSettings, running
from vod.standin.faults import parse

pytestmark = pytest.mark.system

DAGS = Path(__file__).parent / "dags"


class Library:
    """The stand-in, which can be taken away for a while and comes back with all it knew."""

    def __init__(self, folder: Path) -> None:
        self._settings = StandinSettings(data=folder, workers=1000)
        self._running = running(self._settings)
        self.standin: Standin = self._running.__enter__()
        self._settings = replace(self._settings, port=int(self.standin.url.rpartition(":")[2]))

    def stop(self) -> None:
        self._running.__exit__(None, None, None)

    def start(self) -> None:
        self._running = running(self._settings)
        self.standin = self._running.__enter__()


@dataclass
class Cluster:
    airflow: Airflow
    library: Library
    locked: Library
    counted: Counted

    @property
    def api(self) -> Api:
        return self.airflow.api

    @property
    def standin(self) -> Standin:
        return self.library.standin

    def sources(self, count: int) -> list[str]:
        """New videos, each under a title of its own."""
        return self.standin.add_virtual(count, title=f"{random.getrandbits(64):x} {{number}}")

    def submissions(self, sources: list[str]) -> dict[str, int]:
        """How often each was accepted by VOD."""
        counted = stats(self.standin)["submissions"]
        return {source: counted[source] for source in sources if source in counted}

    def outcomes(self, dag: str, run: str) -> list[str]:
        return [record["outcome"] for record in self.api.returned(dag, run, "extract")]

    def task_process(self) -> psutil.Process | None:
        """The process in which a task runs: the youngest descendant of the scheduler's workers."""
        workers = self.airflow.process("scheduler").children()
        tasks = [child for worker in workers for child in _children(worker)]
        return next((task for task in tasks if not has_ended(task)), None)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:
        return []


class Counted:
    """What Airflow sends to StatsD: names with their tags, as they come."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.names: set[str] = set()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def settings(self) -> dict[str, str]:
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self._socket.getsockname()[1]),
            "AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED": "True",
        }

    def _read(self) -> None:
        while True:
            for line in self._socket.recv(65536).decode().splitlines():
                self.names.add(line.partition(":")[0])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="vod-batches-") as name, Processes() as processes:
        counted = Counted()
        folder = Path(name).resolve()
        folder.chmod(0o755)  # as root, PostgreSQL runs as a user who must enter
        library, locked = Library(folder / "standin"), Library(folder / "locked")
        with postgres(folder / "postgres") as database:
            settings = counted.settings | {
                "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
                "AIRFLOW__CORE__TASK_INSTANCE_HEARTBEAT_SEC": "2",
                # A killed triggerer's triggers are taken over once it was silent for that long.
                "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
                "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
                "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
                # A dead task's claims are free after that long.
                "AIRFLOW__VOD__CLAIM_LEASE": "45",
                "AIRFLOW__VOD__LOST_ANSWER_WINDOW": "75",  # longer than the list is behind in any test
                # What a task knew is gone as soon as it has succeeded: nothing may depend on it.
                "AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS": "True",
                "AIRFLOW_CONN_VOD_DEFAULT": stack.connection(
                    library.standin.url,
                    folder / "audio",
                    quotas={"extract": 100_000},
                    sis_endpoint=library.standin.url,
                ),
                "AIRFLOW_CONN_VOD_LOCKED": stack.connection(locked.standin.url, folder / "audio"),
            }
            airflow = Airflow(
                folder,
                processes,
                database,
                library.standin.url,
                dags=DAGS,
                allowed=[folder / "videos"],
                settings=settings,
            )
            airflow.prepare()
            airflow.start()
            yield Cluster(airflow, library, locked, counted)
            processes.stop()
        library.stop()
        locked.stop()


@pytest.fixture(autouse=True)
def _calm(cluster: Cluster) -> None:
    """Each test begins with a stand-in that does as it should, at once, and has no limits."""
    behaviour = cluster.standin.behaviour
    behaviour.faults, behaviour.queue_seconds, behaviour.running_seconds = [], 0, 0
    behaviour.quota_scale, behaviour.clock_ahead, behaviour.list_lag = 100, 0, 0


@dataclass
class LockedOut:
    """A run whose key VOD refuses for six minutes, while it waits and the other tests go on."""

    run: str
    sources: list[str]
    over: threading.Event


@pytest.fixture(scope="module")
def locked_out(cluster: Cluster) -> Iterator[LockedOut]:
    behaviour = cluster.locked.standin.behaviour
    behaviour.running_seconds = 30
    sources = cluster.locked.standin.add_virtual(20)
    run = cluster.api.trigger("batch_locked", assets=sources)
    cluster.api.await_task("batch_locked", run, "extract", "deferred")
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


def test_the_same_ids_in_runs_at_once_and_afterwards(cluster: Cluster) -> None:
    cluster.standin.behaviour.running_seconds = 5
    sources = cluster.sources(30)
    runs = [cluster.api.trigger("batch", assets=sources) for _ in range(3)]
    assert [cluster.api.await_run("batch", run) for run in runs] == ["success"] * 3
    runs.append(cluster.api.trigger("batch", assets=list(reversed(sources))))
    assert cluster.api.await_run("batch", runs[-1]) == "success"
    audio = [
        {
            record["asset"]: record["audio_asset_id"]
            for record in cluster.api.returned("batch", run, "extract")
        }
        for run in runs
    ]
    assert all(found == audio[0] for found in audio)
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


def test_an_outage_and_storms(cluster: Cluster) -> None:
    cluster.standin.behaviour.faults = [
        parse("throttle,call=extract_audio,percent=20"),
        parse("throttle,call=info,percent=20"),
        parse("error,call=info,percent=5"),
        parse("missing,percent=20"),
    ]
    sources = cluster.sources(40)
    run = cluster.api.trigger("batch", assets=sources)
    Api.await_(lambda: len(cluster.submissions(sources)) >= 10, "10 submissions", 90)
    faults = cluster.standin.behaviour.faults
    cluster.library.stop()
    down_until = time.monotonic() + 48
    Api.await_(lambda: time.monotonic() > down_until, "48 seconds", 90)
    cluster.library.start()
    cluster.standin.behaviour.faults = faults
    assert cluster.api.await_run("batch", run, 400) == "success"
    assert cluster.outcomes("batch", run) == ["extracted"] * 40
    assert cluster.submissions(sources) == dict.fromkeys(sources, 1)


def test_marked_failed_while_submitting(cluster: Cluster) -> None:
    cluster.standin.behaviour.queue_seconds = 3600
    sources = cluster.sources(60)
    run = cluster.api.trigger("batch", assets=sources)
    Api.await_(lambda: len(cluster.submissions(sources)) >= 10, "10 submissions", 90)
    cluster.api.mark("batch", run, "extract", "failed")
    await_quiet(cluster)
    assert 10 <= len(cluster.submissions(sources)) < 60
    assert queued(cluster) == 0


@pytest.mark.parametrize("how", ["failed", "cleared"])
def test_ended_while_waiting(cluster: Cluster, how: str) -> None:
    cluster.standin.behaviour.queue_seconds = 3600
    sources = cluster.sources(10)
    run = cluster.api.trigger("batch", assets=sources)
    cluster.api.await_task("batch", run, "extract", "deferred")
    # Before its trigger runs, nobody is there whom Airflow could tell.
    looks = stats(cluster.standin)["calls"]["info"]["total"]
    Api.await_(lambda: stats(cluster.standin)["calls"]["info"]["total"] > looks, "the trigger's look", 60)
    before = stats(cluster.standin)["assets_by_status"].get("CANCELLED", 0)
    if how == "failed":
        cluster.api.mark("batch", run, "extract", "failed")
        cancelled = lambda: stats(cluster.standin)["assets_by_status"].get("CANCELLED", 0) - before  # noqa: E731
        Api.await_(lambda: cancelled() == 10, "10 cancels", 60)
        assert queued(cluster) == 0
    else:
        cluster.standin.behaviour.queue_seconds = 0
        cluster.api.clear("batch", run, "extract")
        assert cluster.api.await_run("batch", run) == "success"
        assert cluster.outcomes("batch", run) == ["extracted"] * 10


@pytest.mark.parametrize("who", ["a person", "a shutdown"])
def test_ended_while_waiting_on_the_worker(cluster: Cluster, who: str) -> None:
    cluster.standin.behaviour.queue_seconds = 3600
    sources = cluster.sources(10)
    run = cluster.api.trigger("batch_on_worker", assets=sources)
    Api.await_(lambda: len(cluster.submissions(sources)) == 10, "10 submissions", 90)
    before = stats(cluster.standin)["assets_by_status"].get("CANCELLED", 0)
    if who == "a person":
        cluster.api.mark("batch_on_worker", run, "extract", "failed")
        await_quiet(cluster)
        assert stats(cluster.standin)["assets_by_status"]["CANCELLED"] - before == 10
    else:
        task = cluster.task_process()
        assert task
        task.terminate()
        said = "This worker is shut down while the task is running"
        Api.await_(lambda: said in cluster.api.log("batch_on_worker", run, "extract"), said, 60)
        cluster.standin.behaviour.queue_seconds = 0
        assert cluster.api.await_run("batch_on_worker", run) == "success"
        assert stats(cluster.standin)["assets_by_status"].get("CANCELLED", 0) == before


def test_marked_failed_while_ffmpeg_runs(cluster: Cluster) -> None:
    long = cluster.airflow.state / "videos" / "long.flac"
    long.parent.mkdir()
    silence = ["-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo", "-t", "40000", "-c:a", "flac", str(long)]
    subprocess.run([media.find_ffmpeg(), "-v", "error", "-y", *silence], check=True, timeout=300)
    run = cluster.api.trigger("batch", assets=[str(long)], engine="ffmpeg")
    Api.await_(lambda: ffmpegs(cluster), "ffmpeg", 60)
    cluster.api.mark("batch", run, "extract", "failed")
    Api.await_(lambda: not ffmpegs(cluster), "the end of ffmpeg", 60)
    await_quiet(cluster)
    audio = cluster.airflow.state / "audio"
    assert [path.name for path in audio.iterdir() if path.name.endswith(".part") or "long" in path.name] == []


def test_clears_changes_and_force(cluster: Cluster) -> None:
    api, sources = cluster.api, cluster.sources(5)
    run = api.trigger("batch", assets=sources)
    assert api.await_run("batch", run) == "success"
    first = api.returned("batch", run, "extract")

    api.clear("batch", run, "extract")  # a success, with the same inputs
    await_rerun(api, "batch", run, 2)
    assert api.returned("batch", run, "extract") == first
    assert cluster.submissions(sources) == dict.fromkeys(sources, 1)

    client = client_of(cluster.standin)
    client.delete([first[0]["audio_asset_id"]])  # what no longer exists is extracted again
    api.clear("batch", run, "extract")
    Api.await_(lambda: cluster.submissions(sources)[sources[0]] == 2, "a second extraction", 120)
    await_rerun(api, "batch", run, 3)
    assert cluster.submissions(sources) == {**dict.fromkeys(sources, 1), sources[0]: 2}

    other = api.trigger("batch", assets=sources, audio_format="AAC")  # other inputs
    assert api.await_run("batch", other) == "success"
    assert {record["audio_format"] for record in api.returned("batch", other, "extract")} == {"AAC"}

    forced = api.trigger("batch", assets=sources, force=True)
    assert api.await_run("batch", forced) == "success"
    before = cluster.submissions(sources)
    api.clear("batch", forced, "extract")
    await_rerun(api, "batch", forced, 2)
    assert cluster.submissions(sources) == {source: count + 1 for source, count in before.items()}


def lost_tries(cluster: Cluster, run: str) -> int:
    """Tries that Airflow's scheduler took for failed itself, by its own word."""
    log = cluster.airflow.log_of("scheduler").read_text().splitlines()
    return sum(run in line and "state attribute is queued" in line for line in log)


def test_bad_assets_cost_only_themselves(cluster: Cluster) -> None:
    sources = cluster.sources(18)
    bad = [*sources[:1], "f" * 32, "e" * 32]
    shaky = sources[1:3]
    cluster.standin.behaviour.faults = [
        parse(f"refuse,call=extract_audio,code=VOD.10099,asset={bad[0]}"),
        *(parse(f"fail,asset={source},count=1") for source in shaky),
    ]
    run = cluster.api.trigger("batch_reported", assets=[*sources, *bad[1:]])
    assert cluster.api.await_run("batch_reported", run) == "success"
    records = {record["asset"]: record for record in cluster.api.returned("batch_reported", run, "extract")}
    failed = {
        asset: record["outcome"] for asset, record in records.items() if record["outcome"] != "extracted"
    }
    assert failed == {bad[0]: "VOD.10099", bad[1]: "asset_not_found", bad[2]: "asset_not_found"}
    assert list(records) == [*sources, *bad[1:]], "in input order"
    expected = dict.fromkeys(sources[1:], 1) | dict.fromkeys(shaky, 2)
    assert cluster.submissions(sources) == expected
    tries = cluster.api.task("batch_reported", run, "extract")["try_number"]
    assert tries - lost_tries(cluster, run) == 1

    other = cluster.api.trigger("batch", assets=[*sources, *bad[1:]])
    assert cluster.api.await_run("batch", other) == "failed"
    task = cluster.api.task("batch", other, "extract")
    used = task["try_number"] - lost_tries(cluster, other)
    assert used == 1, "20 retries are allowed, and none could change something"
    said = cluster.api.log("batch", other, "extract", task["try_number"])
    assert "3 of 20 assets failed" in said
    for asset, code in failed.items():
        assert asset in said
        assert code in said
    cluster.standin.behaviour.faults = []
    cluster.api.clear("batch", other, "extract")  # once the blocked one is released
    assert cluster.api.await_run("batch", other) == "failed"
    assert "2 of 20 assets failed" in cluster.api.log("batch", other, "extract", 2)
    assert cluster.submissions(sources) == {**expected, bad[0]: 1}, "what the first run has is not done again"


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


def queued(cluster: Cluster) -> int:
    by_status = stats(cluster.standin)["assets_by_status"]
    return int(by_status.get("WAITING_TRANSCODE", 0) + by_status.get("TRANSCODING", 0))


def ffmpegs(cluster: Cluster) -> list[psutil.Process]:
    return [
        process
        for process in cluster.airflow.process("scheduler").children(recursive=True)
        if process.is_running() and process.name().startswith("ffmpeg")
    ]


def await_quiet(cluster: Cluster) -> None:
    Api.await_(lambda: cluster.task_process() is None, "the end of the task's process", 60)


def await_rerun(api: Api, dag: str, run: str, try_number: int) -> None:
    def done() -> bool:
        task = api.task(dag, run, "extract")
        return bool(task["try_number"] == try_number and task["state"] == "success")

    Api.await_(done, f"try {try_number} of {run}", 180)
    assert api.await_run(dag, run) == "success"


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


def test_tasks_and_triggers_have_told_what_they_did(cluster: Cluster) -> None:
    """After all other tests of this module."""
    by_tasks = [
        "vod.extractions.submitted",
        "vod.extractions.finished,engine=vod",
        "vod.assets.failed,task=audio",
    ]
    by_triggers = [
        "vod.waiting.assets,hostname=",
        "vod.waiting.oldest,hostname=",
        "vod.calls.made,service=VOD,call=info,answer=ok",
    ]
    by_airflow = ["triggerer_heartbeat"]  # which an alert watches
    for name in (*by_tasks, *by_triggers, *by_airflow):
        assert any(each.startswith(f"airflow.{name}") for each in cluster.counted.names), name
