"""The page is shown to nobody without a login, is in no cache, and runs in no foreign frame."""

from __future__ import annotations

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from vod.ui import videos_tab
from vod.ui.videos_tab import app

RUN = {"dag_id": "a", "run_id": "b"}


@pytest.fixture
def client() -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def test_every_route_needs_a_login_and_says_how_it_may_be_shown(client: TestClient) -> None:
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(routes) == len(app.routes), "no documentation, no schema"
    for route in routes:
        for method in route.methods:
            answer = client.request(method, route.path, params=RUN)
            assert answer.status_code in (401, 403), route.path
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'self'" in policy


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/nothing"])
def test_there_is_nothing_else(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("text", ["a\0b", "\0", "x" * 10_000])
def test_ids_that_cannot_exist_are_not_looked_up(client: TestClient, text: str) -> None:
    for params in ({**RUN, "dag_id": text}, {**RUN, "run_id": text}):
        assert client.get("/progress", params=params).status_code == 404


@pytest.mark.parametrize("query", ["dag_id=a%00b&run_id=b", "dag_id=a&run_id=%00", "dag_id=&run_id=%00"])
def test_odd_bytes_are_no_failure_of_the_server(client: TestClient, query: str) -> None:
    assert client.get(f"/progress.json?{query}").status_code == 404
    # Not UTF-8: decoded to something that no run is called; that needs a login, as every question does.
    assert client.get("/progress?dag_id=%ff%fe&run_id=%ed%a0%80").status_code in (401, 403)


def test_the_page_has_no_script_and_no_style_that_its_policy_forbids() -> None:
    source = videos_tab._templates.loader.get_source(videos_tab._templates, "videos_tab.html")[0]  # type: ignore[union-attr]
    assert "<script" not in source
    assert "style=" not in source
    assert '<style nonce="{{ nonce }}">' in source
