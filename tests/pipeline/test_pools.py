"""The backfill policy moves backfills only if it is configured, and its import is cheap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from vod.pipeline import pools

# Run in a fresh interpreter: what Airflow has loaded once it is initialised, as in each of its processes.
LOOK = """
import json, sys
from airflow import settings
hook = settings.get_policy_plugin_manager().hook.task_instance_mutation_hook
print(json.dumps({
    "registered": [implementation.plugin_name for implementation in hook.get_hookimpls()],
    "asked": not settings.task_instance_mutation_hook.is_noop,
    "speech": getattr(sys.modules.get("vod.pipeline.pools"), "SPEECH_POOL", None),
    "ours": sorted(name for name in sys.modules if name.partition(".")[0] == "vod"),
}))
"""


def look(**environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK], env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


@pytest.mark.slow
def test_the_policy_is_off_and_cheap_until_a_pool_is_configured() -> None:
    seen = look()
    assert (seen["registered"], seen["asked"]) == ([], False)
    info = {
        "vod",
        "vod.provider_info",
        "vod.connection",
        "vod.records",
        "vod.errors",
        "vod.text",
    }  # loaded anyway
    assert set(seen["ours"]) - info == {"vod.pipeline", "vod.pipeline.pools", "vod.pipeline.queues"}
    assert seen["speech"] == "default_pool"
    configured = look(AIRFLOW__VOD__BACKFILL_POOL="slow_lane", AIRFLOW__VOD__SPEECH_POOL="gpus")
    assert configured["speech"] == "gpus"
    assert (configured["registered"], configured["asked"]) == (["vod_backfill_pool"], True)
    assert configured["ours"] == seen["ours"]


def test_loading_the_policy_loads_nothing_else() -> None:
    """With the modules of Airflow that are loaded by then, importing it adds its own alone."""
    script = """
import importlib, sys
from airflow import settings
for name in [name for name in sys.modules if name.partition(".")[0] == "vod"]:
    del sys.modules[name]
before = set(sys.modules)
importlib.import_module("vod.pipeline.pools")
print(sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == str(["vod", "vod.pipeline", "vod.pipeline.pools"])


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
def test_only_backfills_of_this_package_are_moved(
    tags: set[str], run_id: str, run_type: str | None, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "POOL", "slow_lane")
    task_instance: Any = instance(tags, run_id)
    run: Any = SimpleNamespace(run_type=run_type) if run_type else None
    pools.task_instance_mutation_hook(task_instance, run)
    expected = ("slow_lane", pools.PRIORITY) if moved else ("default_pool", 3)
    assert (task_instance.pool, task_instance.priority_weight) == expected
