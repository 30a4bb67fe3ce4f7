"""The DAGs of docs/recipes.md run as they stand there, but for ids, folders and the bucket."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dev import stack
from tests.conftest import client_of
from tests.object_store import ObjectStore, running_store
from vod.standin import Standin

PAGE = stack.ROOT / "docs" / "recipes.md"
RUN_ALL = """
import json, sys
from airflow.models.xcom import XComModel
from airflow.utils.cli import get_bagged_dag
from airflow.utils.session import create_session
results = {}
for name in sys.argv[2:]:
    run = get_bagged_dag(None, name).test()
    with create_session() as session:
        values = session.scalars(XComModel.get_many(run_id=run.run_id, dag_ids=name, key="return_value"))
        returned = {value.task_id: XComModel.deserialize_value(value) for value in values}
        states = {each.task_id: str(each.state) for each in run.get_task_instances(session=session)}
    results[name] = {"state": str(run.state), "returned": returned, "states": states}
open(sys.argv[1], "w").write(json.dumps(results))
"""


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def names_of(block: str) -> list[str]:
    return re.findall(r'DAG\("(\w+)"', block)


@pytest.fixture(scope="module")
def store() -> Any:
    with running_store() as found:
        yield found


@pytest.mark.slow
def test_every_recipe_runs(standin: Standin, store: ObjectStore, tmp_path: Path) -> None:
    client = client_of(standin)
    ids = [client.upload(stack.SAMPLES / name) for name in ("library.mp4", "lake.mov")]
    client.close()
    store.client().upload_file(str(stack.SAMPLES / "lake.mov"), "media", "videos/lake.mov")
    dags, audio = tmp_path / "dags", tmp_path / "audio"
    dags.mkdir()
    for number, block in enumerate(blocks()):
        changed = re.sub(r"(?<!@media)/videos/", f"{stack.SAMPLES}/", block)
        changed = changed.replace('"/audio"', f'"{audio}"').replace("obs://vod_default", "obs://of_store")
        changed = changed.replace('model="base"', 'model="tiny.en"')  # smaller
        for example, uploaded in zip(
            ("3e1cd21131a94525be55acf65888bf46", "5aa5e2d8b3c24a3c9c9a4f6f8f2a7d11"), ids, strict=True
        ):
            changed = changed.replace(example, uploaded)
        (dags / f"recipe_{number}.py").write_text(changed)
    extra = {"region": "ap-southeast-3", "obs_endpoint": store.url}
    to_store = {"conn_type": "vod", "login": store.login, "password": store.password, "extra": extra}
    environment = {
        **stack.airflow_environment(tmp_path / "airflow", endpoint=standin.url, destination=audio),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW_CONN_OF_STORE": json.dumps(to_store),
        "PYTHONPATH": str(stack.ROOT),
    }
    allowed = environment["AIRFLOW__VOD__ALLOWED_LOCATIONS"]
    environment["AIRFLOW__VOD__ALLOWED_LOCATIONS"] = f"{allowed}\nobs://of_store@media"
    stack.migrate(environment, tmp_path / "migration.log")
    names = [name for block in blocks() for name in names_of(block) if name != "follow_audio"]
    command = [sys.executable, "-c", RUN_ALL, str(tmp_path / "results.json"), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    results = json.loads((tmp_path / "results.json").read_text())
    assert {name: each["state"] for name, each in results.items()} == dict.fromkeys(names, "success")

    def records(name: str, task: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = results[name]["returned"][task]
        return found

    assert records("one_video", "transcribe")[0]["text"].startswith("Welcome")
    assert len(records("long_list", "batch.transcribe")) == 2
    [german] = records("files_on_disk", "extract")
    assert (german["codec"], german["language"]) == ("flac", "ger")
    assert Path(german["speech_uri"].removeprefix("file://")).exists()
    [text] = records("from_bucket_to_bucket", "transcribe")
    assert text["uris"]["txt"].startswith("obs://of_store@media/texts/")
    assert [record["outcome"] for record in records("submit_and_wait", "wait")] == ["extracted"]
    used = results["use_what_came_out"]["returned"]
    assert used["minutes"] == pytest.approx(8.8 / 60, abs=0.01)
    assert used["words"] > 10
    assert "no-such-film.mp4" in results["two_ways"]["returned"]["tell_somebody"][0]
    assert results["two_ways"]["states"]["all_well"] == "skipped"


def test_the_recipes_are_dags_of_their_own_names() -> None:
    names = [name for block in blocks() for name in names_of(block)]
    assert len(set(names)) == len(names) >= 9
    for block in blocks():
        compile(block, PAGE.name, "exec")
        assert not re.search(r"^(?!\s*#).{110,}$", block, re.MULTILINE)
