"""Template text in ids, titles, tracks, names, lists and forms is rendered by no DAG and engine."""

from __future__ import annotations

import csv
import shutil
import subprocess
from datetime import timedelta
from typing import Any

import pytest

from tests.conftest import SAMPLES
from tests.hostile.conftest import NIGHT, SECRET_KEY, Cluster
from vod.media import find_ffmpeg

pytestmark = pytest.mark.hostile

EVIL = "x{{ 7*191 }}y {{ conn.vod_default.password }} {% raw %}"
RENDERED = "x1337y"


def evil_video(cluster: Cluster) -> str:
    """A file with template text in its name, its title, and title and language of a track."""
    path = cluster.media / f"{EVIL}.mkv"
    if not path.exists():
        tags = [f"title={EVIL}", f"comment={EVIL}", f"artist={EVIL}"]
        command = [find_ffmpeg(), "-v", "error", "-i", SAMPLES / "train.mkv", "-i", SAMPLES / "lake.mov"]
        command += ["-map", "0:a:0", "-map", "1:a:0", "-c", "copy"]
        command += [part for tag in tags for part in ("-metadata", tag)]
        for track in ("-metadata:s:a:0", "-metadata:s:a:1"):
            command += [track, f"title={EVIL}", track, f"language={EVIL}"]
        subprocess.run([*map(str, command), str(path)], check=True)
    return str(path)


def plain_copy(cluster: Cluster) -> str:
    path = cluster.media / f"{EVIL}.mov"
    shutil.copy(SAMPLES / "lake.mov", path)
    return str(path)


def evil_list(cluster: Cluster, name: str, rows: list[dict[str, Any]]) -> str:
    path = cluster.state / "lists" / f"{name} {EVIL.replace('%', '')}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["asset", "date", "language", "format", "priority", EVIL])
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def await_ends(cluster: Cluster, timeout: float) -> None:
    """Wait until all runs have ended."""

    def unfinished() -> list[str]:
        runs = [run for dag in DAGS for run in cluster.runs(dag)]
        return [
            f"{run['dag_id']} {run['dag_run_id']} {run['state']} {run['conf']}"
            for run in runs
            if run["state"] not in ("success", "failed")
        ]

    try:
        cluster.airflow.api.await_(lambda: not unfinished(), "the ends of all runs", timeout, pause=2.0)
    except TimeoutError:
        pytest.fail("\n".join(["These have not ended:", *unfinished()]))


@pytest.fixture(scope="module")
def after_all_runs(cluster: Cluster) -> Cluster:
    """Runs every DAG with hostile text in every field that takes text, and waits for their ends."""
    api, admin = cluster.airflow.api, cluster.person("admin")
    files = [evil_video(cluster), plain_copy(cluster), f"{cluster.media}/missing {EVIL}.mov"]
    created = NIGHT + timedelta(hours=12)
    assets = [
        cluster.standin.add(SAMPLES / name, title=EVIL, created=created) for name in ("lake.mov", "train.mkv")
    ]
    good = {"vod": assets, "ffmpeg": files}
    for engine, named in good.items():
        cluster.trigger(admin, "extract_and_transcribe", assets=named, engine=engine)
        rows = [{"asset": asset, EVIL: EVIL} for asset in named if "missing" not in asset]
        # In a folder of its own: what has a transcript already is not transcribed again.
        own = {"engine": engine, "destination": f"{cluster.state}/lists/audio"}
        cluster.trigger(admin, "extract_asset_list", manifest=evil_list(cluster, engine, rows), **own)
        cluster.trigger(admin, "extract_and_transcribe", assets=[EVIL, f"/{EVIL}", assets[0]], engine=engine)
    cluster.trigger(admin, "submit_then_wait", assets=assets)
    cluster.trigger(admin, "mapped_operators", **good, text=EVIL)
    for column in ("asset", "date", "language", "format", "priority"):
        rows = [{"asset": assets[0], column: EVIL}]
        cluster.trigger(admin, "extract_asset_list", manifest=evil_list(cluster, column, rows), engine="vod")
    for column in ("engine", "audio_format", "language", "model", "destination", "unknown", EVIL):
        cluster.trigger(admin, "extract_and_transcribe", assets=assets[:1], **{column: EVIL})
    for folder in (f"/{EVIL}", f"{cluster.media}/{EVIL}"):
        cluster.trigger(admin, "extract_and_transcribe", assets=assets[:1], destination=folder)
    for manifest in (f"/{EVIL}", f"{cluster.state}/lists/{EVIL}.csv", f"https://{EVIL}/a.csv"):
        cluster.trigger(admin, "extract_asset_list", manifest=manifest)
    # What the lists above have extracted is not extracted again: the night has a video of its own.
    cluster.standin.add(SAMPLES / "lake.mov", title=EVIL, created=created)
    api.call("PATCH", "/dags/extract_new_assets", json={"is_paused": False})
    api.await_(lambda: len(cluster.runs("extract_new_assets")) >= 2, "the runs of two nights", 120)

    await_ends(cluster, 600)
    # What was extracted is announced, and starts runs of its own.
    api.await_(lambda: cluster.runs("transcribe_extracted_audio"), "runs by asset events", 120)
    await_ends(cluster, 300)
    return cluster


DAGS = (
    "extract_and_transcribe",
    "extract_asset_list",
    "extract_new_assets",
    "mapped_operators",
    "submit_then_wait",
    "transcribe_extracted_audio",
)


def test_the_runs_did_what_they_are_to_do(after_all_runs: Cluster) -> None:
    """Else nothing would be proved: each DAG has worked on hostile names and titles."""
    cluster = after_all_runs
    assert {path.stem for path in (cluster.state / "dags").glob("*.py")} == set(DAGS)
    tables = cluster.tables()
    for dag in DAGS:
        assert cluster.runs(dag), dag
    states = {
        (task["dag_id"], task["task_id"])
        for dag in DAGS
        for run in cluster.runs(dag)
        for task in cluster.airflow.api.tasks(dag, run["dag_run_id"])
        if task["state"] == "success"
    }
    for dag in ("extract_and_transcribe", "extract_asset_list", "extract_new_assets"):
        assert (dag, "batch.extract") in states
    for dag in ("extract_and_transcribe", "transcribe_extracted_audio"):
        assert (dag, "batch.transcribe") in states
    assert ("submit_then_wait", "batch.wait") in states
    for task in ("extract_vod", "extract_ffmpeg", "transcribe_vod", "transcribe_ffmpeg", "submit", "wait"):
        assert ("mapped_operators", task) in states
    assert "{{ 7*191 }}" in tables, "it travels, as it is"
    assert len([*cluster.state.rglob("*.mp3")]) >= 4


def test_nothing_was_rendered(after_all_runs: Cluster) -> None:
    assert after_all_runs.found(RENDERED) == []


def test_no_secret_came_of_it(after_all_runs: Cluster) -> None:
    assert after_all_runs.found(SECRET_KEY) == []
