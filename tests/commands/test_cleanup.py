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
from sqlalchemy import delete, select, update

from tests.conftest import DictStore, client_of, connection_json, settle
from tests.object_store import BUCKET, running_store
from vod.__main__ import main
from vod.cloud.client import VodClient
from vod.commands import cleanup
from vod.library import folders
from vod.library.texts import text_key
from vod.standin import Standin, StandinSettings, running
from vod.storage.destination import Destination

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


def in_vod(standin: Standin, audio: str, **more: Any) -> dict[str, Any]:
    """The entry of audio that VOD has accepted."""
    project = standin.settings.project_id
    return {"asset": "a", "engine": "vod", "project": project, "audio": audio, "accepted": 1.0, **more}


def a_file(uri: str, **more: Any) -> dict[str, Any]:
    return {"asset": "a", "record": {"uri": uri}, **more}


def extracted(client: VodClient, video: Path, *, deleted: bool = False) -> str:
    audio: str = client.extract_audio(client.upload(video), "MP3").audio_asset_id
    settle(client, audio)
    if deleted:
        client.delete([audio])
    return audio


def test_audio_goes_only_when_it_is_gone(
    connection: str, register: int, standin: Standin, client: VodClient, video: Path, tmp_path: Path
) -> None:
    there, deleted = extracted(client, video), extracted(client, video, deleted=True)
    file = tmp_path / "a.mp3"
    file.write_bytes(b"audio")
    for key, audio in (("audio_there", there), ("audio_deleted", deleted)):
        keep(register, (key, in_vod(standin, audio)), (f"owner_{audio}", key))
    for key, uri in (("audio_file", file.as_uri()), ("audio_lost", (tmp_path / "b.mp3").as_uri())):
        keep(register, (key, a_file(uri)), (text_key(key), {"state": "done", "audio": uri}))
    assert main(["cleanup"]) == 0
    assert keys() == {"audio_there", f"owner_{there}", "audio_file", "text_file"}


