"""``python -m vod cleanup`` removes old state, and nothing that would have audio extracted again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from airflow.models.asset import AssetModel
from airflow.models.asset_state_store import AssetStateStoreModel
from airflow.models.dagrun import DagRun
from airflow.models.task_state_store import TaskStateStoreModel
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import delete, select

from tests.conftest import settle
from vod.__main__ import main
from vod.cloud.client import VodClient
from vod.commands import cleanup
from vod.library.texts import text_key

LONG_AGO = datetime.now(timezone.utc) - timedelta(days=200)


@pytest.fixture(scope="module")
def _database() -> None:
    """The metadata database of these tests' Airflow, a file of SQLite."""
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        check=True,
        capture_output=True,
        timeout=300,
        env=os.environ,
    )


@pytest.fixture
def register(_database: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The id of the register's asset."""
    monkeypatch.setattr(cleanup, "_SECOND_LOOK", 0.0)
    monkeypatch.setattr(cleanup, "_PAGE", 2)
    with create_session() as session:
        asset = AssetModel(name="vod_register", uri="vod://register", group="asset")
        other = AssetModel(name="of_others", uri="vod://others", group="asset")
        session.add_all([asset, other])
        session.flush()
        session.add(_row(other.id, "audio_of_others", {"asset": "a"}))
        found = int(asset.id)
    yield found
    with create_session() as session:
        for model in (AssetStateStoreModel, AssetModel, TaskStateStoreModel, DagRun):
            session.execute(delete(model))


def _row(asset: int, key: str, value: Any, at: datetime = LONG_AGO) -> AssetStateStoreModel:
    return AssetStateStoreModel(asset_id=asset, key=key, value=json.dumps(value), updated_at=at)


def keep(asset: int, *rows: tuple[str, Any], at: datetime = LONG_AGO) -> None:
    with create_session() as session:
        session.add_all(_row(asset, key, value, at) for key, value in rows)


def keys() -> set[str]:
    with create_session() as session:
        return set(session.scalars(select(AssetStateStoreModel.key))) - {"audio_of_others"}


def test_signs_of_life_claims_and_failures_go_by_their_age(connection: str, register: int) -> None:
    keep(register, ("alive_1", 1.0), *((f"audio_{n}", {"asset": "a", "holder": "t"}) for n in range(5)))
    keep(register, ("audio_failed", {"asset": "b", "failure": {"outcome": "no_audio_track"}}))
    now = datetime.now(timezone.utc)
    keep(register, ("order_1", {"asset": "d", "holder": "t"}))
    keep(register, ("order_2", {"asset": "d", "holder": "t"}), at=now)
    keep(register, ("alive_2", 1.0), ("audio_new", {"asset": "c", "holder": "t"}), at=now)
    keep(register, ("pace_1", {"sent": []}), ("index_abc", {}))
    everything = keys()
    assert main(["cleanup", "--dry-run"]) == 0
    assert keys() == everything
    assert main(["cleanup"]) == 0
    assert keys() == {"alive_2", "audio_new", "order_2", "pace_1", "index_abc"}
    with create_session() as session:
        assert session.scalar(select(AssetStateStoreModel.key)) is not None
        left = session.scalars(select(AssetStateStoreModel.key)).all()
    assert "audio_of_others" in left, "what another asset holds is not ours"


def test_audio_goes_only_when_it_is_gone(
    connection: str, register: int, client: VodClient, video: Path, tmp_path: Path
) -> None:
    there = client.extract_audio(client.upload(video), "MP3").audio_asset_id
    settle(client, there)
    deleted = client.extract_audio(client.upload(video), "MP3").audio_asset_id
    settle(client, deleted)
    client.delete([deleted])
    file = tmp_path / "a.mp3"
    file.write_bytes(b"audio")
    for key, audio in (("audio_there", there), ("audio_deleted", deleted)):
        keep(register, (key, {"asset": key, "audio": audio, "accepted": 1.0}), (f"owner_{audio}", key))
    for key, uri in (("audio_file", file.as_uri()), ("audio_lost", (tmp_path / "b.mp3").as_uri())):
        keep(register, (key, {"asset": key, "record": {"uri": uri}}))
        keep(register, (text_key(key), {"state": "done", "audio": uri}))
    assert main(["cleanup"]) == 0
    assert keys() == {"audio_there", f"owner_{there}", "audio_file", "text_file"}


@pytest.mark.slow
def test_while_vod_cannot_be_asked_nothing_counts_as_gone(
    connection: str, register: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = {"conn_type": "vod", "host": "http://127.0.0.1:9", "login": "a", "password": "b"}
    connection_away = json.dumps({**away, "extra": {"project_id": "p"}})
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection_away)
    keep(register, ("audio_1", {"asset": "a", "audio": "f" * 32}))
    assert main(["cleanup"]) == 0
    assert keys() == {"audio_1"}


def test_what_tasks_of_finished_runs_keep_goes(connection: str, register: int) -> None:
    def run(name: str, state: DagRunState) -> DagRun:
        return DagRun(
            dag_id="dag",
            run_id=name,
            run_type=DagRunType.MANUAL,
            state=state,
            triggered_by=DagRunTriggeredByType.TEST,
        )

    with create_session() as session:
        runs = [run("ended", DagRunState.SUCCESS), run("running", DagRunState.RUNNING)]
        session.add_all(runs)
        session.flush()
        for one in runs:
            for key in ("vod_ledger_0", "vod_ledger_1", "vod_settled_0", "batch_0", "of_the_author"):
                session.add(
                    TaskStateStoreModel(
                        dag_run_id=one.id,
                        dag_id="dag",
                        run_id=one.run_id,
                        task_id="extract",
                        key=key,
                        value="{}",
                        updated_at=LONG_AGO,
                    )
                )
    assert main(["cleanup"]) == 0
    with create_session() as session:
        left = session.execute(select(TaskStateStoreModel.run_id, TaskStateStoreModel.key)).all()
    assert {key for run_id, key in left if run_id == "ended"} == {"of_the_author"}
    assert len([key for run_id, key in left if run_id == "running"]) == 5


def test_without_a_database_it_says_where_to_run(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "vod", "cleanup"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
    )
    assert said.returncode == 2
    assert "Run this where the scheduler runs" in said.stderr
