"""What an operator or sensor is mapped over is data; what an author writes is a template still."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, task

from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
from vod.sensors import AudioAssetSensor

CODE = "{{ 7 * 191 }}"
NESTED = [CODE, {"title": CODE, "alternatives": [CODE]}]


def rendered(dag: DAG, name: str, data: list[dict[str, Any]], index: int = 0) -> BaseOperator:
    """The task of a map index, as a worker renders it; *data* is what the task before it has returned."""
    mapped = dag.task_dict[name]
    ti = SimpleNamespace(map_index=index, task=mapped, xcom_pull=lambda **_: data)
    context: Any = {
        "ti": ti,
        "task": mapped,
        "dag": dag,
        "dag_run": SimpleNamespace(conf={}),
        "params": {},
        "engine": "ffmpeg",
    }
    mapped.render_template_fields(context)
    return context["task"]


@pytest.mark.parametrize(
    ("kind", "field", "partial"),
    [
        (ExtractAudioOperator, "assets", {"engine": "{{ engine }}"}),
        (TranscribeAudioOperator, "audio", {"model": "{{ engine }}"}),
        (AudioAssetSensor, "audio_assets", {"vod_conn_id": "{{ engine }}"}),
    ],
)
def test_data_of_another_task_is_not_rendered(kind: Any, field: str, partial: dict[str, str]) -> None:
    with DAG("d", schedule=None) as dag:

        @task
        def plan() -> list[dict[str, Any]]:
            return []

        kind.partial(task_id="mapped", **partial).expand_kwargs(plan())
    found = rendered(dag, "mapped", [{field: NESTED}])
    assert getattr(found, field) == NESTED
    [authors] = partial
    assert getattr(found, authors) == "ffmpeg", "what the author wrote is a template still"


def test_single_texts_are_not_rendered_either() -> None:
    with DAG("d", schedule=None) as dag:

        @task
        def plan() -> list[dict[str, Any]]:
            return []

        ExtractAudioOperator.partial(task_id="mapped").expand_kwargs(plan())
    data = {"assets": CODE, "language": CODE, "destination": f"/media/{CODE}", "engine": "ffmpeg"}
    found: Any = rendered(dag, "mapped", [{}, data], index=1)
    assert {name: getattr(found, name) for name in data} == data


def test_a_list_that_the_author_wrote_out_is_rendered() -> None:
    with DAG("d", schedule=None) as dag:
        ExtractAudioOperator.partial(task_id="mapped").expand_kwargs([{"assets": "{{ engine }}"}])
    found: Any = rendered(dag, "mapped", [])
    assert found.assets == "ffmpeg"


def test_an_operator_that_is_not_mapped_renders_its_fields() -> None:
    with DAG("d", schedule=None) as dag:
        operator = ExtractAudioOperator(task_id="plain", assets=["{{ engine }}"])
    operator.render_template_fields({"engine": "a", "dag": dag, "ti": SimpleNamespace()})  # type: ignore[typeddict-unknown-key]
    assert operator.assets == ["a"]
