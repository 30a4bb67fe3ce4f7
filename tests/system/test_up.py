"""`make up`: the whole of Airflow on PostgreSQL, used by a person in a browser, and gone afterwards."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import FrameLocator, Page, expect

from dev.airflow import Api
from tests.system.conftest import ROOT, Stack, api, shoot, start

pytestmark = [pytest.mark.system, pytest.mark.browser, pytest.mark.long]


def test_everything_listens_on_the_loopback_only(stack: Stack) -> None:
    listening = []
    for process in stack.processes():
        with suppress(psutil.NoSuchProcess):  # tasks come and go
            found = process.net_connections("inet")
            listening += [each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_no_secret_is_for_others_to_read(stack: Stack) -> None:
    for file in (stack.state / "secrets").iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


def test_a_run_triggered_from_the_form_succeeds(stack: Stack, page: Page) -> None:
    page.goto(f"{stack.url}/dags/extract_and_transcribe")
    page.get_by_role("button", name="Trigger").first.click()
    # It is filled in with the samples, and runs at once.
    page.get_by_text(list(stack.samples.values())[-1]).wait_for()
    page.get_by_role("button", name="Trigger", exact=True).last.click()
    page.wait_for_url(re.compile("/runs/"))
    run = page.url.rpartition("/runs/")[2]
    # Airflow may lose a task under load and retry it; the page follows by itself.
    page.get_by_text("Success", exact=True).nth(2).wait_for(timeout=240_000)

    tasks = f"/dags/extract_and_transcribe/dagRuns/{run}/taskInstances"
    returned = api(stack, f"{tasks}/batch.transcribe/xcomEntries/return_value?map_index=0")["value"]
    transcripts = {record["asset"]: record["text"] for record in returned}
    samples = json.loads((ROOT / "samples" / "samples.json").read_text())
    for sample in samples:
        said = next(track["text"] for track in sample["audio"] if track["default"])
        assert said.split()[0] in transcripts[stack.samples[sample["file"]]]
    submissions = httpx.get(f"{stack.standin}/admin/stats").json()["submissions"]
    assert submissions == dict.fromkeys(stack.samples.values(), 1)


def test_the_page_of_a_task_tells_how_far_its_batch_is(stack: Stack, page: Page) -> None:
    [run] = api(stack, "/dags/extract_and_transcribe/dagRuns")["dag_runs"]
    task = f"/dags/extract_and_transcribe/runs/{run['dag_run_id']}/tasks/batch.extract/mapped/0"
    page.goto(f"{stack.url}{task}/task-state-store")
    page.get_by_text("Of 3 assets: 3 extracted.").wait_for()
    page.goto(f"{stack.url}{task}/details")
    page.get_by_role("link", name="Audio", exact=True).wait_for()
    assert page.get_by_role("link", name="VOD console").count() == 0, "the stand-in has none"


def test_the_page_of_a_run_tells_how_far_it_is(stack: Stack, page: Page) -> None:
    [run] = api(stack, "/dags/extract_and_transcribe/dagRuns")["dag_runs"]
    page.goto(f"{stack.url}/dags/extract_and_transcribe/runs/{run['dag_run_id']}")
    page.get_by_role("link", name="Videos", exact=True).click()
    videos = page.frame_locator("iframe[title=Videos]")
    for task in ("batch.extract", "batch.transcribe"):
        videos.get_by_text(f"{task}: 100 %").wait_for()
    assert videos.get_by_text("3 done, 0 failed, of 3.").count() == 2
    shoot(page, "videos")


def test_how_far_a_run_is_is_told_to_those_who_may_see_it(stack: Stack) -> None:
    [run] = api(stack, "/dags/extract_and_transcribe/dagRuns")["dag_runs"]
    of_run = {"dag_id": "extract_and_transcribe", "run_id": run["dag_run_id"]}
    for path in ("progress", "progress.json"):
        assert httpx.get(f"{stack.url}/vod/{path}", params=of_run).status_code == 401
    shown = api(stack, "/progress.json", of_run, under="/vod")
    assert (shown["planned"], shown["before"], shown["state"]) == (3, 0, "success")
    assert [(task["task"], task["percent"]) for task in shown["tasks"]] == [
        ("batch.extract", 100),
        ("batch.transcribe", 100),
    ]
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        api(stack, "/progress.json", {**of_run, "run_id": "<b>no</b>"}, under="/vod")


def library(stack: Stack, page: Page) -> FrameLocator:
    """The library, by a click from Airflow's first page."""
    page.goto(stack.url)
    page.get_by_role("link", name="Video library").click()
    frame = page.frame_locator("iframe[title='Video library']")
    frame.locator("table.videos").wait_for()
    return frame


