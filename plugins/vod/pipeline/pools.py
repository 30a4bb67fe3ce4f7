"""A cluster policy that keeps backfills from holding up today's runs.

An Airflow task has one pool, whatever kind of run it is in. This policy moves the tasks of backfills, and of
DAGs that are backfills by nature, to a pool of their own, behind all others. It concerns DAGs with the tag
``vod`` only. In ``airflow_local_settings.py``::

    from vod.pipeline.pools import task_instance_mutation_hook

The pool must exist: ``airflow pools set vod_backfill 4 "Backfills of video libraries"``. Without the policy
the same DAGs run in the pools that their tasks name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance

POOL = "vod_backfill"
PRIORITY = -100
"""Lower than the weights of tasks that name none, which start at 1."""


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None = None) -> None:
    """Called by the scheduler for each task instance that it creates or queues."""
    task = getattr(task_instance, "task", None)
    tags = task.dag.tags if task is not None and task.dag is not None else ()
    if "vod" not in tags:
        return
    run_type = dag_run.run_type if dag_run else str(task_instance.run_id).partition("__")[0]
    if "backfill" in tags or run_type == "backfill":
        task_instance.pool = POOL
        task_instance.priority_weight = PRIORITY
