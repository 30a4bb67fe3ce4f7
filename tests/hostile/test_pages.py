"""In the browser each of two people sees what his rights allow, and somebody else nothing at all."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, expect

from tests.hostile.conftest import PASSWORDS, ROOT, Cluster

pytestmark = [pytest.mark.hostile, pytest.mark.browser]
DAG = "extract_and_transcribe"


def library(cluster: Cluster, browser: Browser, name: str) -> tuple[Page, FrameLocator]:
    """The library, as somebody sees it who has logged in."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(cluster.airflow.url)
    page.locator("input[name=username]").fill(name)
    page.locator("input[name=password]").fill(PASSWORDS[name])
    page.keyboard.press("Enter")
    page.get_by_role("link", name="Video library").click()
    return page, page.frame_locator("iframe[title='Video library']")


def test_who_may_only_look_starts_nothing_by_a_click(cluster: Cluster, browser: Browser) -> None:
    video = cluster.media / "lake.mov"
    shutil.copy(ROOT / "samples" / "lake.mov", video)
    run = cluster.trigger(cluster.person("user"), DAG, assets=[str(video)], engine="ffmpeg", model="tiny.en")
    assert run
    assert cluster.airflow.api.await_run(DAG, run, 300) == "success"

    for name, may_start in (("viewer", False), ("user", True)):
        page, frame = library(cluster, browser, name)
        frame.get_by_role("link", name="lake").first.click()
        frame.locator("#words button").first.wait_for()
        for button in ("Extract again", "Transcribe again with"):
            assert frame.get_by_role("button", name=button).count() == may_start, (name, button)
        before = len(cluster.runs(DAG))
        if may_start:
            frame.get_by_role("button", name="Extract again").click()
            frame.get_by_role("dialog").get_by_role("button", name="Start").click()
            frame.get_by_role("dialog").get_by_role("link", name="Started").wait_for()
        assert len(cluster.runs(DAG)) == before + may_start
        page.context.close()


def test_whoever_has_not_logged_in_is_asked_to(cluster: Cluster, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{cluster.airflow.url}/vod/library")
    expect(page.get_by_text("Your login has expired")).to_be_visible()
    assert page.locator("table.videos").count() == 0
    page.goto(f"{cluster.airflow.url}/plugin/vod-library")
    page.locator("input[name=password]").wait_for()
    page.context.close()
