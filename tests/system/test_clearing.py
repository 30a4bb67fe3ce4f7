"""A red run says why, shows Airflow what failed, and does that again when a person clears what failed."""

from __future__ import annotations

import csv
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dev.airflow import Airflow, postgres
from dev.processes import Processes
from dev.stack import python
from tests.conftest import held_at_xcom
from tests.system.conftest import ROOT
from vod.speech import resolve_model
from vod.standin import StandinSettings, running

pytestmark = pytest.mark.system

DAG = "extract_and_transcribe"


@pytest.fixture(scope="module")
def airflow() -> Iterator[Airflow]:
    with (
        tempfile.TemporaryDirectory(prefix="vod-clearing-") as name,
        Processes() as processes,
    ):
        folder = Path(name).resolve()
        folder.chmod(0o755)  # as root, PostgreSQL runs as a user who must enter
        (folder / "videos").mkdir()
        with (
            running(StandinSettings(data=folder / "standin")) as standin,
            postgres(folder / "postgres") as database,
        ):
            whole = Airflow(
                folder,
                processes,
                database,
                standin.url,
                dags=ROOT / "dags",
                allowed=[folder / "videos"],
                # Then the plan leaves it to the transcription whether the model is there.
                settings={"AIRFLOW__VOD__SPEECH_QUEUE": "default"},
            )
            whole.prepare()
            whole.start()
            yield whole
            processes.stop()


def states(airflow: Airflow, run: str, dag: str = DAG) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for task in sorted(airflow.api.tasks(dag, run), key=lambda task: task["map_index"]):
        found.setdefault(task["task_id"], []).append(task["state"])
    return found


def clear_failed(airflow: Airflow, dag: str, run: str) -> None:
    """What the page of a run does on "Clear run", "Clear only failed tasks"."""
    body = {"dry_run": False, "only_failed": True}
    airflow.api.call("POST", f"/dags/{dag}/dagRuns/{quote(run)}/clear", json=body)


def report_of(airflow: Airflow, run: str) -> str:
    path = f"/dags/{DAG}/dagRuns/{quote(run)}/taskInstances/report/xcomEntries/report"
    return str(airflow.api.call("GET", path)["value"])


def videos(airflow: Airflow, video: Path, *names: str) -> list[str]:
    paths = [airflow.state / "videos" / name for name in names]
    for path in paths:
        shutil.copy(video, path)
    return [str(path) for path in paths]


@pytest.mark.parametrize("how", ["page", "command"])
def test_clearing_what_failed_does_only_that_again(airflow: Airflow, video: Path, how: str) -> None:
    good = videos(airflow, video, f"{how}-a.mp4", f"{how}-b.mp4")
    late = airflow.state / "videos" / f"{how}-late.mp4"
    run = airflow.api.trigger(DAG, assets=[good[0], str(late), good[1]], engine="ffmpeg", batch_size=2)
    assert airflow.api.await_run(DAG, run) == "failed"
    assert states(airflow, run) == {
        "plan": ["success"],
        "batch.extract": ["success", "success"],
        "batch.transcribe": ["success", "success"],
        "failed": ["success"],
        "again.extract": ["failed"],
        "again.transcribe": ["upstream_failed"],
        "report": ["failed"],
    }
    [own] = [task for task in airflow.api.tasks(DAG, run) if task["task_id"] == "again.extract"]
    assert own["rendered_map_index"] == str(late), "the page names what failed"
    assert "| transcribed | 2 |" in report_of(airflow, run)
    assert str(late) in report_of(airflow, run)
    said = airflow.api.log(DAG, run, "report")
    assert f"airflow dags clear {DAG} --run-id '{run}' --only-failed --yes" in said

    shutil.copy(video, late)
    if how == "page":
        clear_failed(airflow, DAG, run)
    else:
        command = python("-m", "airflow", "dags", "clear", DAG, "--run-id", run, "--only-failed", "--yes")
        subprocess.run(command, env=airflow.environment, cwd=ROOT, check=True, capture_output=True)
    assert airflow.api.await_run(DAG, run) == "success"
    assert {state for found in states(airflow, run).values() for state in found} == {"success"}
    assert "| transcribed | 3 |" in report_of(airflow, run)
    tries = {task["task_id"]: task["try_number"] for task in airflow.api.tasks(DAG, run)}
    assert tries["batch.extract"] == tries["batch.transcribe"] == 1, "what was done is left alone"


