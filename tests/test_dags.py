"""What every sample DAG keeps to. That they run is tested by the demo and in system/."""

from __future__ import annotations

import ast
import json
import re
import runpy
import subprocess
import sys
import textwrap
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.definitions.mappedoperator import MappedOperator
from airflow.sdk.definitions.taskgroup import MappedTaskGroup
from airflow.sdk.exceptions import ParamValidationError
from airflow.serialization.serialized_objects import DagSerialization

from vod.pipeline import pools, queues
from vod.pipeline.reports import only_when_cleared

ROOT = Path(__file__).parent.parent
DAGS = ROOT / "dags"
ASSET = "3e1cd21131a94525be55acf65888bf46"


@pytest.fixture(scope="module")
def dags() -> dict[str, DAG]:
    bag = DagBag(DAGS, bundle_name="dags-folder")
    assert bag.import_errors == {}
    return bag.dags


def test_each_file_holds_the_dag_of_its_name_and_documents_it(dags: dict[str, DAG]) -> None:
    assert {path.stem for path in DAGS.glob("*.py")} == set(dags)
    for dag in dags.values():
        assert dag.doc_md
        assert "vod" in dag.tags
        for task in dag.tasks:
            assert task.owner == "media"
            assert task.retries >= 2, "Airflow loses tasks at times, also the last"


