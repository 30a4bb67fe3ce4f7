"""`make up`: the whole of Airflow on PostgreSQL, used by a person in a browser, and gone afterwards."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Page

from tests.system.conftest import ROOT, Stack, api, shoot, start

pytestmark = [pytest.mark.system, pytest.mark.browser]


def test_everything_listens_on_the_loopback_only(stack: Stack) -> None:
    listening = [
        connection.laddr.ip
        for process in stack.processes()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
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
    link = page.get_by_role("link", name="VOD console")
    assert link.get_attribute("href") == "https://console.huaweicloud.com/vod/?region=cn-north-4"


def test_the_page_of_a_run_tells_how_far_it_is(stack: Stack, page: Page) -> None:
    [run] = api(stack, "/dags/extract_and_transcribe/dagRuns")["dag_runs"]
    page.goto(f"{stack.url}/dags/extract_and_transcribe/runs/{run['dag_run_id']}")
    page.get_by_role("link", name="Videos").click()
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


def test_down_cleans_up_after_a_kill(state: Path) -> None:
    killed = start(state)
    killed.process.kill()
    killed.process.wait()
    command = [sys.executable, "-m", "dev.up", "--down"]
    subprocess.run(command, cwd=ROOT, env=killed.environment, check=True, timeout=120)
    assert killed.processes() == []
