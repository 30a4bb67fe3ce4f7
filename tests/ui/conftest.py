"""The pages with Airflow's own logins and rights, on a database of their own."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy
from airflow import settings
from airflow.api_fastapi import app as airflow_app
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.models import import_all_models, xcom
from airflow.models.asset import AssetModel
from airflow.models.asset_state_store import AssetStateStoreModel
from airflow.models.base import Base
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool
from starlette.testclient import TestClient

from tests.conftest import DictStore
from vod.library.register import Register
from vod.library.texts import Texts
from vod.records import ExtractedAudio
from vod.ui.pages_app import app

START = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
DAG, RUN = "extract_and_transcribe", "manual__1"


@dataclass
class Site:
    """A database with a register, and people who look at it."""

    session: Session
    written: int = 0
    stores: dict[str, DictStore] = field(default_factory=dict)

    def person(self, role: str | None = "admin") -> TestClient:
        """A browser that is logged in."""
        user = SimpleAuthManagerUser(username=role or "guest", role=role)
        token = airflow_app.get_auth_manager().generate_jwt(user)
        return TestClient(
            app, raise_server_exceptions=False, headers={"Authorization": f"Bearer {token}", **AS_PERSON}
        )

    def write(self, store: DictStore, *, dag: str = DAG, run: str = RUN, task: str = "batch.extract") -> None:
        """Put what a task has written to the register into the database, as Airflow does."""
        for key, value in store.values.items():
            self.written += 1
            row = AssetStateStoreModel(
                asset_id=1,
                key=key,
                value=json.dumps(value),
                updated_at=START + timedelta(seconds=self.written),
                last_updated_by_kind="task",
                last_updated_by_dag_id=dag,
                last_updated_by_run_id=run,
                last_updated_by_task_id=task,
                last_updated_by_map_index=0,
            )
            self.session.merge(row)
        self.session.commit()
        store.values.clear()

    def extract(
        self, asset: str, uri: str, *, dag: str = DAG, run: str = RUN, **record: Any
    ) -> ExtractedAudio:
        """Register audio, as ExtractAudioOperator does."""
        store = DictStore()
        register = Register(store, "holder", {"engine": "ffmpeg", "audio_format": "MP3"})
        audio = ExtractedAudio(
            **{
                "asset": asset,
                "uri": uri,
                "audio_format": "MP3",
                "codec": "mp3",
                "duration": 61.0,
                "size": 1000,
                "engine": "ffmpeg",
                "entry": register.key(asset),
                **record,
            }
        )
        register.finish({asset: audio.to_json()}, {})
        self.write(store, dag=dag, run=run)
        return audio

    def say(self, audio: ExtractedAudio, outcome: Any, *, dag: str = DAG, run: str = RUN) -> None:
        """Register a text, as TranscribeAudioOperator does."""
        store = DictStore()
        texts = Texts(store)
        if outcome is None:
            texts.begin(audio)
        else:
            texts.end(audio, outcome)
        self.write(store, dag=dag, run=run, task="batch.transcribe")

    def run(self, state: str = "success") -> None:
        """A run."""
        run = DagRun(dag_id=DAG, run_id=RUN, run_type="manual", state=state, run_after=START)
        run.id = 1
        self.session.add(run)
        self.session.commit()

    def push(self, task: str, key: str, value: Any, map_index: int = -1) -> None:
        """What a task of the run has returned or left for others."""
        self.written += 1
        what = {"key": key, "value": value, "timestamp": START + timedelta(seconds=self.written)}
        if hasattr(xcom, "XComModelV2"):  # Airflow 3.4 keeps it for each try
            producer = self.instance(task, "success", map_index)
            self.session.add(xcom.XComModelV2(task_instance_id=producer, **what))
        else:
            whose = {"dag_run_id": 1, "dag_id": DAG, "run_id": RUN, "task_id": task, "map_index": map_index}
            self.session.add(xcom.XComModel(**whose, **what))
        self.session.commit()

    def instance(self, task: str, state: str, map_index: int = -1) -> uuid.UUID:
        """A task of the run, by the columns that it must have; the one that there is."""
        table = TaskInstance.__table__
        place = table.c.get("map_index", table.c.get("region_index"))
        mine = (table.c.dag_id == DAG, table.c.run_id == RUN, table.c.task_id == task, place == map_index)
        known = self.session.scalar(sqlalchemy.select(table.c.id).where(*mine))
        if known is None:
            known = uuid.uuid4()
            row = {"id": known, "task_id": task, "dag_id": DAG, "run_id": RUN, place.name: map_index}
            columns = {"pool": "p", "pool_slots": 1, "try_number": 1, "max_tries": 0, "executor_config": {}}
            self.session.execute(table.insert().values(state=state, **row, **columns))
            self.session.commit()
        return uuid.UUID(str(known))


AS_PERSON = {"Accept": "text/html,*/*"}


@pytest.fixture(scope="session", autouse=True)
def _logins() -> None:
    airflow_app.create_auth_manager()
    airflow_app.get_auth_manager().init()


@pytest.fixture
def site(_logins: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    engine = sqlalchemy.create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}
    )
    import_all_models()
    Base.metadata.create_all(engine)
    make = sessionmaker(engine, expire_on_commit=False)
    monkeypatch.setattr(settings, "NonScopedSession", make)
    monkeypatch.setattr(settings, "Session", scoped_session(make))
    with make() as session:
        session.add(AssetModel(id=1, name="vod_register", uri="vod://register", group="asset"))
        session.commit()
        yield Site(session)
    engine.dispose()
