"""Every route needs a login and rights, changes nothing, is in no cache, and runs in no foreign frame."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from tests.ui.conftest import AS_PERSON, DAG, RUN, Site
from vod import ui
from vod.ui import app as pages
from vod.ui import words
from vod.ui.app import templates
from vod.ui.entries import STATES
from vod.ui.pages_app import app

PAGES = Path(ui.__file__).parent / "pages"
OF_ALL = {"dag_id": DAG, "run_id": RUN, "task_id": "batch.extract", "entry": "audio_0", "kind": "txt"}
ROUTES = [route for route in app.routes if isinstance(route, APIRoute)]
DATA_ROUTES = [route.path for route in ROUTES if route.path != "/pages.js"]


def stranger(**headers: str) -> TestClient:
    return TestClient(app, raise_server_exceptions=False, headers=headers)


def test_there_are_no_routes_but_those_that_read() -> None:
    assert len(ROUTES) == len(app.routes), "no documentation, no schema, no folder of files"
    assert len(ROUTES) >= 9
    for route in ROUTES:
        assert route.methods == {"GET"}, "what changes something is asked of Airflow's own API"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x.y.z"}, {"Cookie": "_token=x.y.z"}])
def test_every_route_needs_a_login_and_says_how_it_may_be_shown(
    route: APIRoute, headers: dict[str, str]
) -> None:
    for accepts in ({}, AS_PERSON):
        answer = stranger(**headers, **accepts).get(route.path, params=OF_ALL)
        assert answer.status_code in (401, 403), route.path
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'self'" in policy
        assert "http" not in policy


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_is_changed_for_whoever_asks(site: Site, method: str) -> None:
    for path in DATA_ROUTES:
        answer = site.person().request(method, path, params=OF_ALL, headers={"Origin": "http://evil.example"})
        assert answer.status_code == 405, path


def test_an_expired_login_is_told_in_words() -> None:
    answer = stranger(**AS_PERSON).get("/library")
    assert answer.status_code == 401
    assert "Your login has expired" in answer.text
    assert "<script" not in answer.text
    chinese = stranger(**AS_PERSON, Cookie="vod_language=zh-CN").get("/library")
    assert "登录已过期" in chinese.text
    assert 'lang="zh-CN"' in chinese.text


def test_who_has_no_rights_is_told_so(site: Site) -> None:
    site.run()
    audio = site.extract("a", "file:///nowhere/a.mp3")
    for path in DATA_ROUTES:
        answer = site.person(None).get(path, params={**OF_ALL, "entry": audio.entry})
        assert answer.status_code == 403, path
    assert "You may not see this" in site.person(None).get("/library").text


def test_each_route_asks_for_the_results_of_the_dag_that_it_shows(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.mp3").write_bytes(b"sound")
    monkeypatch.setenv("AIRFLOW__VOD__ALLOWED_LOCATIONS", str(tmp_path))
    site.run()
    audio = site.extract("a", (tmp_path / "a.mp3").as_uri())
    asked = {**OF_ALL, "entry": audio.entry}
    assert site.person("viewer").get("/audio", params=asked).content == b"sound"
    manager, allowed = get_auth_manager(), get_auth_manager().is_authorized_dag

    def without_results(*, access_entity: Any = None, details: Any = None, **rest: Any) -> bool:
        if access_entity is DagAccessEntity.XCOM and details.id == DAG:
            return False
        return allowed(access_entity=access_entity, details=details, **rest)

    monkeypatch.setattr(manager, "is_authorized_dag", without_results)
    for path in DATA_ROUTES:
        # The rights of another DAG, named besides, are of no use.
        for more in ({}, {"dag_id": "mine"}):
            answer = site.person("viewer").get(path, params={**asked, **more})
            if path in ("/library", "/states.json", "/days"):
                assert audio.entry not in answer.text
                assert "nowhere" not in answer.text
            else:
                assert answer.status_code in (403, 404), path


@pytest.mark.parametrize(
    "path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/nothing", "/"]
)
def test_there_is_nothing_else(path: str) -> None:
    assert stranger().get(path).status_code == 404


@pytest.mark.parametrize("text", ["a\0b", "\0", "x" * 10_000])
def test_ids_that_cannot_exist_are_not_looked_up(text: str) -> None:
    for name in OF_ALL:
        for path in ("/progress", "/asset", "/audio", "/library"):
            assert stranger().get(path, params={**OF_ALL, name: text}).status_code == 404


@pytest.mark.parametrize("query", ["dag_id=a%00b&run_id=b", "dag_id=a&run_id=%00", "dag_id=&run_id=%00"])
def test_odd_bytes_are_no_failure_of_the_server(query: str) -> None:
    assert stranger().get(f"/progress.json?{query}").status_code == 404
    # Not UTF-8: decoded to something that no run is called; that needs a login, as every question does.
    assert stranger().get("/progress?dag_id=%ff%fe&run_id=%ed%a0%80").status_code in (401, 403)


def test_the_pages_hold_no_script_and_no_style_that_their_policy_forbids() -> None:
    for page in PAGES.glob("*.html"):
        source = page.read_text()
        assert (
            re.findall(r"<script(?! type=\"module\" nonce=\"\{\{ nonce \}\}\" src=\"pages.js\">)", source)
            == []
        )
        assert not re.search(r"\sstyle=|\son[a-z]+=|javascript:|\|\s*safe|autoescape|https?://", source), page
    script = (PAGES / "pages.js").read_text()
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "http",
    ):
        assert word not in script, word


def test_every_phrase_is_there_in_chinese() -> None:
    phrases = set()
    for page in PAGES.glob("*.html"):
        phrases |= set(re.findall(r'_\("([^"]+)"', page.read_text()))
    said = {text for pair in (*pages._TROUBLES.values(), pages._FAILED) for text in pair}
    assert phrases | said | {*STATES, "Audio extraction", "Transcription"} <= words.CHINESE.keys()
    for english, chinese in words.CHINESE.items():
        assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), english
    assert len(phrases) > 50
    assert templates.autoescape
