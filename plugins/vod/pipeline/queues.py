"""A cluster policy that sends work to the workers that are made for it.

Extraction by ffmpeg takes cores, recognition takes cores or a GPU, and both take minutes. Submitting to VOD
and collecting from it take seconds, and must not queue behind them. With the Airflow options ``[vod]
media_queue`` and ``[vod] speech_queue`` they have queues of their own, without a change in any DAG:

- ``TranscribeAudioOperator`` goes to the speech queue,
- ``ExtractAudioOperator`` goes to the media queue when its engine is ffmpeg by its argument, by the run's
  configuration, or by the default of the DAG's param ``engine``. An engine that only the connection names is
  not seen here.

It is off until one of them is set. Queues are those of CeleryExecutor; start workers for them:
``airflow celery worker --queues media``. A task that names a queue other than the default keeps it.

Airflow loads this module in each of its processes (entry point group ``airflow.policy``): it imports nothing
that Airflow has not loaded by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import settings
from airflow.configuration import conf
from airflow.policies import hookimpl
from sqlalchemy.orm import object_session

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

MEDIA = conf.get("vod", "media_queue", fallback="")
"""Queue of extraction by ffmpeg, read once per process; empty for the task's own."""
SPEECH = conf.get("vod", "speech_queue", fallback="")
"""Queue of transcription, read once per process; empty for the task's own."""

_ENGINES = ("vod", "ffmpeg")
_DEFAULT = conf.get("operators", "default_queue", fallback="default")


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None) -> None:
    """Set the queue of a task instance; the scheduler calls this whenever it takes it from the DAG.

    :param dag_run: ``None`` at times; then it is asked of the task instance.
    """
    task = getattr(task_instance, "task", None)
    if task is None or task_instance.queue not in (None, _DEFAULT):
        return
    if task.task_type == "TranscribeAudioOperator":
        task_instance.queue = SPEECH or task_instance.queue
    elif (
        MEDIA
        and task.task_type == "ExtractAudioOperator"
        and _engine(task_instance, task, dag_run) == "ffmpeg"
    ):
        task_instance.queue = MEDIA


def _engine(task_instance: TaskInstance, task: Any, dag_run: DagRun | None) -> Any:
    # What is a template, or comes from another task, is text of some kind here.
    given = getattr(task, "partial_kwargs", {}).get("engine") or getattr(task, "engine", None)
    if given in _ENGINES:
        return given
    if dag_run is None and object_session(task_instance):
        dag_run = task_instance.dag_run
    chosen = (dag_run.conf or {}).get("engine") if dag_run else None
    if chosen or task.dag is None or "engine" not in task.dag.params:
        return chosen
    return getattr(task.dag.params.get_param("engine"), "value", None)


if MEDIA or SPEECH:
    hookimpl(task_instance_mutation_hook)
    # Airflow 3.3.2 skips this hook for new task instances unless there is an airflow_local_settings.py, even
    # if an entry point has registered one (airflow.settings.import_local_settings).
    settings.task_instance_mutation_hook.is_noop = False  # type: ignore[attr-defined]
