"""The pages inside Airflow's UI: what all of them have in common (``/vod/...``).

They run in Airflow's API server. Every route needs a login, and the rights of what it shows; none of them
changes anything: what the pages' buttons do, the browser asks of Airflow's own API, with the user's rights.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from vod.logs import get_logger
from vod.ui.words import language, speak

log = get_logger(__name__)

_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
    "media-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
_MAX_LENGTH = 250
"""Characters of the id of a DAG or run, by Airflow's database, and of what can be searched."""

_TROUBLES = {
    401: ("Your login has expired", "Reload Airflow in this browser tab and log in again."),
    403: (
        "You may not see this",
        "It takes the right to read the results (XCom) of the DAG. Ask an administrator of Airflow.",
    ),
    404: ("This is not here", "There is no such video or run, or you may not see it."),
}
_FAILED = (
    "Something went wrong",
    "The log of Airflow's API server says what. Reload the page to try again.",
)

_SCRIPT = Path(__file__).with_name("pages").joinpath("pages.js").read_text(encoding="utf-8")

templates = jinja2.Environment(
    loader=jinja2.PackageLoader("vod.ui", "pages"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


def clock(seconds: Any) -> str:
    """A duration as people read it: ``1:02:03``; empty when it is not known."""
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e8:
        return ""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def bytes_in_words(size: Any) -> str:
    """A size as people read it; empty when it is not known."""
    if not isinstance(size, (int, float)) or size <= 0:
        return ""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def moment(when: datetime | None) -> str:
    """A moment for the attribute ``datetime``; the page's script puts it into the reader's own time."""
    return when.isoformat(timespec="seconds") if when else ""


def run_path(dag_id: str, run_id: str) -> str:
    """Airflow's page of a run, from one of these pages."""
    return f"../dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


def log_path(dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int | None = None) -> str:
    """Airflow's page of a task with its log, from one of these pages."""
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    tried = f"?try_number={try_number}" if try_number else ""
    return f"{run_path(dag_id, run_id)}/tasks/{quote(task_id, safe='')}{mapped}{tried}"


templates.filters |= {"clock": clock, "bytes": bytes_in_words, "moment": moment}
templates.globals |= {"run_path": run_path, "log_path": log_path}


def render(request: Request, template: str, **values: Any) -> HTMLResponse:
    """A page in the reader's language."""
    code = language(request)
    text = templates.get_template(template).render(
        nonce=request.state.nonce, lang="zh-CN" if code == "zh" else "en", _=speak(code), **values
    )
    return HTMLResponse(text)


def create(*routers: APIRouter) -> FastAPI:
    """The application with its pages."""
    app = FastAPI(
        title="Videos",
        # As for the page of a task instance: who may not see that, does not learn of anything here.
        dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))],
        # These pages would be open to everybody: Airflow protects its own routes only.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.middleware("http")(protect)
    app.add_exception_handler(StarletteHTTPException, _told)
    app.add_exception_handler(RequestValidationError, _not_there)
    for router in routers:
        app.include_router(router)
    app.get("/pages.js")(_script)
    return app


def _script() -> Response:
    """The script of all pages."""
    return Response(_SCRIPT, media_type="text/javascript; charset=utf-8")


async def protect(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what cannot exist or be read, and keep all out of caches and foreign frames."""
    request.state.nonce = secrets.token_urlsafe(16)
    if any("\0" in text or len(text) > _MAX_LENGTH for text in request.query_params.values()):
        response = _trouble(request, 404, "There is no such run or video.")
    else:
        try:
            response = await call_next(request)
        except Exception:
            log.exception("A page of the videos failed.")
            response = _trouble(request, 500, _FAILED[0])
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = _POLICY.format(nonce=request.state.nonce)
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


async def _told(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    response = _trouble(request, error.status_code, str(error.detail))
    response.headers.update(getattr(error, "headers", None) or {})
    return response


async def _not_there(request: Request, error: Exception) -> Response:
    return _trouble(request, 404, "There is no such page.")


def _trouble(request: Request, status: int, detail: str) -> Response:
    """A friendly page for people, JSON for scripts."""
    if "text/html" not in request.headers.get("Accept", ""):
        return JSONResponse({"detail": detail}, status_code=status)
    title, advice = _TROUBLES.get(status, _FAILED)
    page = render(request, "trouble.html", title=title, advice=advice, status=status)
    page.status_code = status
    return page


def not_found() -> HTTPException:
    """The answer for what is not there and for what the user may not see: they look the same."""
    return HTTPException(404, "There is no such video or run, or you may not see it.")
