"""What a batch survives, with every part of Airflow as a real process: nothing twice, nothing lost."""

from __future__ import annotations

import subprocess
import time

import psutil
import pytest

from dev.airflow import Api
from tests.conftest import client_of, stats
from tests.system.cluster import Cluster
from vod import media
from vod.standin.faults import parse

pytestmark = pytest.mark.system


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
