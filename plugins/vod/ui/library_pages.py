"""All videos, and one of them: its audio, its text, its history."""

from __future__ import annotations

from datetime import date
from importlib import import_module
from typing import Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from vod.locations import public_name
from vod.ui.access import Rights, RightsDep
from vod.ui.app import not_found, render
from vod.ui.entries import MOVING, PAGE, STATES, Entry, Library, Wanted, shown_counts
from vod.ui.streams import Opened, stream

router = APIRouter()

DOUBTFUL = 0.5
"""A word of which the recogniser is less sure than this is marked."""
TRANSCRIBES = "transcribe_extracted_audio"
"""The DAG that transcribes audio again."""
_SPOKEN = 2
"""Letters of the codes of the languages that are recognised; those of tracks have three."""
_MAX_TRANSCRIPT = 32 << 20
_MOST_PAGES = 100_000


@router.get("/library", response_class=HTMLResponse)
def library(
    request: Request,
    session: SessionDep,
    rights: RightsDep,
    state: str = "",
    text: str = "",
    language: str = "",
    of_dag: str = "",
    of_run: str = "",
    since: str = "",
    until: str = "",
    page: Annotated[int, Query(ge=0, le=_MOST_PAGES)] = 0,
) -> Response:
    """All videos that the user may see, newest first."""
    stored = Library(session)
    counts = stored.counts()
    dag_ids = rights.readable(sorted(counts))
    wanted = Wanted(
        state=state if state in STATES else "",
        text=text.strip(),
        language=language.strip(),
        dag_id=of_dag,
        run_id=of_run,
        since=_day(since),
        until=_day(until),
    )
    by_state = shown_counts(counts, dag_ids)
    whole = sum(by_state.values())
    if wanted == Wanted(state=wanted.state):
        entries = stored.page(wanted, dag_ids, page * PAGE)
        total = by_state[wanted.state] if wanted.state else whole
    else:
        entries, total = stored.page_and_count(wanted, dag_ids, page * PAGE)
    return render(
        request,
        "library.html",
        entries=entries,
        languages=sorted({entry.language for entry in entries} - {""}),
        wanted=wanted,
        counts=by_state,
        whole=whole,
        total=total,
        page=page,
        first=page * PAGE + 1,
        last=page * PAGE + len(entries),
        moving=any(by_state[each] for each in MOVING),
    )


@router.get("/days", response_class=HTMLResponse)
def days(request: Request, session: SessionDep, rights: RightsDep) -> Response:
    """What was done on each of the last 30 days: a part of the library, which fetches it when it is there."""
    stored = Library(session)
    found = stored.days(rights.readable(sorted(stored.counts())))
    most = max(day.assets + day.failed for day in found)
    return render(request, "days.html", days=found, most=most)


@router.get("/asset", response_class=HTMLResponse)
def asset(request: Request, session: SessionDep, rights: RightsDep, entry: str) -> Response:
    """One video."""
    found = _find(session, rights, entry)
    return render(
        request,
        "asset.html",
        entry=found,
        history=_history(session, found),
        extract_again=_extract_again(session, rights, found),
        transcribe_again=_transcribe_again(session, rights, found),
        moving=found.state in MOVING,
        doubtful=DOUBTFUL,
    )


@router.get("/audio")
def audio(
    session: SessionDep,
    rights: RightsDep,
    entry: str,
    download: bool = False,
    wanted: Annotated[str | None, Header(alias="range")] = None,
) -> StreamingResponse:
    """The audio of a video, or the range that the browser wants."""
    record = _find(session, rights, entry).record
    if not isinstance(record.get("uri"), str):
        raise not_found()
    opened = Opened(record["uri"], str(record.get("audio_format", "")).lower())
    return stream(opened, wanted, download=download)


@router.get("/file")
def file(session: SessionDep, rights: RightsDep, entry: str, kind: str) -> StreamingResponse:
    """A file of the text of a video, to be saved."""
    return stream(Opened(_uri_of_text(_find(session, rights, entry), kind)), None, download=True)


@router.get("/transcript.json")
def transcript(session: SessionDep, rights: RightsDep, entry: str) -> Response:
    """The words of a video with their times, for the page."""
    opened = Opened(_uri_of_text(_find(session, rights, entry), "json"))
    return Response(opened.read(_MAX_TRANSCRIPT), media_type="application/json")


