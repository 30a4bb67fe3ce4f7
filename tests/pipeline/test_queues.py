"""Heavy work goes to queues of its own when they are configured, whoever says that it is heavy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vod.pipeline import queues


def instance(kind: str, *, queue: str = "default", default: Any = None, **given: Any) -> Any:
    param = SimpleNamespace(value=default)
    params = {"engine": param} if default is not None else {}
    dag = SimpleNamespace(params=Params(params))
    return SimpleNamespace(task=SimpleNamespace(task_type=kind, dag=dag, **given), queue=queue)


class Params(dict[str, Any]):
    def get_param(self, name: str) -> Any:
        return self[name]


def run(**conf: Any) -> Any:
    return SimpleNamespace(conf=conf)


EXTRACT = "ExtractAudioOperator"


@pytest.mark.parametrize(
    ("task_instance", "dag_run", "expected"),
    [
        (instance("TranscribeAudioOperator"), run(), "speech"),
        (instance("TranscribeAudioOperator", queue="gpu"), run(), "gpu"),
        (instance(EXTRACT, engine="ffmpeg"), None, "media"),
        (instance(EXTRACT, engine="vod"), run(engine="ffmpeg"), "default"),
        (instance(EXTRACT, partial_kwargs={"engine": "ffmpeg"}), run(), "media"),
        (instance(EXTRACT, engine="{{ params.engine }}"), run(engine="ffmpeg"), "media"),
        (instance(EXTRACT, engine="{{ params.engine }}", default="ffmpeg"), run(), "media"),
        (instance(EXTRACT, engine="{{ params.engine }}", default="ffmpeg"), run(engine="vod"), "default"),
        (instance(EXTRACT, partial_kwargs={}, default="vod"), run(engine="ffmpeg"), "media"),
        (instance(EXTRACT, engine="MappedArgument(_key='engine')"), run(engine="ffmpeg"), "media"),
        (instance(EXTRACT, engine="MappedArgument(_key='engine')"), run(engine="vod"), "default"),
        (instance(EXTRACT), run(), "default"),
        (instance(EXTRACT, queue="own", engine="ffmpeg"), run(), "own"),
        (instance("PythonOperator", engine="ffmpeg"), run(engine="ffmpeg"), "default"),
    ],
)
def test_where_a_task_goes(
    task_instance: Any, dag_run: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "MEDIA", "media")
    monkeypatch.setattr(queues, "SPEECH", "speech")
    queues.task_instance_mutation_hook(task_instance, dag_run)
    assert task_instance.queue == expected


@pytest.mark.parametrize("kind", [EXTRACT, "TranscribeAudioOperator"])
def test_without_an_option_tasks_stay_where_they_are(kind: str) -> None:
    task_instance = instance(kind, engine="ffmpeg")
    queues.task_instance_mutation_hook(task_instance, run())
    assert task_instance.queue == "default"