def test_batches_that_failed_as_a_whole_have_their_reason_and_are_done_again(
    airflow: Airflow, video: Path
) -> None:
    good = videos(airflow, video, "c.mp4", "d.mp4")
    missing, model = str(airflow.state / "videos" / "missing.mp4"), airflow.state / "videos" / "model"
    run = airflow.api.trigger(DAG, assets=[*good, missing], engine="ffmpeg", batch_size=2, model=str(model))
    assert airflow.api.await_run(DAG, run) == "failed"
    found = states(airflow, run)
    assert (found["batch.extract"], found["batch.transcribe"]) == (["success"] * 2, ["failed"] * 2)
    assert found["failed"] == ["failed"], "so that it looks again when a person has cleared what failed"
    report = report_of(airflow, run)
    assert report.count(str(model)) == 3
    assert "no_result" not in report

    model.symlink_to(resolve_model("tiny.en"))
    clear_failed(airflow, DAG, run)
    assert airflow.api.await_run(DAG, run) == "failed"
    found = states(airflow, run)
    assert found["batch.transcribe"] == ["success"] * 2
    assert (found["failed"], found["again.extract"]) == (["success"], ["failed"]), "the one that is missing"
    assert "| transcribed | 2 |" in report_of(airflow, run)


def test_each_task_reads_its_own_part_of_the_plan(airflow: Airflow, video: Path) -> None:
    good = videos(airflow, video, "e.mp4", "f.mp4")
    run = airflow.api.trigger(DAG, assets=good, engine="ffmpeg", batch_size=1)
    assert airflow.api.await_run(DAG, run) == "success"
    path = f"/dags/{DAG}/dagRuns/{quote(run)}/taskInstances/plan/xcomEntries"
    parts: dict[str, Any] = {
        key: airflow.api.call("GET", f"{path}/{key}")["value"] for key in ("return_value", "part_0", "part_1")
    }
    assert parts["return_value"] == [{"plan": 0}, {"plan": 1}]
    assert [parts["part_0"]["assets"], parts["part_1"]["assets"]] == [[good[0]], [good[1]]]


def test_what_was_cleared_is_announced_as_well(airflow: Airflow, video: Path) -> None:
    dag, [good] = "extract_asset_list", videos(airflow, video, "announced.mp4")
    late = airflow.state / "videos" / "announced-late.mp4"
    manifest = airflow.state / "videos" / "list.txt"
    manifest.write_text(f"{good}\n{late}\n")

    run = airflow.api.trigger(dag, manifest=str(manifest), engine="ffmpeg")
    assert airflow.api.await_run(dag, run) == "failed"
    assert announced(airflow, run) == [[good]], "one that failed does not hold up the others"
    clear_failed(airflow, dag, run)
    assert airflow.api.await_run(dag, run) == "failed", "it failed again"
    assert states(airflow, run, dag)["again.extract"] == ["failed"]
    assert announced(airflow, run) == [[good]]
    shutil.copy(video, late)
    clear_failed(airflow, dag, run)
    assert airflow.api.await_run(dag, run) == "success"
    assert announced(airflow, run) == sorted([[good], [str(late)]])
    with manifest.with_suffix(".txt.results.csv").open(newline="") as file:
        assert {row["status"] for row in csv.DictReader(file)} <= {"extracted", "transcribed"}


def test_a_batch_without_audio_announces_nothing(airflow: Airflow) -> None:
    manifest = airflow.state / "videos" / "nothing.txt"
    manifest.write_text(f"{airflow.state / 'videos' / 'nowhere.mp4'}\n")
    run = airflow.api.trigger("extract_asset_list", manifest=str(manifest), engine="ffmpeg")
    assert airflow.api.await_run("extract_asset_list", run) == "failed"
    assert states(airflow, run, "extract_asset_list")["batch.extract"] == ["success"], (
        "one failure costs itself"
    )
    assert announced(airflow, run) == []


def announced(airflow: Airflow, run: str) -> list[list[str]]:
    """The assets of each event of a run."""
    found = airflow.api.call("GET", "/assets/events", params={"source_run_id": run})["asset_events"]
    return sorted([record["asset"] for record in event["extra"]["audio"]] for event in found)


def test_a_worker_that_dies_in_the_report_does_not_fail_the_run(airflow: Airflow, video: Path) -> None:
    run = airflow.api.trigger(DAG, assets=videos(airflow, video, "g.mp4"), engine="ffmpeg")
    with held_at_xcom(airflow.database, run, "report", "report") as is_held:
        airflow.api.await_(is_held, "the report", 180)
        for worker in airflow.process("scheduler").children():
            for task in worker.children():
                task.kill()
    assert airflow.api.await_run(DAG, run) == "success"
    assert airflow.api.task(DAG, run, "report")["try_number"] == 2
