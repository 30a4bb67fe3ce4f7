"""A local destination that several machines do not share is refused; one that they share is not."""

from __future__ import annotations

import platform
import threading
from pathlib import Path

import pytest

from tests.conftest import DictStore, attach_memory
from vod.library import folders
from vod.library.folders import FolderNotSharedError, check_shared
from vod.storage.destination import Destination


@pytest.fixture(autouse=True)
def celery(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setattr(folders, "SETTLING", 0.0)


def on(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: machine)


@pytest.fixture
def disks(tmp_path: Path) -> tuple[Path, Path]:
    """Two disks, and a folder that stands for either: what ``/audio`` is on each machine."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "two"


def mount(disk: Path) -> Destination:
    folder = disk.parent / "audio"
    folder.unlink(missing_ok=True)
    folder.symlink_to(disk)
    return Destination(str(folder))


def test_a_folder_of_each_machine(disks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store = DictStore()
    on("worker-1", monkeypatch)
    check_shared(mount(disks[0]), store)
    on("worker-2", monkeypatch)
    with pytest.raises(FolderNotSharedError, match=r"worker-2 does not see what worker-1 writes"):
        check_shared(mount(disks[1]), store)
    on("worker-1", monkeypatch)
    check_shared(mount(disks[0]), store)


def test_a_shared_folder(disks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    store = DictStore()
    for machine in ("worker-1", "worker-2", "worker-1"):
        on(machine, monkeypatch)
        check_shared(mount(disks[0]), store)


def test_a_folder_that_somebody_has_replaced(
    disks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same machine at once, on another one an hour later."""
    store = DictStore()
    on("worker-1", monkeypatch)
    check_shared(mount(disks[0]), store)
    check_shared(mount(disks[1]), store)
    on("worker-2", monkeypatch)
    with pytest.raises(FolderNotSharedError):
        check_shared(mount(disks[0]), store)
    monkeypatch.setattr(folders, "MEMORY", 0.0)
    check_shared(mount(disks[0]), store)


def test_of_two_machines_that_come_at_once_one_goes_on(
    disks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DictStore()
    first = mount(disks[0])
    first.mark()

    def meanwhile(_: float) -> None:
        key, known = next(iter(store.values.items()))
        store.values[key] = {**known, "mark": "of the other one", "host": "worker-2"}

    on("worker-1", monkeypatch)
    monkeypatch.setattr(folders.time, "sleep", meanwhile)
    with pytest.raises(FolderNotSharedError, match="worker-1 does not see what worker-2 writes"):
        check_shared(first, store)


def test_the_first_tasks_of_a_shared_folder_agree(disks: tuple[Path, Path]) -> None:
    destination, marks = mount(disks[0]), set[str | None]()
    start = threading.Barrier(8)

    def look() -> None:
        start.wait()
        marks.add(destination.mark())

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(marks) == 1
    assert [path.name for path in disks[0].iterdir()] == [".vod-folder"]


@pytest.mark.parametrize(
    ("executor", "looks"),
    [
        ("LocalExecutor", False),
        ("airflow.executors.local_executor.LocalExecutor", False),
        ("LocalExecutor,big:CeleryExecutor", True),
        ("KubernetesExecutor", True),
    ],
)
def test_one_machine_needs_no_mark(
    executor: str, looks: bool, disks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    check_shared(mount(disks[0]), DictStore())
    assert bool([*disks[0].iterdir()]) is looks


def test_object_storage_is_one_for_all() -> None:
    attach_memory()
    check_shared(Destination("memory://audio"), DictStore())
