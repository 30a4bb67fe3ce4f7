"""A running `make up` and a browser, for the tests of the whole."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, StorageState, sync_playwright

from tests.system.cluster import Cluster, running_cluster

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


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[Cluster]:
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(module_cluster: Cluster) -> Cluster:
    """All parts of Airflow as processes, which the tests of a module share; the stand-in is well."""
    module_cluster.calm()
    return module_cluster


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def login(stack: Stack, browser: Browser) -> StorageState:
    """What a browser keeps of a login by keyboard."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(stack.url)
    page.locator("input[name=username]").fill("admin")
    page.locator("input[name=password]").fill(stack.password)
    page.keyboard.press("Enter")
    page.get_by_text("Dags", exact=True).first.wait_for()
    kept = page.context.storage_state()
    page.context.close()
    return kept


@pytest.fixture
def page(stack: Stack, browser: Browser, login: StorageState) -> Iterator[Page]:
    """A page of a browser that has logged in."""
    context = browser.new_context(viewport={"width": 1400, "height": 900}, storage_state=login)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(stack.url)
    yield page
    context.close()


def shoot(what: Page | Locator, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    what.screenshot(path=SCREENSHOTS / f"{name}.png")


def api(stack: Stack, path: str, params: Mapping[str, str] | None = None, *, under: str = "/api/v2") -> Any:
    login = httpx.post(
        f"{stack.url}/auth/token", json={"username": "admin", "password": stack.password}, timeout=60
    )
    headers = {"Authorization": f"Bearer {login.json()['access_token']}"}
    answer = httpx.get(f"{stack.url}{under}{path}", params=params, headers=headers, timeout=60)
    answer.raise_for_status()
    return answer.json()