HOSTILE = "<img src=x onerror=alert(1)>.mp4"


@dataclass
class Troubled:
    """Runs that fail while other tests go on: one for a video that is not there yet, one for its plan."""

    video: Path
    run: str
    without_plan: str


@pytest.fixture(scope="module")
def troubled(stack: Stack) -> Troubled:
    video = stack.state / "audio" / HOSTILE
    run = trigger(stack, assets=[str(ROOT / "samples" / "lake.mov"), str(video)], engine="ffmpeg")
    planned = trigger(stack, assets=[stack.samples["lake.mov"]], destination="/etc/none")
    return Troubled(video, run, planned)


def test_a_video_is_heard_and_read_in_the_browser(stack: Stack, page: Page, troubled: Troubled) -> None:
    frame = library(stack, page)
    frame.locator("svg.days").wait_for()
    shoot(page, "library")
    frame.get_by_role("link", name="lake").last.click()
    frame.locator("#words button").first.wait_for()
    waveform = frame.locator("#wave")
    waveform.wait_for()
    lines, audio = frame.locator("#words p"), frame.locator("audio")
    assert lines.count() >= 2
    page.wait_for_url(re.compile("/plugin/vod-library/vod/asset"))
    frame.get_by_role("heading", name="lake").click()
    page.keyboard.press("Space")
    frame.locator("#words p.now .word.now").wait_for()
    assert not audio.evaluate("audio => audio.paused")
    page.keyboard.press("Space")
    assert audio.evaluate("audio => audio.paused")
    lines.last.locator(".word").last.click()
    expect(lines.last).to_have_class(re.compile("now"))
    at = audio.evaluate("audio => { audio.pause(); return audio.currentTime }")
    assert at > 3, "a click seeks, also in audio that lies in VOD"
    box = waveform.bounding_box()
    assert box
    waveform.click(position={"x": box["width"] * 0.75, "y": 10})
    share = audio.evaluate("audio => audio.currentTime / audio.duration")
    assert share == pytest.approx(0.75, abs=0.03), "a click on the waveform seeks as well"
    lines.last.locator(".word").last.click()
    at = audio.evaluate("audio => { audio.pause(); return audio.currentTime }")
    frame.get_by_role("heading", name="lake").click()
    page.keyboard.press("ArrowLeft")
    assert at - audio.evaluate("audio => audio.currentTime") > 2
    shoot(page, "asset")
    page.keyboard.press("/")
    page.keyboard.type("spring")
    expect(frame.locator("#words p:visible")).to_have_count(1)
    with page.expect_download() as download:
        frame.get_by_role("link", name="srt", exact=True).click()
    assert "-->" in download.value.path().read_text()
    page.reload()
    frame.get_by_role("heading", name="lake").wait_for()  # its address is that of the page
    frame.get_by_role("link", name="Log").first.click()
    page.wait_for_url(re.compile("/dags/extract_and_transcribe/runs/.+/tasks/batch.extract/mapped/0"))


def test_the_buttons_of_a_task_lead_to_what_it_made(stack: Stack, page: Page) -> None:
    run = api(stack, "/dags/extract_and_transcribe/dagRuns", {"order_by": "run_after"})["dag_runs"][0]
    run_page = f"{stack.url}/dags/extract_and_transcribe/runs/{run['dag_run_id']}"
    for task, name in (("extract", "Audio"), ("transcribe", "Transcript")):
        page.goto(f"{run_page}/tasks/batch.{task}/mapped/0/details")
        page.get_by_role("link", name=name, exact=True).click()
        frame = page.frame_locator("iframe[title='Video library']")
        frame.get_by_text("Only this run").wait_for()
        assert frame.locator("td.title").count() == 3


def test_extract_again_asks_first_and_starts_a_run(stack: Stack, page: Page) -> None:
    before = api(stack, "/dags/extract_and_transcribe/dagRuns")["total_entries"]
    frame = library(stack, page)
    frame.get_by_role("link", name="train").last.click()
    frame.get_by_role("button", name="Extract again").click()
    dialog = frame.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert api(stack, "/dags/extract_and_transcribe/dagRuns")["total_entries"] == before
    frame.get_by_role("button", name="Extract again").click()
    dialog.get_by_role("button", name="Start").click()
    dialog.get_by_role("link", name="Started").click()
    page.wait_for_url(re.compile("/dags/extract_and_transcribe/runs/manual"))
    run = next(
        run
        for run in api(stack, "/dags/extract_and_transcribe/dagRuns")["dag_runs"]
        if run["conf"].get("force")
    )
    assert run["conf"]["assets"] == [stack.samples["train.mkv"]]