def test_audio_of_another_account_is_not_asked_for(
    connection: str,
    register: int,
    standin: Standin,
    client: VodClient,
    video: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    deleted = extracted(client, video, deleted=True)
    with running(StandinSettings(data=tmp_path / "other", project_id="f" * 32)) as other:
        monkeypatch.setenv("AIRFLOW_CONN_VOD_OTHER", connection_json(other))
        theirs = client_of(other)
        audio, lost = extracted(theirs, video), extracted(theirs, video, deleted=True)
        theirs.close()
        keep(register, ("audio_ours", in_vod(standin, deleted)))
        keep(register, ("audio_theirs", in_vod(other, audio)), (f"owner_{audio}", "audio_theirs"))
        keep(register, ("audio_lost", in_vod(other, lost)))
        assert main(["cleanup"]) == 0
        assert keys() == {"audio_theirs", f"owner_{audio}", "audio_lost"}
        [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("entries left")]
        assert line.startswith("entries left as they are: 2. ")
        assert "that of the connection vod_default: run this with --vod-conn-id" in line
        assert main(["cleanup", "--vod-conn-id", "vod_other"]) == 0
        assert keys() == {"audio_theirs", f"owner_{audio}"}


@pytest.mark.parametrize("has_file", [True, False])
@pytest.mark.parametrize("has_vod", [True, False])
def test_a_copy_goes_when_neither_vod_nor_the_destination_has_it(
    connection: str,
    register: int,
    standin: Standin,
    client: VodClient,
    video: Path,
    tmp_path: Path,
    has_vod: bool,
    has_file: bool,
) -> None:
    audio = extracted(client, video, deleted=not has_vod)
    (tmp_path / "another.mp3").write_bytes(b"audio")
    if has_file:
        (tmp_path / "a.mp3").write_bytes(b"audio")
    record = {"uri": (tmp_path / "a.mp3").as_uri(), "audio_asset_id": audio}
    keep(register, ("audio_copy", in_vod(standin, audio, record=record)))
    assert main(["cleanup"]) == 0
    assert keys() == ({"audio_copy"} if has_vod or has_file else set())


def test_a_copy_of_an_earlier_run_keeps_its_entry(
    connection: str, register: int, standin: Standin, client: VodClient, video: Path, tmp_path: Path
) -> None:
    audio = extracted(client, video, deleted=True)
    copies = [{"uri": (tmp_path / name).as_uri(), "audio_asset_id": audio} for name in ("b.mp3", "a.mp3")]
    in_vod_only = {"uri": f"vod://vod_default/{audio}", "audio_asset_id": audio}
    keep(register, ("audio_copied", in_vod(standin, audio, record=in_vod_only, copies=copies)))
    (tmp_path / "a.mp3").write_bytes(b"audio")
    assert main(["cleanup"]) == 0
    assert keys() == {"audio_copied"}
    (tmp_path / "a.mp3").rename(tmp_path / "another.mp3")
    assert main(["cleanup"]) == 0
    assert keys() == set()


@pytest.mark.parametrize(
    "name", ["会议-1.mp3", "a b.mp3", "50%.mp3", "50%25.mp3", "[1]*?#.mp3", os.fsdecode(b"\xe9.mp3")]
)
def test_a_file_is_found_whatever_its_name(connection: str, register: int, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "我的 100% audio"
    folder.mkdir()
    (folder / name).write_bytes(b"audio")
    keep(register, ("audio_here", a_file((folder / name).as_uri())))
    keep(register, ("audio_lost", a_file((folder / f"x{name}").as_uri())))
    assert main(["cleanup"]) == 0
    assert keys() == {"audio_here"}


@pytest.mark.parametrize("what", ["absent", "empty", "a file", "a dead link", "a loop", "not allowed"])
def test_of_a_folder_that_is_not_seen_here_nothing_counts_as_gone(
    connection: str,
    register: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    what: str,
) -> None:
    """An empty folder may be one where no disk is mounted now."""
    folder = tmp_path / "disk"
    if what == "empty":
        folder.mkdir()
    elif what == "a file":
        folder.write_bytes(b"")
    elif what == "a dead link":
        folder.symlink_to(tmp_path / "nowhere")
    elif what == "a loop":
        folder.symlink_to(folder)
    elif what == "not allowed":
        monkeypatch.setenv("AIRFLOW__VOD__ALLOWED_LOCATIONS", "/media")
    entries = [(f"audio_{n}", a_file((folder / f"{n}.mp3").as_uri())) for n in range(3)]
    keep(register, *entries)
    assert main(["cleanup"]) == 0
    assert len(keys()) == 3
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("entries left")]
    assert line.startswith("entries left as they are: 3. ")
    assert str(folder) in line


def test_a_link_is_there_also_when_what_it_leads_to_is_not(
    connection: str, register: int, tmp_path: Path
) -> None:
    (tmp_path / "a.mp3").symlink_to(tmp_path / "disk" / "a.mp3")
    keep(register, ("audio_1", a_file((tmp_path / "a.mp3").as_uri())))
    assert main(["cleanup"]) == 0
    assert keys() == {"audio_1"}


def test_a_folder_that_is_another_one_on_this_machine_says_nothing(
    connection: str, register: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is below a mount point while its disk is not mounted, or a disk of this machine alone."""
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setattr(folders, "SETTLING", 0.0)
    folder, known = tmp_path / "audio", DictStore()
    folders.check_shared(Destination(str(folder)), known)
    keep(register, *known.values.items(), ("audio_1", a_file((folder / "a.mp3").as_uri())))
    (folder / ".vod-folder").rename(tmp_path / "mark")
    (folder / "b.mp3").write_bytes(b"of this machine")
    assert main(["cleanup"]) == 0
    assert "audio_1" in keys()
    (tmp_path / "mark").rename(folder / ".vod-folder")
    assert main(["cleanup"]) == 0
    assert "audio_1" not in keys()


def test_an_object_goes_only_when_its_store_says_that_it_is_gone(
    connection: str, register: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    with running_store() as store:
        store.connect(monkeypatch, "obs_cleanup")
        store.connect(monkeypatch, "obs_refused", password="wrong")
        folder = f"obs://obs_cleanup@{BUCKET}/audio"
        store.client().put_object(Bucket=BUCKET, Key="audio/50%25.mp3", Body=b"audio")
        left = {
            "audio_here": f"{folder}/50%25.mp3",
            "audio_refused": f"obs://obs_refused@{BUCKET}/audio/b.mp3",
            "audio_undefined": f"obs://obs_nobody@{BUCKET}/audio/b.mp3",
            "audio_no_bucket": "obs://obs_cleanup@of-others/audio/b.mp3",
            "audio_empty": f"obs://obs_cleanup@{BUCKET}/expired/b.mp3",
        }
        keep(register, *((key, a_file(uri)) for key, uri in left.items()))
        keep(register, ("audio_lost", a_file(f"{folder}/b.mp3")))
        assert main(["cleanup"]) == 0
        assert keys() == {*left}


def test_what_a_task_renews_meanwhile_stays(
    connection: str, register: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b.mp3").write_bytes(b"audio")
    keep(register, ("audio_1", a_file((tmp_path / "a.mp3").as_uri())))
    keep(register, ("text_1", {"state": "done"}))
    looks = Destination.size

    def size(self: Destination, name: str) -> int | None:
        found = looks(self, name)
        with create_session() as session:
            row = AssetStateStoreModel.key == "audio_1"
            now = datetime.now(timezone.utc)
            session.execute(update(AssetStateStoreModel).where(row).values(updated_at=now))
        return found

    monkeypatch.setattr(Destination, "size", size)
    assert main(["cleanup"]) == 0
    assert keys() == {"audio_1", "text_1"}


def test_a_submission_that_vod_may_have_accepted_stays(connection: str, register: int) -> None:
    keep(register, ("audio_1", {"asset": "a", "intended": 1.0}))
    assert main(["cleanup"]) == 0
    assert keys() == {"audio_1"}


def test_a_refused_key_says_nothing_about_audio(
    connection: str,
    register: int,
    standin: Standin,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refused = {**json.loads(os.environ["AIRFLOW_CONN_VOD_DEFAULT"]), "password": "wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", json.dumps(refused))
    keep(register, *((f"audio_{n}", in_vod(standin, f"{n:032x}")) for n in range(3)))
    assert main(["cleanup"]) == 0
    assert len(keys()) == 3
    assert "entries left as they are: 3. VOD does not say" in capsys.readouterr().out


@pytest.mark.slow
def test_while_vod_cannot_be_asked_nothing_counts_as_gone(
    connection: str, register: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = {"conn_type": "vod", "host": "http://127.0.0.1:9", "login": "a", "password": "b"}
    connection_away = json.dumps({**away, "extra": {"project_id": "p"}})
    monkeypatch.setenv("AIRFLOW_CONN_VOD_DEFAULT", connection_away)
    keep(register, ("audio_1", {"asset": "a", "audio": "f" * 32, "project": "p"}))
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
