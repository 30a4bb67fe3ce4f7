"""The pools of the sample DAGs: one for speech recognition, and one for backfills, by a cluster policy.

Recognition uses all cores or a GPU for minutes: the Airflow option ``[vod] speech_pool`` names a pool with as
many slots as may run at once. The sample DAGs' transcriptions run in it.

An Airflow task has one pool, whatever kind of run it is in. This policy moves the tasks of backfills, and of
DAGs with the tag ``backfill``, to a pool of their own, behind all other tasks. It concerns only DAGs with the
tag ``vod``.

It is off until the Airflow option ``[vod] backfill_pool`` names a pool, for example as the environment
variable ``AIRFLOW__VOD__BACKFILL_POOL=vod_backfill``. The pool must exist:
``airflow pools set vod_backfill 4 "Backfills of video libraries"``. While the policy is off, the same DAGs
run in the pools that their tasks name.

Airflow loads this module in each of its processes (entry point group ``airflow.policy``): it imports nothing
that Airflow has not loaded by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow import settings
from airflow.configuration import conf
from airflow.policies import hookimpl

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

POOL = conf.get("vod", "backfill_pool", fallback="")
"""Pool of the backfills, read once per process; empty while the policy is off."""

SPEECH_POOL = conf.get("vod", "speech_pool", fallback="") or "default_pool"
"""Pool of the sample DAGs' transcriptions, read once per process. A pool that does not exist runs nothing."""

PRIORITY = -100
"""Priority weight of a backfill's tasks. Tasks that name no weight start at 1."""


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None) -> None:
    """Move a task instance of a backfill to the pool; the scheduler calls this when it creates one.

    :param dag_run: ``None`` early in the life of a task instance; then its run id tells the kind of run.
    """
    task = getattr(task_instance, "task", None)
    tags = task.dag.tags if task is not None and task.dag is not None else ()
    if "vod" not in tags:
        return
    run_type = dag_run.run_type if dag_run else str(task_instance.run_id).partition("__")[0]
    if "backfill" in tags or run_type == "backfill":
        task_instance.pool = POOL
        task_instance.priority_weight = PRIORITY


if POOL:
    hookimpl(task_instance_mutation_hook)
    # Airflow 3.3.2 skips this hook for new task instances unless there is an airflow_local_settings.py, even
    # if an entry point has registered one (airflow.settings.import_local_settings).
    settings.task_instance_mutation_hook.is_noop = False  # type: ignore[attr-defined]
