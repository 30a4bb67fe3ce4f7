"""The tab `Videos` of a DAG run: how many of its assets are done (``/vod/progress``, also as JSON).

Runs in Airflow's API server, which alone may read what the tasks of a run have reported (Airflow, "Plugins").
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import jinja2
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from sqlalchemy import select

from vod.batch.progress import PLAN_KEY, PROGRESS_KEY
from vod.ui.run_progress import Batch, RunProgress, progress_of

MAX_AT_WORK = 50
"""Batches that the page names."""

app = FastAPI(
    title="Progress of runs over videos",
    # As for the page of a task instance: who may not see that, does not learn of it here.
    dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE))],
    # These pages would be open to everybody: Airflow protects its own routes only.
    docs_url=None,
    redoc_url=None,
    openapi_url=None,
)

_POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_MAX_ID = 250
"""Characters of the id of a DAG or run, by Airflow's database."""


@app.middleware("http")
async def protect(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse ids that cannot exist, and keep the page out of caches and foreign frames."""
    request.state.nonce = secrets.token_urlsafe(16)
    if any("\0" in text or len(text) > _MAX_ID for text in request.query_params.values()):
        response: Response = JSONResponse({"detail": "There is no such run."}, status_code=404)
    else:
        response = await call_next(request)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Security-Policy"] = _POLICY.format(nonce=request.state.nonce)
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


_templates = jinja2.Environment(loader=jinja2.PackageLoader("vod.ui", ""), autoescape=True)


def _read(session: SessionDep, dag_id: str, run_id: str) -> tuple[DagRun, RunProgress]:
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise HTTPException(404, f"{dag_id} has no run {run_id}.")
    reported: dict[tuple[str, int], Any] = {}
    plans = []
    notes = select(
        TaskStateStoreModel.task_id,
        TaskStateStoreModel.map_index,
        TaskStateStoreModel.key,
        TaskStateStoreModel.value,
    ).where(TaskStateStoreModel.dag_run_id == run.id, TaskStateStoreModel.key.in_([PROGRESS_KEY, PLAN_KEY]))
    for task, map_index, key, value in session.execute(notes):
        note = json.loads(value)
        # Any task of any DAG may use these keys.
        if key == PLAN_KEY and isinstance(note, dict) and {"assets", "before"} <= note.keys():
            plans.append(note)
        elif key == PROGRESS_KEY and isinstance(note, dict) and {"assets", "message"} <= note.keys():
            reported[task, map_index] = note
    instances = (
        select(TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state)
        .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        .order_by(TaskInstance.task_id, TaskInstance.map_index)
    )
    batches = [
        Batch(task, map_index, state, reported.get((task, map_index), {}))
        for task, map_index, state in session.execute(instances)
    ]
    return run, progress_of(batches, plans)


@app.get("/progress.json")
def as_json(session: SessionDep, dag_id: str, run_id: str) -> dict[str, Any]:
    """The figures, for scripts."""
    run, progress = _read(session, dag_id, run_id)
    return {"dag_id": dag_id, "run_id": run_id, "state": run.state, **progress.to_json()}


@app.get("/progress", response_class=HTMLResponse)
def as_page(request: Request, session: SessionDep, dag_id: str, run_id: str) -> str:
    """The page, which renews itself as long as the run goes on."""
    run, progress = _read(session, dag_id, run_id)
    return _templates.get_template("videos_tab.html").render(
        nonce=request.state.nonce,
        run=run,
        progress=progress,
        max_at_work=MAX_AT_WORK,
        ended=run.state in ("success", "failed"),
    )