@router.get("/states.json")
def states(session: SessionDep, rights: RightsDep) -> JSONResponse:
    """How many videos are in which state, for scripts."""
    counts = Library(session).counts()
    return JSONResponse(shown_counts(counts, rights.readable(sorted(counts))))


def _day(text: str) -> date | None:
    """A day that somebody chose; none for what is no day, or beyond what a calendar has."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if 1970 <= day.year <= 9000 else None


def _find(session: Session, rights: Rights, key: str) -> Entry:
    found = Library(session).find(key)
    if found is None or not rights.may_read(found.written.dag_id):
        raise not_found()
    if found.text_written and not rights.may_read(found.text_written.dag_id):
        return Entry(key=found.key, audio=found.audio, updated=found.updated, written=found.written)
    return found


def _uri_of_text(entry: Entry, kind: str) -> str:
    uri = entry.files.get(kind)
    if not isinstance(uri, str):
        raise HTTPException(404, "There is no such file.")
    return uri


def _history(session: Session, entry: Entry) -> list[dict[str, Any]]:
    """Each try of the tasks that wrote of this video last, the newest first."""
    tries = []
    for what, writer in (("Audio extraction", entry.written), ("Transcription", entry.text_written)):
        if writer is None:
            continue
        for model in _tries_of():
            wanted = select(model.try_number, model.state, model.start_date, model.end_date).where(
                model.dag_id == writer.dag_id,
                model.run_id == writer.run_id,
                model.task_id == writer.task_id,
                model.map_index == writer.map_index,
            )
            rows = session.execute(wanted.execution_options(include_all_attempts=True))
            tries += [
                {"what": what, "writer": writer, "number": number, "state": state, "start": start, "end": end}
                for number, state, start, end in rows
            ]
    unique = {(each["what"], each["number"]): each for each in tries}
    return sorted(unique.values(), key=lambda each: (each["what"], -(each["number"] or 0)), reverse=False)


def _tries_of() -> list[Any]:
    """Where Airflow keeps the tries of tasks: 3.3 has the earlier ones in a table of their own, 3.4 in the
    same, of which a query has to ask for all."""
    try:
        history = import_module("airflow.models.taskinstancehistory")
    except ModuleNotFoundError:
        return [TaskInstance]
    return [TaskInstance, history.TaskInstanceHistory]


def _extract_again(session: Session, rights: Rights, entry: Entry) -> dict[str, Any] | None:
    """What *Extract again* asks of Airflow's API: a run of the same DAG with this asset alone.

    ``None`` when that cannot be asked: the DAG takes no assets, the user may not trigger it, or the source is
    a URL of which only the harmless part was kept.
    """
    dag_id = entry.written.dag_id
    if public_name(entry.asset) != entry.asset or "?" in entry.asset or not rights.may_trigger(dag_id):
        return None
    params = _form(session, dag_id)
    if not {"assets", "force"} <= params.keys():
        return None
    run = session.scalar(select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == entry.written.run_id))
    conf = {name: value for name, value in ((run.conf if run else None) or {}).items() if name in params}
    return {"dag": dag_id, "conf": {**conf, "assets": [entry.asset], "force": True}}


def _transcribe_again(session: Session, rights: Rights, entry: Entry) -> dict[str, Any] | None:
    """What *Transcribe again with …* offers: the fields of :data:`TRANSCRIBES`; ``None`` without that DAG."""
    if not entry.record or not rights.may_trigger(TRANSCRIBES):
        return None
    params = _form(session, TRANSCRIBES)
    if not {"audio", "model", "language", "force"} <= params.keys():
        return None
    models = params["model"].schema
    names = [str(name) for name in models.get("examples") or ()]
    default = str(params["model"].value or "")
    shown = models.get("values_display") or {}
    return {
        "dag": TRANSCRIBES,
        "models": {name: str(shown.get(name, name)) for name in dict.fromkeys([default, *names]) if name},
        "language": entry.language if len(entry.language) == _SPOKEN else "",
    }


def _form(session: Session, dag_id: str) -> dict[str, Any]:
    """The fields of the form of a DAG; none when there is no such DAG."""
    known = session.scalar(select(DagModel.dag_id).where(DagModel.dag_id == dag_id, ~DagModel.is_stale))
    dag = SerializedDagModel.get_dag(dag_id, session=session) if known else None
    return {name: dag.params.get_param(name) for name in dag.params} if dag else {}
