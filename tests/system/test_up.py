"""`make up`: the whole of Airflow on PostgreSQL, used by a person in a browser, and gone afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Page, sync_playwright

pytestmark = [pytest.mark.system, pytest.mark.browser]

ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = Path(os.environ.get("VOD_BUILD", ROOT / "build")) / "screenshots"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


@dataclass
class Stack:
    """A running `make up`."""

    process: subprocess.Popen[str]
    state: Path
    url: str = ""
    password: str = ""
    standin: str = ""
    samples: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "VOD_STATE": str(self.state)}

    def processes(self) -> list[psutil.Process]:
        """All that lives of it: by its environment, and PostgreSQL by its folder."""
        return [
            process
            for process in psutil.process_iter(["environ", "cmdline"])
            if (process.info["environ"] or {}).get("VOD_STATE") == str(self.state)
            or str(self.state / "postgres") in (process.info["cmdline"] or [])
        ]


def start(state: Path) -> Stack:
    process = subprocess.Popen(
        [sys.executable, "-m", "dev.up"],
        cwd=ROOT,
        env={**os.environ, "VOD_STATE": str(state)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    stack = Stack(process, state)
    said = []
    assert process.stdout
    for line in process.stdout:
        said.append(line)
        if found := re.match(r"  Airflow   (\S+)   login admin, password (\S+)", line):
            stack.url, stack.password = found.groups()
        elif found := re.match(r"  stand-in  (\S+)", line):
            stack.standin = found[1]
        elif found := re.match(r"            (\S+)  (\S+)", line):
            stack.samples[found[2]] = found[1]
        elif line.startswith("Ready."):
            return stack
    raise AssertionError("".join(said))


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A folder for all state. Not pytest's: as root, PostgreSQL runs as a user who may not enter that."""
    with tempfile.TemporaryDirectory(prefix="vod-state-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder).resolve()


@pytest.fixture(scope="module")
def stack(state: Path) -> Iterator[Stack]:
    running = start(state)
    yield running
    if running.process.poll() is None:
        os.killpg(running.process.pid, signal.SIGINT)
        running.process.wait(60)


@pytest.fixture
def page(stack: Stack) -> Iterator[Page]:
    """A browser that has logged in by keyboard."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(60_000)
        page.goto(stack.url)
        page.locator("input[name=username]").fill("admin")
        page.locator("input[name=password]").fill(stack.password)
        page.keyboard.press("Enter")
        page.get_by_text("Dags", exact=True).first.wait_for()
        yield page
        browser.close()


def shoot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def api(stack: Stack, path: str) -> Any:
    login = httpx.post(
        f"{stack.url}/auth/token", json={"username": "admin", "password": stack.password}, timeout=60
    )
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    answer = httpx.get(f"{stack.url}/api/v2{path}", headers=headers, timeout=60)
    answer.raise_for_status()
    return answer.json()


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
    page.locator("#element_assets").click()
    page.keyboard.type("\n".join(stack.samples.values()) + "\n")
    shoot(page, "form")
    page.get_by_role("button", name="Trigger", exact=True).last.click()
    page.wait_for_url(re.compile("/runs/"))
    run = page.url.rpartition("/runs/")[2]
    # Airflow may lose a task under load and retry it; the page follows by itself.
    page.get_by_text("Success", exact=True).nth(3).wait_for(timeout=240_000)
    shoot(page, "run")

    returned = api(
        stack, f"/dags/extract_and_transcribe/dagRuns/{run}/taskInstances/transcribe/xcomEntries/return_value"
    )["value"]
    transcripts = {record["asset"]: record["text"] for record in returned}
    samples = json.loads((ROOT / "samples" / "samples.json").read_text())
    for sample in samples:
        said = next(track["text"] for track in sample["audio"] if track["default"])
        assert said.split()[0] in transcripts[stack.samples[sample["file"]]]
    submissions = httpx.get(f"{stack.standin}/admin/stats").json()["submissions"]
    assert submissions == dict.fromkeys(stack.samples.values(), 1)


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
