"""What every sample DAG keeps to. That they run is tested by the demo and in system/."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.sdk.exceptions import ParamValidationError

from vod.operators import ExtractAudioOperator, TranscribeAudioOperator

DAGS = Path(__file__).parent.parent / "dags"


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
        assert all(task.retries for task in dag.tasks if task.task_id != "report"), (
            "Airflow loses tasks at times"
        )


def test_the_form_offers_what_the_operators_take(dags: dict[str, DAG]) -> None:
    params = dags["extract_and_transcribe"].params
    extract, transcribe = (
        dags["extract_and_transcribe"].get_task(name) for name in ("extract", "transcribe")
    )
    assert isinstance(extract, ExtractAudioOperator)
    assert isinstance(transcribe, TranscribeAudioOperator)
    assert set(params) == {"assets", "engine", "audio_format", "model", "language"}
    params["assets"] = ["a", ""]
    json.dumps(params.validate())


@pytest.mark.parametrize(
    ("name", "value"), [("engine", "gstreamer"), ("audio_format", "mp3"), ("assets", "a"), ("assets", [1])]
)
def test_the_form_refuses_what_cannot_work(dags: dict[str, DAG], name: str, value: object) -> None:
    with pytest.raises(ParamValidationError):
        dags["extract_and_transcribe"].params[name] = value


@pytest.mark.parametrize(("chosen", "engine"), [("default", ""), ("vod", "vod"), ("ffmpeg", "ffmpeg")])
def test_templates_carry_lists_and_choices_unchanged(dags: dict[str, DAG], chosen: str, engine: str) -> None:
    dag = dags["extract_and_transcribe"]
    nasty = ['/m/it\'s "odd" <b>&amp; {{ 1 }}.mp4', "3e1cd21131a94525be55acf65888bf46", "0012"]
    context = {"params": {"assets": nasty, "engine": chosen, "audio_format": "AAC"}}
    task = dag.get_task("extract")
    environment = task.get_template_env(dag)
    assert json.loads(task.render_template(task.assets, context, environment)) == nasty
    assert task.render_template(task.engine, context, environment) == engine
    assert task.render_template(task.audio_format, context, environment) == "AAC"
