"""What is unfinished stays hidden, and goes away with whoever was at it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from vod.media import extract, probe, scratch_folder, sweep
from vod.media.partials import SAFE_AGE, partial_beside

from .conftest import SECONDS, ffmpeg

Media = Callable[[str], Path]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files that no other test uses."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_what_somebody_works_on_is_not_swept(tmp_path: Path) -> None:
    with partial_beside(tmp_path / "a.mp3") as partial, scratch_folder() as scratch:
        assert sweep(tmp_path) == 0
        assert partial.exists()
        assert scratch.exists()
    assert not partial.exists()
    assert not scratch.exists()


HOLDER = """
import sys, time
from pathlib import Path
from vod.media.partials import SAFE_AGE, partial_beside, scratch_folder
with partial_beside(Path(sys.argv[1]) / "a.mp3") as partial, scratch_folder():
    partial.write_bytes(b"half")
    print(partial, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_swept_at_once(tmp_path: Path, temporary: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout
    partial = Path(holder.stdout.readline().strip())
    assert sweep(tmp_path) == 0
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert partial.read_bytes() == b"half"
    assert sweep(tmp_path) == 2
    assert list(tmp_path.iterdir()) == [temporary]
    assert list(temporary.iterdir()) == []


def test_what_another_machine_wrote_to_today_is_not_swept(tmp_path: Path) -> None:
    """Its lock may not be seen here: NFS without its lock daemon, SMB, and others."""
    foreign = tmp_path / ".vod-0123abcd-00ff.part"
    foreign.write_bytes(b"half")
    assert sweep(tmp_path) == 0
    _make_old(foreign, SAFE_AGE - 60)
    assert sweep(tmp_path) == 0
    _make_old(foreign, SAFE_AGE + 60)
    with foreign.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert sweep(tmp_path) == 0, "its lock is seen here"
    assert sweep(tmp_path) == 1
    assert not foreign.exists()


def test_where_there_are_no_locks_the_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with partial_beside(tmp_path / "a.mp3") as partial:
        assert sweep(tmp_path) == 0
        _make_old(partial, SAFE_AGE + 60)
        assert sweep(tmp_path) == 1


def _make_old(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_only_what_was_left_is_swept(tmp_path: Path, temporary: Path) -> None:
    left = [tmp_path / ".vod-0123.part", tmp_path / ".vod-12-abc.part", temporary / "vod-scratch-x"]
    kept = [tmp_path / "a.mp3", tmp_path / ".vod-x", temporary / "other", tmp_path / ".vod-link.part"]
    for path in [*left[:2], *kept[:2]]:
        path.write_bytes(b"x")
        _make_old(path, SAFE_AGE + 60)
    left[2].mkdir()
    (left[2] / "original").write_bytes(b"x")
    kept[2].mkdir()
    kept[3].symlink_to(kept[0])
    os.mkfifo(tmp_path / ".vod-fifo.part")
    _make_old(tmp_path / ".vod-fifo.part", SAFE_AGE + 60)
    assert sweep(tmp_path) == 4
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_a_partial_that_a_sweep_took_in_the_wrong_moment_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []
    real = os.open

    def open_and_lose(path: Path, *arguments: int) -> int:
        descriptor = real(path, *arguments)
        if not made:
            Path(path).unlink()
        made.append(Path(path))
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with partial_beside(tmp_path / "a.mp3") as partial:
        assert partial.exists()
    assert len(set(made)) == 2


CHILD = """
import sys
from pathlib import Path
from vod.batch.ledger import Ledger, LedgerPages
from vod.engines.ffmpeg import FfmpegEngine
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.storage.destination import Destination
ledger = Ledger(LedgerPages(None), {})
options = FfmpegOptions(speech=True)
engine = FfmpegEngine(None, ledger, "MP3", Destination(sys.argv[2]), options=options, force=True)
engine.start([sys.argv[1]])
"""


def _bytes_in(folder: Path) -> int:
    """All that is there, whole or not; what is being renamed counts as nothing."""
    size = 0
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


@pytest.mark.slow
@pytest.mark.usefixtures("engine")
def test_kill_9_at_ten_points(tmp_path: Path, temporary: Path) -> None:
    source, target = tmp_path / "long.flac", tmp_path / "out"
    ffmpeg("-f", "lavfi", "-i", "sine=d=400", "-c:a", "flac", source)
    target.mkdir()
    subprocess.run([sys.executable, "-c", CHILD, source, target], check=True, capture_output=True)
    good = {path.name: path.read_bytes() for path in target.iterdir()}
    assert len(good) == 2
    whole = sum(map(len, good.values()))
    left_something = 0
    for point in range(10):
        for path in target.iterdir():
            path.unlink()
        child = subprocess.Popen([sys.executable, "-c", CHILD, source, target])
        while child.poll() is None and _bytes_in(target) <= whole * point / 10:
            time.sleep(0.001)
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(child.pid).children(recursive=True)
            child.kill()
            psutil.wait_procs(children, timeout=10)
        child.wait()
        visible = [path for path in target.iterdir() if not path.name.startswith(".")]
        for path in visible:
            assert path.read_bytes() == good[path.name], "under its final name a file is whole"
        left_something += len(list(target.iterdir())) > len(visible)
        sweep(target)
        assert [path for path in target.iterdir() if path.name.startswith(".")] == []
        # The places of the cores that all extractions of a machine share stay: they are locks, not data.
        assert [path for path in temporary.iterdir() if not path.name.startswith("vod-cores-")] == []
    assert left_something >= 3, "the test must have killed it at work"
    extraction = extract(source, target / "x.mp3")
    assert extraction.duration == pytest.approx(400, abs=0.1)
    assert probe(target / "x.mp3").audio


@pytest.mark.usefixtures("wheel")
def test_nothing_is_left_in_the_temporary_folder(media: Media, tmp_path: Path, temporary: Path) -> None:
    assert extract(media("pcm.wav"), tmp_path / "a.mp3").duration == pytest.approx(SECONDS, abs=0.1)
    assert list(temporary.iterdir()) == []
