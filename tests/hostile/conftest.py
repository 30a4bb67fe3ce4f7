"""One Airflow for all hostile tests, with three people, and secrets that are recognised anywhere."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import sqlalchemy

from dev import stack as machine
from dev.airflow import Airflow, postgres
from dev.processes import Processes
from tests.conftest import connection_json
from tests.system.conftest import browser  # noqa: F401 - a fixture
from vod.standin import Standin, StandinSettings, running

ROOT = Path(__file__).parent.parent.parent
SECRET_KEY = "canary-of-the-connection-5f0d1c"
FILE_SECRET = "canary-of-a-file-93be77"
OTHER_SECRET = "canary-of-another-connection-c41a08"
PASSWORDS = {"user": "canary-password-of-user-1a", "viewer": "canary-password-of-viewer-2b"}
NIGHT = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
"""Begin of the first data interval of the nightly DAG."""


@dataclass
class Cluster:
    """A running Airflow."""

    state: Path
    airflow: Airflow
    standin: Standin
    database: str
    started: list[tuple[str, str]] = field(default_factory=list)

    @property
    def media(self) -> Path:
        """What runs may read."""
        return self.state / "media"

    @property
    def private(self) -> Path:
        """What they may not."""
        return self.state / "private"

    @cached_property
    def secrets(self) -> dict[str, str]:
        """All that nobody may find, by what it is."""
        mine = {path.name: path.read_text() for path in (self.state / "secrets").iterdir()}
        known = {"connection": SECRET_KEY, "file": FILE_SECRET, "other connection": OTHER_SECRET}
        return {**mine, **known}

    def person(self, name: str | None) -> httpx.Client:
        """A client of the API with somebody's login; nobody's when ``None``."""
        headers = {}
        if name:
            password = PASSWORDS.get(name) or self.airflow.password
            login = httpx.post(
                f"{self.airflow.url}/auth/token", json={"username": name, "password": password}, timeout=60
            )
            headers = {"Authorization": f"Bearer {login.raise_for_status().json()['access_token']}"}
        return httpx.Client(base_url=self.airflow.url, headers=headers, timeout=60)

    def trigger(self, person: httpx.Client, dag: str, **conf: Any) -> str | None:
        """Trigger a run; its id, or ``None`` if the form refuses what it was given."""
        self.airflow.api.await_(lambda: self.airflow.api.knows(dag), dag, 120)
        answer = person.post(f"/api/v2/dags/{dag}/dagRuns", json={"logical_date": None, "conf": conf})
        if answer.status_code == 400:
            return None
        answer.raise_for_status()
        run = str(answer.json()["dag_run_id"])
        self.started.append((dag, run))
        return run

    def runs(self, dag: str) -> list[dict[str, Any]]:
        found = self.airflow.api.call("GET", f"/dags/{dag}/dagRuns", params={"limit": 100})
        return list(found["dag_runs"])

    def log(self, person: httpx.Client, dag: str, run: str, task: str) -> str:
        path = f"/api/v2/dags/{dag}/dagRuns/{quote(run)}/taskInstances/{task}/logs/1"
        return person.get(path, params={"full_content": True}).raise_for_status().text

    def tables(self) -> str:
        """Every row of every table, as text."""
        engine = sqlalchemy.create_engine(self.database)
        rows: list[str] = []
        with engine.connect() as connected:
            for name in sqlalchemy.inspect(engine).get_table_names():
                rows += (
                    f"{name}: {row}"
                    for [row] in connected.execute(sqlalchemy.text(f'SELECT t::text FROM "{name}" t'))
                )
        engine.dispose()
        return "\n".join(rows)

    def found(self, *texts: str) -> list[str]:
        """Where one of the texts is: in files that were written, their names, logs and tables."""
        places = []
        tables = self.tables()
        for text in texts:
            places += [row[:300] for row in tables.splitlines() if text in row]
            own = [self.state / name for name in ("secrets", "private", "postgres", "passwords.json")]
            for path in self.state.rglob("*"):
                if path.is_symlink() or any(path.is_relative_to(folder) for folder in own):
                    continue
                if text in path.name or (path.is_file() and text.encode() in path.read_bytes()):
                    places.append(f"{path}: {text}")
        return places


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="vod-hostile-") as folder:
        state = Path(folder).resolve()
        state.chmod(0o755)  # as root, PostgreSQL runs as a user who must be able to enter
        for name in ("dags", "media", "lists", "private"):
            (state / name).mkdir()
        machine.write_secret(state / "private" / "keys.txt", f"{FILE_SECRET}\n")
        machine.write_secret(state / "private" / "keys.csv", f"asset\n{FILE_SECRET}\n")
        for file in (*(ROOT / "dags").glob("*.py"), *(ROOT / "tests" / "hostile" / "dags").glob("*.py")):
            first = f"FIRST_DAY = datetime({NIGHT:%Y, %-m, %-d}, tzinfo=timezone.utc)"
            (state / "dags" / file.name).write_text(
                re.sub(r"^FIRST_DAY = .*$", first, file.read_text(), flags=re.MULTILINE)
            )
        settings = StandinSettings(data=state / "standin", secret_key=SECRET_KEY)
        with (
            running(settings) as standin,
            Processes() as processes,
            postgres(state / "postgres") as database,
        ):
            standin.behaviour.quota_scale = 0
            other = {"conn_type": "vod", "login": "AK", "password": OTHER_SECRET}
            airflow = Airflow(
                state,
                processes,
                database,
                standin.url,
                dags=state / "dags",
                allowed=[state / "media", state / "lists"],
                settings={
                    "AIRFLOW_CONN_VOD_DEFAULT": connection_json(standin, destination=str(state / "audio")),
                    "AIRFLOW_CONN_OTHER": json.dumps({**other, "extra": {"region": "cn-north-4"}}),
                    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,user:user,viewer:viewer",
                    "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
                },
            )
            airflow.prepare()
            passwords = {"admin": airflow.password, **PASSWORDS}
            machine.write_secret(state / "passwords.json", json.dumps(passwords))
            airflow.start()
            yield Cluster(state, airflow, standin, database)