def test_transcribe_again_starts_a_run_with_another_model(stack: Stack, page: Page) -> None:
    frame = library(stack, page)
    frame.get_by_role("link", name="lake").last.click()
    frame.get_by_role("button", name="Transcribe again with").click()
    dialog = frame.get_by_role("dialog")
    dialog.get_by_label("Model").select_option("tiny.en")
    dialog.get_by_label("Language spoken").fill("")
    dialog.get_by_role("button", name="Start").click()
    dialog.get_by_role("link", name="Started").click()
    page.wait_for_url(re.compile("/dags/transcribe_extracted_audio/runs/manual"))
    run = page.url.rpartition("/runs/")[2].partition("/")[0]
    assert (
        Api(stack.url, stack.password).await_run("transcribe_extracted_audio", unquote(run), 120) == "success"
    )
    page.goto(f"{stack.url}/dags/transcribe_extracted_audio/runs/{run}/plugin/videos")
    videos = page.frame_locator("iframe[title=Videos]")
    expect(videos.locator("table.videos .state.done")).to_have_count(1)


def test_the_tab_of_a_task_shows_the_videos_of_its_batch(stack: Stack, page: Page) -> None:
    run = api(stack, "/dags/extract_and_transcribe/dagRuns", {"order_by": "run_after"})["dag_runs"][0]
    task = f"/dags/extract_and_transcribe/runs/{run['dag_run_id']}/tasks/batch.transcribe/mapped/0"
    page.goto(f"{stack.url}{task}")
    page.get_by_role("link", name="Videos", exact=True).click()
    videos = page.frame_locator("iframe[title=Videos]")
    videos.get_by_role("heading", name="Videos of this task").wait_for()
    assert videos.locator("table.videos .state.done").count() == 3
    shoot(page, "task")
    page.goto(f"{stack.url}{task.partition('/tasks/')[0]}/tasks/plan/plugin/batch-videos")
    videos.get_by_text("This task has not worked on videos.").wait_for()


def test_a_run_that_failed_says_why_and_its_failures_are_done_again(
    stack: Stack, page: Page, troubled: Troubled
) -> None:
    alerts: list[str] = []
    page.on("dialog", lambda dialog: alerts.append(dialog.message))
    await_run(stack, troubled.run, "failed")
    page.goto(f"{stack.url}/dags/extract_and_transcribe/runs/{quote(troubled.run)}/plugin/videos")
    videos = page.frame_locator("iframe[title=Videos]")
    first = videos.locator("table.videos tbody tr").first
    expect(first.locator("td.title")).to_have_text(HOSTILE)
    expect(first.locator("td.why")).to_contain_text("The file does not exist.")
    shoot(page, "run-failed")
    first.get_by_role("link").click()
    videos.get_by_role("heading", name="Why it failed").wait_for()
    page.goto(f"{stack.url}/vod/library?text={quote(HOSTILE)}")
    expect(page.locator("td.title a")).to_have_text(HOSTILE)
    assert page.locator("main img").count() == 0

    shutil.copy(ROOT / "samples" / "train.mkv", troubled.video)
    page.goto(f"{stack.url}/dags/extract_and_transcribe/runs/{quote(troubled.run)}/plugin/videos")
    videos.get_by_role("button", name="Retry the failed ones").click()
    videos.get_by_role("button", name="Retry", exact=True).click()
    videos.get_by_text(re.compile(r"[1-9]\d* tasks were cleared and run again now")).wait_for()
    videos.get_by_role("button", name="Close").click()
    expect(videos.locator(".state.done")).to_have_count(2, timeout=100_000)  # the tab follows by itself
    assert alerts == []


