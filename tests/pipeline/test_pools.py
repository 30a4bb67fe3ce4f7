from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vod.pipeline.pools import POOL, PRIORITY, task_instance_mutation_hook


def instance(tags: set[str], run_id: str) -> Any:
    task = SimpleNamespace(dag=SimpleNamespace(tags=tags))
    return SimpleNamespace(task=task, run_id=run_id, pool="default_pool", priority_weight=3)


@pytest.mark.parametrize(
    ("tags", "run_id", "run_type", "moved"),
    [
        ({"vod"}, "backfill__2026", "backfill", True),
        ({"vod"}, "backfill__2026", None, True),
        ({"vod"}, "scheduled__2026", "backfill", True),
        ({"vod", "backfill"}, "manual__2026", "manual", True),
        ({"vod"}, "scheduled__2026", "scheduled", False),
        ({"vod"}, "manual__2026", None, False),
        ({"other", "backfill"}, "backfill__2026", "backfill", False),
    ],
)
def test_only_backfills_of_this_package_give_way(
    tags: set[str], run_id: str, run_type: str | None, moved: bool
) -> None:
    task_instance = instance(tags, run_id)
    task_instance_mutation_hook(task_instance, SimpleNamespace(run_type=run_type) if run_type else None)
    expected = (POOL, PRIORITY) if moved else ("default_pool", 3)
    assert (task_instance.pool, task_instance.priority_weight) == expected
