"""The tab `Videos` of a DAG run and of a task instance: its videos, what failed first, how far it is.

Runs in Airflow's API server, which alone may read what the tasks of a run have reported (Airflow, "Plugins").
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.models.taskinstance import TaskInstance
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from vod.batch.progress import PLAN_KEY, PROGRESS_KEY
from vod.ui.access import Rights, RightsDep, require_results
from vod.ui.app import not_found, render
from vod.ui.entries import Library, Wanted
from vod.ui.run_progress import Batch, RunProgress, progress_of
from vod.ui.run_videos import MOST_READ, MOST_SHOWN, videos_of

MAX_AT_WORK = 50
"""Batches that the page names."""
_ENDED = ("success", "failed")
_RETRIED = ("failed", "upstream_failed")

router = APIRouter()


def _read(
    session: Session, dag_id: str, run_id: str, task: tuple[str, int] | None = None
) -> tuple[DagRun, RunProgress]:
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise not_found()
    reported: dict[tuple[str, int], Any] = {}
    plans = []
    # Airflow 3.4 calls the place of a mapped task another name here.
    place = "map_index" if hasattr(TaskStateStoreModel, "map_index") else "region_index"
    notes = select(
        TaskStateStoreModel.task_id,
        getattr(TaskStateStoreModel, place),
        TaskStateStoreModel.key,
        TaskStateStoreModel.value,
    ).where(TaskStateStoreModel.dag_run_id == run.id, TaskStateStoreModel.key.in_([PROGRESS_KEY, PLAN_KEY]))
    for task_id, map_index, key, value in session.execute(notes):
        note = json.loads(value)
        # Any task of any DAG may use these keys.
        if key == PLAN_KEY and isinstance(note, dict) and {"assets", "before"} <= note.keys():
            plans.append(note)
        elif key == PROGRESS_KEY and isinstance(note, dict) and {"assets", "message"} <= note.keys():
            reported[task_id, map_index] = note
    instances = (
        select(TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state)
        .where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id)
        .order_by(TaskInstance.task_id, TaskInstance.map_index)
    )
    batches = [
        Batch(task_id, map_index, state, reported.get((task_id, map_index), {}))
        for task_id, map_index, state in session.execute(instances)
        if task in (None, (task_id, map_index))
    ]
    return run, progress_of(batches, plans if task is None else [])


@router.get("/progress.json")
def as_json(session: SessionDep, rights: RightsDep, dag_id: str, run_id: str) -> dict[str, Any]:
    """The figures, for scripts."""
    require_results(rights, dag_id)
    run, progress = _read(session, dag_id, run_id)
    return {"dag_id": dag_id, "run_id": run_id, "state": run.state, **progress.to_json()}


@router.get("/progress", response_class=HTMLResponse)
def as_page(request: Request, session: SessionDep, rights: RightsDep, dag_id: str, run_id: str) -> Response:
    """The page of a run, which renews itself as long as the run goes on."""
    return _page(request, session, rights, dag_id, run_id)


@router.get("/batch", response_class=HTMLResponse)
def of_task(
    request: Request,
    session: SessionDep,
    rights: RightsDep,
    dag_id: str,
    run_id: str,
    task_id: str,
    map_index: str = "",
) -> Response:
    """The page of a task instance. Airflow leaves its placeholder where a task is not mapped."""
    index = int(map_index) if map_index.isascii() and map_index.isdecimal() else -1
    return _page(request, session, rights, dag_id, run_id, (task_id, index))


def _page(
    request: Request,
    session: Session,
    rights: Rights,
    dag_id: str,
    run_id: str,
    task: tuple[str, int] | None = None,
) -> Response:
    require_results(rights, dag_id)
    run, progress = _read(session, dag_id, run_id, task)
    ended = run.state in _ENDED
    library = Library(session)
    of_run = library.page(Wanted(dag_id=dag_id, run_id=run_id), [dag_id], 0, MOST_READ)
    found = videos_of(session, run, of_run, task)
    nameless = [video for video in found.videos[:MOST_SHOWN] if video.entry and not video.title]
    titles = library.titles([video.entry for video in nameless], dag_id) if nameless else {}
    for video in nameless:  # another run has written to their entries since
        video.title = titles.get(video.entry, "")
    # A run that was cleared begins its clock anew, and keeps what was done before.
    began = run.start_date if not ended and not run.clear_number else None
    failed = select(TaskInstance.id).where(
        TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.state.in_(_RETRIED)
    )
    some_failed = session.scalar(failed.limit(1)) is not None
    return render(
        request,
        "run.html",
        run=run,
        progress=progress,
        found=found,
        of_task=task is not None,
        seconds=(datetime.now(timezone.utc) - began).total_seconds() if began else 0.0,
        max_at_work=MAX_AT_WORK,
        most_shown=MOST_SHOWN,
        ended=ended,
        moving=not ended,
        may_retry=task is None and some_failed and rights.may_clear(dag_id),
    )
