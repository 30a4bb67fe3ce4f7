"""The sample DAGs under a scheduler: by the form, by the clock, as backfills, over lists, by asset events."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page

from dev import stack as machine
from dev.airflow import BACKFILL_POOL, Airflow, postgres
from dev.processes import Processes
from tests.conftest import stats
from tests.system.conftest import ROOT, shoot
from tests.webhook import Webhook, listening
from vod.locations import file_stem
from vod.pipeline.pools import PRIORITY
from vod.standin import Standin, StandinSettings, faults, running

pytestmark = [pytest.mark.system, pytest.mark.browser, pytest.mark.long]

TODAY = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
DAYS = 4
FIRST_DAY = TODAY - timedelta(days=DAYS)

# A hundred extractions a minute would take the tests too long.
QUOTAS = {"extract": 60_000, "list": 60_000}


@pytest.fixture(scope="module")
def standin(state: Path) -> Iterator[Standin]:
    with running(StandinSettings(data=state / "standin")) as server:
        server.behaviour.quota_scale = 0
        yield server


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    with listening() as server:
        yield server


@pytest.fixture(scope="module")
def airflow(state: Path, standin: Standin, webhook: Webhook) -> Iterator[Airflow]:
    """All of Airflow with the sample DAGs, of which the nightly one starts a week ago."""
    dags = state / "dags"
    dags.mkdir()
    (state / "lists").mkdir()
    for file in (ROOT / "dags").glob("*.py"):
        first = f"FIRST_DAY = datetime({FIRST_DAY:%Y, %-m, %-d}, tzinfo=timezone.utc)"
        text = re.sub(r"^FIRST_DAY = .*$", first, file.read_text(), flags=re.MULTILINE)
        (dags / file.name).write_text(text)
    with Processes() as processes, postgres(state / "postgres") as database:
        settings = {
            "AIRFLOW_CONN_VOD_ALERTS": webhook.connection(),
            "AIRFLOW_CONN_VOD_DEFAULT": machine.connection(standin.url, state / "audio", quotas=QUOTAS),
        }
        whole = Airflow(
            state,
            processes,
            database,
            standin.url,
            dags=dags,
            allowed=[state / "lists"],
            settings=settings,
        )
        whole.prepare()
        whole.start()
        for dag in ("extract_and_transcribe", "extract_asset_list", "transcribe_extracted_audio"):
            whole.api.await_(lambda dag=dag: whole.api.knows(dag), dag, 120)
        pause(whole, "transcribe_extracted_audio", True)
        yield whole


@pytest.fixture(scope="module")
def stack(airflow: Airflow) -> SimpleNamespace:
    """What the fixture ``page`` logs in to."""
    return SimpleNamespace(url=airflow.url, password=airflow.password)


def pause(airflow: Airflow, dag: str, paused: bool) -> None:
    airflow.api.call("PATCH", f"/dags/{dag}", json={"is_paused": paused})


def runs(airflow: Airflow, dag: str, **filters: Any) -> list[dict[str, Any]]:
    parameters = {"limit": 100, "order_by": "run_after", **filters}
    answer = airflow.api.call("GET", f"/dags/{dag}/dagRuns", params=parameters)
    return list(answer["dag_runs"])


def ends(airflow: Airflow, dag: str, run: str, state: str, timeout: float = 300.0) -> None:
    """Wait for the end of a run, which must be in this state; otherwise say what its tasks said."""
    if (found := airflow.api.await_run(dag, run, timeout)) != state:
        logs = [
            f"{task['task_id']}[{task['map_index']}] {task['state']}\n{log_of(airflow, task)}"
            for task in airflow.api.tasks(dag, run)
            if task["state"] != "success"
        ]
        raise AssertionError(f"{dag} {run}: {found}, not {state}\n" + "\n".join(logs))


def log_of(airflow: Airflow, task: dict[str, Any]) -> str:
    dag, run = task["dag_id"], quote(task["dag_run_id"])
    path = f"/dags/{dag}/dagRuns/{run}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
    lines = airflow.api.call("GET", path, params={"map_index": task["map_index"]})["content"]
    return "\n".join(str(line)[:3000] for line in lines[-25:])


def await_runs(airflow: Airflow, dag: str, count: int, timeout: float = 240.0, **filters: Any) -> list[Any]:
    """Wait until so many runs have ended."""

    def ended() -> bool:
        states = [run["state"] for run in runs(airflow, dag, **filters)]
        return len(states) >= count and all(state in ("success", "failed") for state in states)

    airflow.api.await_(ended, f"{count} runs of {dag}", timeout)
    return runs(airflow, dag, **filters)


def planned(airflow: Airflow, dag: str, run: str) -> list[str]:
    path = f"/dags/{dag}/dagRuns/{quote(run)}/taskInstances/plan/xcomEntries"
    parts = [number for reference in airflow.api.returned(dag, run, "plan") for number in reference.values()]
    batches = [airflow.api.call("GET", f"{path}/part_{number}")["value"] for number in parts]
    return [asset for batch in batches for asset in batch["assets"]]


def command(airflow: Airflow, *arguments: str) -> str:
    """Run ``airflow ...``; returns what it said."""
    done = subprocess.run(
        machine.python("-m", "airflow", *arguments),
        env=airflow.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def reported(webhook: Webhook, run: str) -> list[str]:
    """The alerts of a run."""
    return [body["text"] for _, body, _ in webhook.posts if run in body["text"]]


def progress(airflow: Airflow, dag: str, run: str) -> dict[str, Any]:
    """What the tab Videos of a run says."""
    return dict(
        airflow.api.call("GET", f"{airflow.url}/vod/progress.json", params={"dag_id": dag, "run_id": run})
    )


def submissions(standin: Standin, assets: list[str]) -> set[int]:
    """How often each of the assets was submitted: ``{1}`` is what is wanted."""
    counted = stats(standin)["submissions"]
    return {counted.get(asset, 0) for asset in assets}


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        return {row["asset"]: row for row in csv.DictReader(file)}


def test_a_pasted_list_is_worked_off_from_the_form(
    airflow: Airflow, standin: Standin, page: Page, video: Path
) -> None:
    assets = [standin.add(video.with_name("train.mkv"), title=f"train {number}") for number in range(12)]
    page.goto(f"{airflow.url}/dags/extract_and_transcribe")
    page.get_by_role("button", name="Trigger").first.click()
    page.locator("#element_assets").click()
    page.keyboard.type(f"{assets[0]}\n")
    # What a person pastes: blanks, an empty line, a line twice, a newline at the end.
    page.keyboard.insert_text("\n".join([f"  {assets[0]}", *assets[1:9], "", *assets[9:]]) + " \n\n")
    page.set_viewport_size({"width": 1400, "height": 1500})
    shoot(page.get_by_role("dialog"), "form")
    page.get_by_role("button", name="Trigger", exact=True).last.click()
    page.wait_for_url(re.compile("/runs/"))
    run = page.url.partition("/runs/")[2].partition("?")[0]
    ends(airflow, "extract_and_transcribe", run, "success", 300)
    assert planned(airflow, "extract_and_transcribe", run) == assets
    assert submissions(standin, assets) == {1}
    for asset in assets:
        assert "train" in (airflow.state / "audio" / f"{asset}.en.txt").read_text().lower()
    page.set_viewport_size({"width": 1400, "height": 900})
    page.reload()
    page.get_by_text("Success", exact=True).nth(3).wait_for()
    shoot(page, "run")


def test_an_extraction_starts_the_transcription_of_its_audio_once(
    airflow: Airflow, standin: Standin, video: Path
) -> None:
    pause(airflow, "transcribe_extracted_audio", False)
    names = {"library.mp4": "library", "train.mkv": "train", "lake.mov": "lake"}
    words = {standin.add(video.with_name(name)): word for name, word in names.items()}
    folder = airflow.state / "lists"
    (folder / "real.txt").write_text("\n".join(words) + "\n\n")
    run = airflow.api.trigger("extract_asset_list", manifest=str(folder / "real.txt"))
    ends(airflow, "extract_asset_list", run, "success")
    [transcription] = await_runs(airflow, "transcribe_extracted_audio", 1)
    assert (transcription["run_type"], transcription["state"]) == ("asset_triggered", "success")
    for asset, word in words.items():
        assert word in (airflow.state / "audio" / f"{asset}.en.txt").read_text().lower()

    again = airflow.api.trigger("extract_asset_list", manifest=str(folder / "real.txt"))
    ends(airflow, "extract_asset_list", again, "success")
    assert planned(airflow, "extract_asset_list", again) == []
    assert submissions(standin, [*words]) == {1}
    written = rows(folder / "real.txt.results.csv")
    assert {row["status"] for row in written.values()} == {"transcribed"}
    assert {asset: row["transcript"] for asset, row in written.items()} == {
        asset: (airflow.state / "audio" / f"{asset}.en.txt").as_uri() for asset in words
    }
    assert len(runs(airflow, "transcribe_extracted_audio")) == 1, "nothing new, nothing announced"

    (folder / "file.txt").write_text(f"{video}\n")
    run = airflow.api.trigger(
        "extract_asset_list", manifest=str(folder / "file.txt"), engine="ffmpeg", audio_format="AAC"
    )
    ends(airflow, "extract_asset_list", run, "success")
    assert [found["state"] for found in await_runs(airflow, "transcribe_extracted_audio", 2)] == [
        "success"
    ] * 2
    assert "library" in (airflow.state / "audio" / f"{file_stem(str(video))}.en.txt").read_text().lower()
    pause(airflow, "transcribe_extracted_audio", True)


def test_by_hand_with_ffmpeg_in_batches_with_one_bad_file(
    airflow: Airflow, video: Path, webhook: Webhook
) -> None:
    videos = [str(video.with_name(name)) for name in ("library.mp4", "train.mkv", "lake.mov")]
    dag = "extract_and_transcribe"
    missing = str(video.with_name("nowhere.mp4"))
    run = airflow.api.trigger(dag, assets=[*videos, missing], engine="ffmpeg", batch_size=2)
    ends(airflow, dag, run, "failed")  # a run that left something undone is red
    tasks = airflow.api.tasks(dag, run)
    assert {task["task_id"]: task["state"] for task in tasks} == {
        "plan": "success",
        "batch.extract": "success",
        "batch.transcribe": "success",
        "failed": "success",
        "again.extract": "failed",
        "again.transcribe": "upstream_failed",
        "report": "failed",
    }
    assert len(tasks) == 9
    path = f"/dags/{dag}/dagRuns/{run}/taskInstances/report/xcomEntries/report"
    report = airflow.api.call("GET", path)["value"]
    assert "| transcribed | 3 |" in report
    assert f"| {missing} |" in report
    airflow.api.await_(lambda: reported(webhook, run), "the alert", 60)
    [alert] = reported(webhook, run)
    assert "| transcribed | 3 |" in alert
    assert f"{airflow.url}/dags/{dag}/runs/{quote(run)}" in alert
    good = airflow.api.trigger(dag, assets=videos, engine="ffmpeg", audio_format="AAC", batch_size=2)
    ends(airflow, dag, good, "success")
    assert not reported(webhook, good)


def test_audio_is_submitted_by_one_task_and_awaited_by_another(airflow: Airflow, standin: Standin) -> None:
    assets = standin.add_virtual(5)
    dag = "submit_then_wait"
    run = airflow.api.trigger(dag, assets=assets, batch_size=2)
    ends(airflow, dag, run, "success")
    assert submissions(standin, assets) == {1}
    tasks = airflow.api.tasks(dag, run)
    assert sorted(task["task_id"] for task in tasks) == [
        "again.submit",  # skipped
        "again.wait",
        *["batch.submit"] * 3,
        *["batch.wait"] * 3,
        "failed",
        "plan",
        "report",
    ]
    names = {task["rendered_map_index"] for task in tasks if task["task_id"] == "batch.wait"}
    assert names == {f"2 assets: {assets[0]} …", f"2 assets: {assets[2]} …", assets[4]}
    path = f"/dags/{dag}/dagRuns/{run}/taskInstances/report/xcomEntries/report"
    assert "| extracted | 5 |" in airflow.api.call("GET", path)["value"]


def test_the_intervals_since_the_first_day_are_caught_up_with_each_asset_once(
    airflow: Airflow, standin: Standin
) -> None:
    expected: dict[str, list[str]] = {}
    for number in range(-1, DAYS + 1):
        day = FIRST_DAY + timedelta(days=number)
        seconds = (0, 12 * 3600, 24 * 3600 - 1)
        expected[f"{day:%Y-%m-%d}"] = [
            standin.add_virtual(1, created_from=moment, created_to=moment, title="the same title")[0]
            for moment in (day + timedelta(seconds=second) for second in seconds)
            if moment < datetime.now(timezone.utc)
        ]
    pause(airflow, "extract_new_assets", False)
    found = await_runs(airflow, "extract_new_assets", DAYS, run_type="scheduled")
    days = [f"{FIRST_DAY + timedelta(days=number):%Y-%m-%d}" for number in range(DAYS)]
    assert [run["data_interval_start"][:10] for run in found] == days
    assert {run["state"] for run in found} == {"success"}
    for run, day in zip(found, days, strict=True):
        assert planned(airflow, "extract_new_assets", run["dag_run_id"]) == expected[day]
    assert submissions(standin, [asset for day in days for asset in expected[day]]) == {1}
    others = [asset for day, assets in expected.items() if day not in days for asset in assets]
    assert submissions(standin, others) == {0}, "the day before the first, and today"

    third = FIRST_DAY + timedelta(days=2)
    [late] = standin.add_virtual(
        1, created_from=third + timedelta(hours=6), created_to=third + timedelta(hours=6)
    )
    run = found[2]["dag_run_id"]
    airflow.api.call(
        "POST",
        f"/dags/extract_new_assets/dagRuns/{quote(run)}/clear",
        json={"dry_run": False, "only_failed": False},
    )
    ends(airflow, "extract_new_assets", run, "success")
    assert planned(airflow, "extract_new_assets", run) == [*expected[days[2]], late]
    assert submissions(standin, [*expected[days[2]], late]) == {1}, "what came late, and nothing else again"


def test_a_backfill_of_days_and_what_reprocessing_does(airflow: Airflow, standin: Standin) -> None:
    dag, march, days = "extract_new_assets", datetime(2024, 3, 1, tzinfo=timezone.utc), 5
    assets = standin.add_virtual(
        60, created_from=march, created_to=march + timedelta(days=days, seconds=-1), title="march {number}"
    )
    fifth = [assets[number] for number in range(60) if int(number * (days * 86400 - 1) / 59 // 86400) == 4]
    standin.behaviour.faults = [
        faults.parse(f"refuse,call=extract_audio,code=VOD.10099,status=403,asset={fifth[1]}")
    ]
    pause(airflow, dag, False)
    create = ["backfill", "create", "--dag-id", dag, "--from-date", "2024-03-01", "--to-date", "2024-03-05"]
    command(airflow, *create, "--max-active-runs", "4")
    found = await_runs(airflow, dag, days, run_type="backfill")
    assert {run["data_interval_start"][:10]: run["state"] for run in found} == {
        f"2024-03-{day:02}": "failed" if day == 5 else "success" for day in range(1, days + 1)
    }
    assert submissions(standin, [asset for asset in assets if asset != fifth[1]]) == {1}
    tasks = airflow.api.tasks(dag, found[0]["dag_run_id"])
    assert {(task["pool"], task["priority_weight"]) for task in tasks} == {(BACKFILL_POOL, PRIORITY)}

    await_backfill(airflow, dag)
    standin.behaviour.faults = []
    command(airflow, *create, "--reprocess-behavior", "failed")
    airflow.api.await_(
        lambda: all(run["state"] == "success" for run in runs(airflow, dag, run_type="backfill")),
        "success of the failed day",
        180,
    )
    assert submissions(standin, assets) == {1}
    again = {run["data_interval_start"][:10]: run for run in runs(airflow, dag, run_type="backfill")}
    assert len(again) == days, "a cleared run stays the same run"

    await_backfill(airflow, dag)
    started = datetime.now(timezone.utc)
    command(airflow, *create, "--reprocess-behavior", "completed")
    airflow.api.await_(
        lambda: (
            sum(
                run["state"] == "success" and datetime.fromisoformat(run["start_date"]) > started
                for run in runs(airflow, dag, run_type="backfill")
            )
            == days
        ),
        "another success of all days",
        240,
    )
    assert submissions(standin, assets) == {1}


def test_a_night_with_ffmpeg(airflow: Airflow, standin: Standin, video: Path) -> None:
    dag, night = "extract_new_assets", datetime(2024, 5, 5, tzinfo=timezone.utc)
    asset = standin.add(video, created=night + timedelta(hours=12))
    standin.add(video, title="the next day", created=night + timedelta(days=1))
    pause(airflow, dag, False)
    await_backfill(airflow, dag)
    run = backfill_of(airflow, night, "--dag-run-conf", '{"engine": "ffmpeg"}')
    ends(airflow, dag, run, "success")
    assert planned(airflow, dag, run) == [asset]
    assert (airflow.state / "audio" / f"{asset}.ffmpeg.mp3").stat().st_size > 1000
    assert submissions(standin, [asset]) == {0}


def test_a_form_a_list_and_a_night_at_once(airflow: Airflow, standin: Standin) -> None:
    night = datetime(2024, 6, 6, tzinfo=timezone.utc)
    assets = standin.add_virtual(30, created_from=night, created_to=night + timedelta(hours=23))
    listed = airflow.state / "lists" / "night.txt"
    listed.write_text("\n".join(reversed(assets)))
    standin.behaviour.running_seconds = 5
    pause(airflow, "extract_new_assets", False)
    await_backfill(airflow, "extract_new_assets")
    began = {
        "submit_then_wait": airflow.api.trigger("submit_then_wait", assets=assets, batch_size=10),
        "extract_asset_list": airflow.api.trigger("extract_asset_list", manifest=str(listed)),
        "extract_new_assets": backfill_of(airflow, night),
    }
    for dag, run in began.items():
        ends(airflow, dag, run, "success")
    standin.behaviour.running_seconds = 0
    assert submissions(standin, assets) == {1}
    audio = {row["audio"] for row in rows(listed.with_suffix(".txt.results.csv")).values()}
    assert len(audio) == 30


def backfill_of(airflow: Airflow, night: datetime, *options: str) -> str:
    """Backfill one night; returns its run."""
    day = f"{night:%Y-%m-%d}"
    create = ["backfill", "create", "--dag-id", "extract_new_assets", "--from-date", day, "--to-date", day]
    command(airflow, *create, *options)

    def runs_of_it() -> list[str]:
        found = runs(airflow, "extract_new_assets", run_type="backfill")
        return [run["dag_run_id"] for run in found if day in run["data_interval_start"]]

    airflow.api.await_(runs_of_it, "the run of that night", 120)
    [run] = runs_of_it()
    return run


def await_backfill(airflow: Airflow, dag: str) -> None:
    """Airflow takes one backfill a DAG at a time, and closes it some time after its last run."""
    airflow.api.await_(
        lambda: all(
            backfill["completed_at"]
            for backfill in airflow.api.call("GET", f"/backfills?dag_id={dag}")["backfills"]
        ),
        "the end of the backfill",
        120,
    )


def test_a_list_of_files_with_ffmpeg(airflow: Airflow, video: Path) -> None:
    manifest = airflow.state / "lists" / "files.csv"
    manifest.write_text(f"asset,format\n{video},AAC\n{video.with_name('train.mkv')},\n")
    run = airflow.api.trigger("extract_asset_list", manifest=str(manifest), engine="ffmpeg")
    ends(airflow, "extract_asset_list", run, "success")
    written = rows(manifest.with_suffix(".results.csv"))
    audio = [Path(row["audio"].removeprefix("file://")) for row in written.values()]
    assert [path.suffix for path in audio] == [".m4a", ".mp3"]
    assert all(path.stat().st_size > 1000 for path in audio)


def test_three_hundred_lines_ten_of_them_bad(airflow: Airflow, standin: Standin, page: Page) -> None:
    good = standin.add_virtual(290)
    bad = [f"{number:032x}" for number in range(10)]
    listed = list(good)
    for number, asset in enumerate(bad):
        listed.insert(number * 30, asset)
    manifest = airflow.state / "lists" / "long.csv"
    lines = [f"{asset},{number % 3}\n" for number, asset in enumerate(listed)]
    manifest.write_text("asset,priority\n" + "".join(lines))
    run = airflow.api.trigger("extract_asset_list", manifest=str(manifest))
    page.goto(f"{airflow.url}/dags/extract_asset_list/runs/{run}/plugin/videos")
    airflow.api.await_(
        lambda: any(
            30 <= task["percent"] < 90 for task in progress(airflow, "extract_asset_list", run)["tasks"]
        ),
        "a third of the list",
        200,
    )
    # The page renews itself.
    page.frame_locator("iframe[title=Videos]").get_by_text(re.compile(r"extract: [3-9]\d %")).wait_for()
    shoot(page, "progress")
    ends(airflow, "extract_asset_list", run, "failed", 400)  # ten have no audio
    tasks = airflow.api.tasks("extract_asset_list", run)
    assert len(tasks) == 16, "three batches, plan, failed, report, and one for each that failed"
    end = progress(airflow, "extract_asset_list", run)
    [extract] = end["tasks"]
    assert [extract[figure] for figure in ("assets", "done", "failed", "percent")] == [300, 290, 10, 100]
    assert not end["at_work"]
    results = manifest.with_suffix(".results.csv")
    written = rows(results)
    assert [*written] == sorted(listed, key=lambda asset: -(listed.index(asset) % 3))
    assert {asset for asset, row in written.items() if row["status"] == "extracted"} == set(good)
    assert {asset for asset, row in written.items() if row["reason"]} == set(bad)
    assert {written[asset]["status"] for asset in bad} == {"asset_not_found"}
    assert all(written[asset]["audio"].startswith("vod://vod_default/") for asset in good)
    assert submissions(standin, good) == {1}

    again = airflow.api.trigger("extract_asset_list", manifest=str(results))
    ends(airflow, "extract_asset_list", again, "failed")
    assert sorted(planned(airflow, "extract_asset_list", again)) == bad
    second = progress(airflow, "extract_asset_list", again)
    assert (second["planned"], second["before"]) == (10, 290)
    assert submissions(standin, good) == {1}
    assert rows(results) == written


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"id\n1\n", "names no column 'asset'"),
        (b"", "names no assets"),
        ("caf\xe9".encode("latin-1"), "is not UTF-8"),
        (b"asset\n/media/a.mp4\n", "VOD extracts only from its own assets"),
        (b"asset\n" + b"".join(b"%032x\n" % number for number in range(102_401)), "more than the 102400"),
    ],
)
def test_a_bad_list_is_an_error_before_anything_is_submitted(
    airflow: Airflow, standin: Standin, content: bytes, sentence: str
) -> None:
    before = stats(standin)["submissions"]
    manifest = airflow.state / "lists" / "bad.csv"
    manifest.write_bytes(content)
    run = airflow.api.trigger("extract_asset_list", manifest=str(manifest))
    ends(airflow, "extract_asset_list", run, "failed")
    assert sentence in log_of(airflow, airflow.api.task("extract_asset_list", run, "plan"))
    assert {task["state"] for task in airflow.api.tasks("extract_asset_list", run)} == {
        "failed",
        "upstream_failed",
    }
    assert stats(standin)["submissions"] == before
