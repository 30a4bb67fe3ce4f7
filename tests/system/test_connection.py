"""The connection form in the browser: filled in by keyboard, saved, tested, opened again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.system.conftest import Stack, api, shoot
from vod.standin import StandinSettings

pytestmark = [pytest.mark.system, pytest.mark.browser]

STANDIN = StandinSettings(data=Path())
TOKEN = "a-temporary-token-for-this-test"
CONNECTION = "vod_from_the_form"

# Where the focus is, in one word.
FOCUS = """() => {
    const element = document.activeElement;
    if (element.getAttribute("role") === "combobox") {
        let around = element;
        while ((around = around.parentElement)) {
            const label = around.querySelector("label");
            if (label) return label.innerText.replace("*", "").trim();
        }
    }
    return element.name || element.innerText.trim();
}"""


def tab_to(page: Page, name: str) -> None:
    """Press Tab until a field or button of that name has the focus."""
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(FOCUS))
        if seen[-1] == name:
            return
    raise AssertionError(f"{name} cannot be reached by keyboard, only {seen}")


def fill(page: Page, values: dict[str, str]) -> None:
    for name, value in values.items():
        tab_to(page, name)
        type_over(page, value)


def type_over(page: Page, value: str) -> None:
    """Type over what the field holds, at a person's pace, and again where the field lost a key.

    On a busy machine Airflow's number field draws "0" once more after the "." of "0.5" was typed.
    """
    for _ in range(5):
        page.keyboard.press("Control+A")
        page.keyboard.type(value, delay=100)
        drawn = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        page.evaluate(drawn)
        if page.evaluate("() => document.activeElement.value") == value:
            return
    raise AssertionError(f"The field with the focus does not take {value!r}")


def choose(page: Page, name: str, words: str) -> None:
    tab_to(page, name)
    page.keyboard.type(words)
    page.keyboard.press("Enter")


def save(page: Page) -> None:
    button = page.get_by_role("button", name="Save")
    expect(button).to_be_enabled()
    tab_to(page, "Save")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)


def open_form(page: Page, stack: Stack, conn_id: str) -> None:
    page.goto(f"{stack.url}/connections")
    row(page, conn_id).get_by_role("button", name="Edit Connection").press("Enter")
    page.locator("input[name=connection_id]").wait_for()


def open_extra(page: Page) -> Locator:
    tab_to(page, "Extra Fields")
    page.keyboard.press("Enter")
    field = page.locator("#element_project_id")
    field.wait_for()
    return field


def row(page: Page, conn_id: str) -> Locator:
    return page.get_by_role("row").filter(has_text=conn_id)


def test_button(page: Page, conn_id: str) -> str:
    """Press Test; what Airflow says of it."""
    with page.expect_response(lambda answer: answer.url.endswith("/connections/test")) as answered:
        row(page, conn_id).get_by_role("button", name="Test Connection").press("Enter")
    answer: dict[str, Any] = answered.value.json()
    words = str(answer["message"])
    expect(page.get_by_text(words).first).to_be_visible()
    return words


test_button.__test__ = False  # type: ignore[attr-defined]


@pytest.fixture
def overheard(page: Page) -> Callable[[], str]:
    """All that the server told this page so far, and what the page holds now."""
    bodies: list[str] = []
    page.on(
        "response",
        lambda answer: bodies.append(answer.text()) if "/api/v2/connections" in answer.url else None,
    )
    return lambda: "\n".join([*bodies, page.content()])


@pytest.fixture(autouse=True)
def _patience() -> None:
    expect.set_options(timeout=60_000)


def test_filled_in_by_keyboard_saved_and_tested(stack: Stack, page: Page) -> None:
    page.set_viewport_size({"width": 1200, "height": 1900})
    page.goto(f"{stack.url}/connections")
    add = page.get_by_role("button", name=re.compile("Add Connection"))
    add.wait_for()
    tab_to(page, "Add Connection")
    page.keyboard.press("Enter")
    page.locator("input[name=connection_id]").wait_for()
    fill(page, {"connection_id": CONNECTION})
    choose(page, "Connection Type", "Huawei")
    page.get_by_text("Secret key (SK)").wait_for()
    endpoint, _, port = stack.standin.rpartition(":")
    fill(
        page,
        {"host": endpoint, "login": STANDIN.access_key, "password": STANDIN.secret_key, "port": port},
    )
    shoot(page.get_by_role("dialog"), "connection-standard")
    open_extra(page)
    expect(page.get_by_text("required", exact=False)).to_have_count(0)
    choose(page, "Region", "cn-north-4")
    choose(page, "Default engine", "ffmpeg")
    fill(
        page,
        {
            "element_destination": "/tmp/audio",
            "element_timeout": "30",
            "element_quota_share": "0.5",
            "element_security_token": TOKEN,
            "element_iam_endpoint": stack.standin,
        },
    )
    shoot(page.get_by_role("dialog"), "connection-extra")
    save(page)

    assert test_button(page, CONNECTION) == f"VOD at {stack.standin} accepts the keys."
    shoot(page, "connection-tested")
    stored = api(stack, f"/connections/{CONNECTION}")
    assert (stored["host"], stored["port"], stored["login"]) == (endpoint, int(port), STANDIN.access_key)
    assert json.loads(stored["extra"]) == {
        "region": "cn-north-4",
        "project_id": None,
        "engine": "ffmpeg",
        "destination": "/tmp/audio",
        "timeout": 30,
        "quota_share": 0.5,
        "security_token": "***",
        "account": None,
        "iam_endpoint": stack.standin,
        "obs_endpoint": None,
        "sis_endpoint": None,
        "allow_http": False,
        "ffmpeg": None,
    }


def test_opened_again_it_shows_the_values_and_no_secret(
    stack: Stack, page: Page, overheard: Callable[[], str]
) -> None:
    open_form(page, stack, CONNECTION)
    expect(page.locator("input[name=login]")).to_have_value(STANDIN.access_key)
    expect(page.locator("input[name=password]")).to_have_value("***")
    project = open_extra(page)
    expect(project).to_have_value("")
    for name, value in {
        "destination": "/tmp/audio",
        "timeout": "30",
        "quota_share": "0.5",
        "security_token": "***",
        "iam_endpoint": stack.standin,
    }.items():
        expect(page.locator(f"input[name=element_{name}]").last).to_have_value(value)
    fill(page, {"element_project_id": STANDIN.project_id})
    save(page)
    # The masked secrets were sent back as they were shown: they must still be the stored ones.
    assert test_button(page, CONNECTION) == f"VOD at {stack.standin} accepts the keys."
    said = overheard()
    assert STANDIN.project_id in said
    assert STANDIN.secret_key not in said
    assert TOKEN not in said


def test_a_wrong_secret_is_said_in_a_sentence(stack: Stack, page: Page, overheard: Callable[[], str]) -> None:
    open_form(page, stack, CONNECTION)
    fill(page, {"password": "not-the-secret-key"})
    save(page)
    words = test_button(page, CONNECTION)
    assert "Check access key, secret key, region and project id" in words
    shoot(page, "connection-refused")
    assert "not-the-secret-key" not in overheard()


def test_login_with_a_token(stack: Stack, page: Page) -> None:
    open_form(page, stack, CONNECTION)
    fill(page, {"login": STANDIN.user, "password": STANDIN.password})
    open_extra(page)
    fill(page, {"element_account": STANDIN.account})
    save(page)
    assert test_button(page, CONNECTION) == f"VOD at {stack.standin} accepts the keys."