def test_a_run_with_a_lost_plan_or_a_failed_asset_is_red(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        [leaf] = [task for task in dag.tasks if not task.downstream_task_ids]
        assert leaf.task_id == "report"
        # Not "all_done_min_one_success": with an empty plan the batches are skipped, and so would the report.
        assert leaf.trigger_rule == "all_done"
        assert "plan" in leaf.upstream_task_ids


def test_what_a_plan_found_is_never_rendered_as_a_template(dags: dict[str, DAG]) -> None:
    """Airflow renders what an operator is mapped over, and hands on as data what a task group is."""
    for dag in dags.values():
        assert not [task.task_id for task in dag.tasks if isinstance(task, MappedOperator)]
        assert [task.task_id for task in dag.tasks if isinstance(task.task_group, MappedTaskGroup)]


def test_airflows_pages_name_each_batch_and_its_template_is_the_authors(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        mapped = [task for task in dag.tasks if isinstance(task.task_group, MappedTaskGroup)]
        assert {task.map_index_template for task in mapped} == {"{{ batch }}"}, dag.dag_id


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_waiting_for_vod_holds_no_worker_whatever_airflows_default_is(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "ExtractAudioOperator",
            "AudioAssetSensor",
        ):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("wait_for_completion") == "False" or given.get("deferrable") == "True"


@pytest.mark.parametrize("name", ["extract_and_transcribe", "transcribe_extracted_audio"])
def test_transcriptions_run_in_the_pool_of_the_site(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "SPEECH_POOL", "vod_speech")
    dag = runpy.run_path(str(DAGS / f"{name}.py"))["dag"]
    found = {(task.task_type == "TranscribeAudioOperator", task.pool) for task in dag.tasks}
    assert found == {(True, "vod_speech"), (False, "default_pool")}


def test_what_is_planned_is_not_logged(dags: dict[str, DAG]) -> None:
    """It may hold signed URLs, and 100,000 assets."""
    for dag in dags.values():
        assert dag.get_task("plan").show_return_value_in_logs is False


def test_dags_are_what_airflow_keeps_of_them(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        json.dumps(DagSerialization.to_dict(dag))


def test_what_failed_is_shown_to_airflow_and_done_again_only_when_cleared(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        again = [task for task in dag.tasks if task.task_id.startswith("again.")]
        batch = [task for task in dag.tasks if task.task_id.startswith("batch.")]
        assert [task.label for task in again] == [task.label for task in batch] != []
        assert {task._pre_execute_hook for task in again} == {only_when_cleared}
        assert dag.get_task("failed").trigger_rule == "all_done"


@pytest.mark.parametrize("path", sorted(DAGS.glob("*.py")), ids=lambda path: path.stem)
def test_a_file_does_nothing_but_define(path: Path) -> None:
    """Top-level code imports, assigns constants and builds the DAG: it opens and asks nothing."""
    assert len(path.read_text().splitlines()) <= 90, "a screen"
    for node in ast.parse(path.read_text()).body:
        assert isinstance(node, ast.Expr | ast.Import | ast.ImportFrom | ast.Assign | ast.With)
    calls = {
        ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
    }
    assert not {call for call in calls if call.startswith(("Variable", "Connection", "requests", "open"))}


def test_parsing_a_file_loads_no_client_and_no_codec_and_asks_nobody() -> None:
    """What is slow to import is imported by the task that needs it (benchmarks/parse_time.py)."""
    script = """
import json, runpy, socket, sys
def no(*_): raise AssertionError("top-level code connects")
socket.socket.connect = no
for path in sys.argv[1:]:
    runpy.run_path(path)
print(json.dumps(sorted(sys.modules)))
"""
    command = [sys.executable, "-c", script, *map(str, DAGS.glob("*.py"))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert {"vod.operators", "vod.sensors"} <= loaded
    # httpx and tenacity are loaded by Airflow itself.
    slow = {"aiohttp", "av", "faster_whisper", "ffmpeg", "huaweicloudsdkcore", "numpy", "requests"}
    slow |= {"vod.hooks", "vod.cloud.client", "vod.engines.vod", "vod.triggers"}
    slow |= {"vod.media.info", "vod.media.extraction", "vod.media.writing", "vod.media.process"}
    assert not loaded & slow


VALID: dict[str, dict[str, Any]] = {
    "extract_and_transcribe": {"assets": [ASSET, ""]},
    "extract_asset_list": {"manifest": "/lists/a.csv"},
}


def filled(dag: DAG, given: dict[str, Any]) -> dict[str, Any]:
    params = deepcopy(dag.params)
    for name, value in given.items():
        params[name] = value
    return params.validate()


@pytest.mark.parametrize(
    ("dag", "given"),
    [
        ("extract_and_transcribe", {}),
        ("extract_and_transcribe", {"language": "de", "model": "large-v3", "force": True}),
        ("extract_and_transcribe", {"destination": "s3://bucket/audio", "batch_size": 150}),
        ("extract_asset_list", {"manifest": "obs://vod_default@bucket/list.jsonl"}),
        ("extract_asset_list", {"from_date": "2026-01-01", "to_date": "2026-01-31"}),
    ],
)
def test_a_form_with_valid_values_is_taken(dags: dict[str, DAG], dag: str, given: dict[str, Any]) -> None:
    json.dumps(filled(dags[dag], {**VALID[dag], **given}))


@pytest.mark.parametrize(
    ("dag", "given"),
    [
        ("extract_and_transcribe", {"engine": "gstreamer"}),
        ("extract_and_transcribe", {"audio_format": "mp3"}),
        ("extract_and_transcribe", {"assets": ASSET}),
        ("extract_and_transcribe", {"assets": [1]}),
        ("extract_and_transcribe", {"assets": []}),
        ("extract_and_transcribe", {"batch_size": 151}),
        ("extract_and_transcribe", {"force": "perhaps"}),
        ("extract_asset_list", {"manifest": ""}),
        ("extract_asset_list", {"manifest": None}),
        ("extract_asset_list", {"from_date": "yesterday"}),
    ],
)
def test_a_form_refuses_what_cannot_work(dags: dict[str, DAG], dag: str, given: dict[str, Any]) -> None:
    with pytest.raises(ParamValidationError):
        filled(dags[dag], {**VALID[dag], **given})


def test_people_see_names_and_not_ids(dags: dict[str, DAG]) -> None:
    for name, dag in dags.items():
        assert dag.dag_display_name not in ("", name)
        assert dag.description
        assert dag.description.endswith(".")


@pytest.mark.parametrize("first_day", ["", "2026-11-01"])
def test_unpausing_starts_no_burst_unless_a_first_day_asks_for_it(
    first_day: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow starts the last complete interval alone without catch-up."""
    monkeypatch.setenv("AIRFLOW__VOD__FIRST_DAY", first_day)
    dag = runpy.run_path(str(DAGS / "extract_new_assets.py"))["dag"]
    assert dag.catchup is bool(first_day)
    assert f"{dag.start_date:%Y-%m-%d}" == (first_day or "2026-01-01")


def test_only_what_most_people_need_is_unfolded(dags: dict[str, DAG]) -> None:
    params = dags["extract_and_transcribe"].params
    folded = {name for name in params if params.get_param(name).schema.get("section")}
    assert folded == {"destination", "force", "batch_size"}
    assert all(params.get_param(name).schema["title"] for name in params)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_intervals_meet_without_gap_or_overlap_also_when_clocks_change(zone: str) -> None:
    """What ``extract_new_assets`` relies on, also for who gives it the time zone of their country."""
    schedule = CronDataIntervalTimetable("0 0 * * *", timezone=zone)
    dag = DAG("any", schedule=schedule, start_date=datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)))
    serialized = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    year = [
        info.data_interval
        for info in serialized.iter_dagrun_infos_between(
            datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 12, 31, tzinfo=timezone.utc)
        )
    ]
    assert len(year) >= 364
    for earlier, later in pairwise(year):
        assert earlier.end == later.start
        assert timedelta(hours=23) <= later.end - later.start <= timedelta(hours=25)
        assert later.start.astimezone(ZoneInfo(zone)).hour == 0


@pytest.mark.parametrize("engine", ["vod", "ffmpeg"])
def test_the_form_says_to_which_queue_extraction_goes(
    engine: str, dags: dict[str, DAG], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the DAG as the scheduler reads it from the database."""
    monkeypatch.setattr(queues, "MEDIA", "media")
    gone = {}
    for name in ("extract_and_transcribe", "extract_asset_list"):
        read = DagSerialization.from_dict(DagSerialization.to_dict(dags[name]))
        for task in read.tasks:
            if task.task_type == "ExtractAudioOperator":
                instance = SimpleNamespace(task=task, queue="default")
                queues.task_instance_mutation_hook(
                    cast("Any", instance), cast("Any", SimpleNamespace(conf={"engine": engine}))
                )
                gone[name, task.task_id] = instance.queue
    assert len(gone) == 4
    assert set(gone.values()) == {"media" if engine == "ffmpeg" else "default"}


def blocks_of(document: str) -> list[str]:
    """The Python in a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_the_examples_of_the_readme_work(connection: str) -> None:
    in_a_dag, with_the_hook = blocks_of("README.md")
    found: dict[str, Any] = {}
    exec(in_a_dag, found)
    sensor = found["AudioAssetSensor"]
    [dag] = [value for value in found["submit"].dag.task_dict.values() if isinstance(value, sensor)]
    assert dag.upstream_task_ids == {"submit"}
    exec(with_the_hook, {})


def test_the_dag_of_the_tutorial_works(connection: str) -> None:
    found: dict[str, Any] = {}
    [block] = blocks_of("docs/tutorial.md")
    exec(block, found)
    assert [*found["extract"].dag.task_dict] == ["extract", "transcribe"]


def test_the_pattern_that_the_docs_teach_maps_a_task_group() -> None:
    pattern = blocks_of("docs/batches.md")[0]
    code = (
        "from airflow.sdk import DAG, task, task_group\n"
        "from vod.operators import ExtractAudioOperator, TranscribeAudioOperator\n"
        "with DAG('d', schedule=None) as dag:\n"
        "    @task\n    def plan(): return []\n" + textwrap.indent(pattern, "    ")
    )
    found: dict[str, Any] = {}
    exec(code, found)
    groups = {type(task.task_group) for task in found["dag"].tasks if task.task_id.startswith("batch.")}
    assert groups == {MappedTaskGroup}