def test_a_failed_plan_says_why_in_the_tab(stack: Stack, page: Page, troubled: Troubled) -> None:
    await_run(stack, troubled.without_plan, "failed")
    page.goto(f"{stack.url}/dags/extract_and_transcribe/runs/{quote(troubled.without_plan)}/plugin/videos")
    videos = page.frame_locator("iframe[title=Videos]")
    videos.get_by_text("/etc/none: This location is not allowed.").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_can_be_used_by_everybody(stack: Stack, page: Page, theme: str) -> None:
    """Airflow's theme and language, a narrow window, and no serious finding of axe-core."""
    page.evaluate("theme => { localStorage.theme = theme; localStorage.i18nextLng = 'zh-CN' }", theme)
    frame = library(stack, page)
    frame.locator(f"html.{theme}[lang=zh-CN]").wait_for()
    frame.get_by_role("heading", name="全部视频").wait_for()
    entry = frame.get_by_role("link", name="lake").last.get_attribute("href")
    page.set_viewport_size({"width": 400, "height": 850})
    run = api(stack, "/dags/extract_and_transcribe/dagRuns")["dag_runs"][0]
    tab = f"progress?dag_id=extract_and_transcribe&run_id={quote(run['dag_run_id'], safe='')}"
    pages = {"library": "library", "asset": str(entry), "run": tab, "missing": "asset?entry=nothing"}
    for name, path in pages.items():
        page.goto(f"{stack.url}/vod/{path}")
        page.locator(f"html.{theme} main").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path
        found = Axe().run(page).response["violations"]
        serious = [each["id"] for each in found if each["impact"] in ("serious", "critical")]
        assert serious == [], (path, [node["html"] for each in found for node in each["nodes"]][:3])
        shoot(page, f"narrow-{theme}-{name}")


def trigger(stack: Stack, **conf: object) -> str:
    """Start a run; its id."""
    return Api(stack.url, stack.password).trigger("extract_and_transcribe", **conf)


def await_run(stack: Stack, run: str, state: str) -> None:
    assert Api(stack.url, stack.password).await_run("extract_and_transcribe", run, 120) == state


def test_the_connection_form_of_this_type_is_offered(stack: Stack, page: Page) -> None:
    page.goto(f"{stack.url}/connections")
    page.get_by_role("button", name=re.compile("Add Connection")).click()
    page.get_by_role("combobox").first.click()
    page.keyboard.type("Huawei")
    page.keyboard.press("Enter")
    page.get_by_text("Secret key (SK)").wait_for()
    shoot(page, "connection")


def test_down_ends_every_process(stack: Stack) -> None:
    children = stack.processes()
    assert len(children) > 5
    ports = [int(url.rpartition(":")[2]) for url in (stack.url, stack.standin)]
    command = [sys.executable, "-m", "dev.up", "--down"]
    subprocess.run(command, cwd=ROOT, env=stack.environment, check=True, timeout=120)
    stack.process.wait(10)
    assert stack.processes() == []
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_in_the_background_it_stays_until_down(state: Path) -> None:
    stack = Stack(None, state)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "dev.up"]
    common: dict[str, Any] = {"cwd": ROOT, "env": stack.environment, "text": True, "timeout": 240}
    told = subprocess.run([*command, "--background"], capture_output=True, check=True, **common).stdout
    found = re.search(r"Airflow   (\S+)   login admin, password ((?:[a-z]{4}-){3}[a-z]{4})", told)
    assert found
    stack.url, stack.password = found.groups()
    try:
        assert told.endswith("`make logs` follows it, `make down` ends it.\n")
        second = subprocess.run(command, capture_output=True, check=False, **common)
        assert second.returncode == 1
        assert f"already running at {stack.url}" in second.stdout
        with subprocess.Popen(
            [*command, "--logs"], cwd=ROOT, env=stack.environment, stdout=subprocess.PIPE, text=True
        ) as following:
            assert following.stdout
            heads = (line for line in following.stdout if line.startswith("==> "))
            seen = {Path(head.split()[1]).stem for head, _ in zip(heads, range(4), strict=False)}
            following.terminate()
        assert len(seen) >= 3
        dag, airflow = "extract_asset_list", Api(stack.url, stack.password)
        airflow.await_(lambda: airflow.knows(dag), "the DAG", 120)
        field = airflow.call("GET", f"/dags/{dag}/details")["params"]["manifest"]
        run = airflow.trigger(dag, manifest=field["value"])
        assert airflow.await_run(dag, run, 200) == "success", "its form holds a list of the samples"
        in_shell = {**common, "env": {**stack.environment, "COMMAND": f"airflow dags list-runs {dag}"}}
        shell = subprocess.run([*command, "--shell"], capture_output=True, check=True, **in_shell)
        assert run[:20] in shell.stdout, "the command works on what runs"
    finally:
        subprocess.run([*command, "--down"], check=True, **common)
    assert stack.processes() == []


def test_down_cleans_up_after_a_kill(state: Path) -> None:
    killed = start(state)
    killed.process.kill()
    killed.process.wait()
    command = [sys.executable, "-m", "dev.up", "--down"]
    subprocess.run(command, cwd=ROOT, env=killed.environment, check=True, timeout=120)
    assert killed.processes() == []
