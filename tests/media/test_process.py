"""ffmpeg is found, bounded in time and memory, and ended whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import has_ended
from vod.media import (
    Ceiling,
    ExtractionCancelledError,
    ExtractionTimeoutError,
    FfmpegError,
    FfmpegNotFoundError,
    TooLargeError,
    extract,
    find_ffmpeg,
    inspect,
    process,
)
from vod.media.limits import Limits
from vod.media.process import run
from vod.sandbox import KEPT_VARIABLES

from .conftest import WHEEL

Media = Callable[[str], Path]


def until(condition: Callable[[], bool], *, within: float = 10) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def partial_in(folder: Path) -> bool:
    return any(path.stat().st_size for path in folder.glob(".vod-*"))


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_long_stderr_is_drained_and_bounded() -> None:
    code, complaints = run(
        python("import sys\nfor n in range(50_000): print('line', n, 'x' * 100, file=sys.stderr)"),
        limits=Limits(30),
    )
    assert code == 0
    assert complaints.count == 50_000
    assert len(complaints.last) == 20
    assert complaints.last[-1].startswith("line 49999")


def test_one_endless_line_is_bounded() -> None:
    _, complaints = run(python("import sys; sys.stderr.write('x' * 5_000_000)"), limits=Limits(30))
    assert complaints.count == 1
    assert len(complaints.last[0]) <= 300
    lines = process._Lines(complaints.add)
    lines.feed(b"x" * 5_000_000)
    assert len(lines._rest) < 10_000


def test_complaints_are_printable_and_without_ffmpegs_prefix() -> None:
    code, complaints = run(
        python(r"import sys; sys.stderr.write('[mov @ 0x55] [dec] bad \x1b[31m thing\r\n'); sys.exit(7)"),
        limits=Limits(30),
    )
    assert code == 7
    assert list(complaints.last) == ["bad ?[31m thing"]


def test_positions_are_read_and_nonsense_is_not() -> None:
    seen: list[float] = []
    lines = "out_time_us=1500000\\nout_time_us=N/A\\nspeed=2x\\nout_time_us=-9\\nprogress=end"
    run(python(f"print('{lines}')"), limits=Limits(30), on_position=seen.append)
    assert seen == [1.5]


@pytest.mark.skipif(not hasattr(process.resource, "prlimit"), reason="no such limits here")
def test_the_child_has_a_ceiling_of_memory_and_of_file_size() -> None:
    show = "import resource as r, sys, time; time.sleep(0.3); "
    show += "print(r.getrlimit(r.RLIMIT_AS)[0], r.getrlimit(r.RLIMIT_FSIZE)[0], file=sys.stderr)"
    _, complaints = run(python(show), limits=Limits(30), ceiling=Ceiling(memory=3 << 30, file=5_000_000))
    assert complaints.last[-1] == f"{3 << 30} 5000000"
    with pytest.raises(TooLargeError, match="memory"):
        run(
            python("import sys; sys.exit('Cannot allocate memory')"),
            limits=Limits(30),
            ceiling=Ceiling(memory=3 << 30),
        )


def test_without_limits_and_setpriv_it_runs_all_the_same(
    media: Media, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "resource", None)
    monkeypatch.setattr(process, "_mortal", tuple)
    assert extract(media("pcm.wav"), tmp_path / "a.mp3").duration > 3


def test_what_an_ffmpeg_can_is_asked_once_and_said_in_words(
    engine: str, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ffmpeg = inspect(engine)
    assert re.search(r"\d+\.\d+", ffmpeg.version)
    assert {"libmp3lame", "aac", "flac", "libopus", "pcm_s16le"} <= ffmpeg.encoders
    assert inspect(engine) is ffmpeg

    poor = tmp_path / "ffmpeg"
    poor.write_text(
        "#!/bin/sh\n"
        f'case "$*" in *-encoders*) exec "{engine}" "$@" | grep -v libmp3lame; exit 0;; esac\n'
        "echo \"Unknown encoder 'libmp3lame'\" >&2; exit 1\n"
    )
    poor.chmod(0o755)
    monkeypatch.setenv("VOD_FFMPEG", str(poor))
    with pytest.raises(FfmpegNotFoundError, match="has no encoder libmp3lame") as caught:
        extract(media("pcm.wav"), tmp_path / "a.mp3")
    assert ffmpeg.version in caught.value.message


@pytest.fixture
def full_stdin() -> Iterator[None]:
    """Somebody has typed something."""
    ours, theirs = os.pipe()
    os.write(theirs, b"q\n")
    os.close(theirs)
    saved = os.dup(0)
    os.dup2(ours, 0)
    yield
    os.dup2(saved, 0)
    os.close(saved)
    os.close(ours)


@pytest.mark.usefixtures("full_stdin")
def test_no_report_is_written_and_no_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFREPORT", "file=/tmp/report.log")
    code, _ = run(
        python("import os, sys; sys.exit('FFREPORT' in os.environ or len(sys.stdin.read()))"),
        limits=Limits(30),
    )
    assert code == 0


def test_a_program_that_ignores_sigterm_is_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_GRACE", 0.2)
    note = tmp_path / "pids"
    script = f"trap '' TERM; sleep 300 & echo $$ $! > {note}.new; mv {note}.new {note}; wait; wait"
    cancelled = threading.Event()
    watcher = threading.Thread(target=lambda: (until(note.exists), cancelled.set()))
    watcher.start()
    with pytest.raises(ExtractionCancelledError):
        run(["sh", "-c", script], limits=Limits(30, cancelled))
    watcher.join()
    for pid in map(int, note.read_text().split()):
        until(lambda pid=pid: has_ended(pid))


def test_timeout(endless: Path, engine: str, tmp_path: Path) -> None:
    with pytest.raises(ExtractionTimeoutError, match=r"1 s"):
        extract(endless, tmp_path / "out" / "x.mp3", timeout=1)
    assert list((tmp_path / "out").iterdir()) == []
    assert children_running(engine) == []


def test_cancelling_from_another_thread(endless: Path, engine: str, tmp_path: Path) -> None:
    cancelled = threading.Event()

    def cancel_as_soon_as_it_runs() -> None:
        until(lambda: bool(children_running(engine)))
        cancelled.set()

    watcher = threading.Thread(target=cancel_as_soon_as_it_runs)
    watcher.start()
    started = time.monotonic()
    with pytest.raises(ExtractionCancelledError) as caught:
        extract(endless, tmp_path / "out" / "x.mp3", cancelled=cancelled, timeout=30)
    watcher.join()
    assert time.monotonic() - started < 10
    assert caught.value.retryable
    assert list((tmp_path / "out").iterdir()) == []
    assert children_running(engine) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_whatever_the_progress_callback_raises(
    error: type[BaseException], media: Media, engine: str, tmp_path: Path
) -> None:
    def on_progress(fraction: float) -> None:
        raise error

    with pytest.raises(error):
        extract(media("pcm.wav"), tmp_path / "x.mp3", on_progress=on_progress)
    assert list(tmp_path.iterdir()) == []
    assert children_running(engine) == []


def test_control_c(endless: Path, engine: str, tmp_path: Path) -> None:
    child, ffmpeg = extraction_in_a_child(endless, tmp_path / "out" / "x.mp3")
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=20)
    assert b"KeyboardInterrupt" in stderr
    until(lambda: not ffmpeg.is_running())
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.usefixtures("wheel")
def test_probing_ends_at_its_limit_too(media: Media, tmp_path: Path) -> None:
    # Too little to learn the tracks from, and then zeros without end.
    source = tmp_path / "stub.ts"
    source.write_bytes(media("aac.ts").read_bytes())
    os.truncate(source, 20 << 30)
    with pytest.raises(ExtractionTimeoutError):
        extract(source, tmp_path / "x.mp3", timeout=0.3)
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(ExtractionCancelledError):
        extract(source, tmp_path / "x.mp3", cancelled=cancelled, timeout=30)
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.skipif(not process._mortal(), reason="no setpriv here")
def test_ffmpeg_does_not_outlive_a_process_that_is_killed(endless: Path, wheel: str, tmp_path: Path) -> None:
    child, ffmpeg = extraction_in_a_child(endless, tmp_path / "out" / "x.mp3")
    child.kill()
    child.communicate(timeout=20)
    until(lambda: has_ended(ffmpeg))


def test_ffmpeg_that_is_killed_by_somebody(
    media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "ffmpeg"
    wrapper.write_text("#!/bin/sh\necho about to die >&2\nkill -9 $$\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("VOD_FFMPEG", str(wrapper))
    with pytest.raises(FfmpegError, match="signal 9: about to die"):
        extract(media("pcm.wav"), tmp_path / "x.mp3")
    assert list(tmp_path.iterdir()) == [wrapper]


def test_which_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOD_FFMPEG", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_ffmpeg() == WHEEL

    mine = tmp_path / "ffmpeg"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    assert find_ffmpeg() == str(mine)

    monkeypatch.setenv("VOD_FFMPEG", WHEEL)
    assert find_ffmpeg() == WHEEL


def test_no_ffmpeg(media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOD_FFMPEG", str(tmp_path / "nothing"))
    with pytest.raises(FfmpegNotFoundError, match="VOD_FFMPEG") as caught:
        extract(media("pcm.wav"), tmp_path / "x.mp3")
    assert "imageio-ffmpeg" in caught.value.remedy

    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o755)
    monkeypatch.setenv("VOD_FFMPEG", str(broken))
    with pytest.raises(FfmpegNotFoundError, match="cannot be run"):
        extract(media("pcm.wav"), tmp_path / "x.mp3")

    monkeypatch.delenv("VOD_FFMPEG")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(FfmpegNotFoundError, match="no ffmpeg"):
        find_ffmpeg()


def extraction_in_a_child(source: Path, target: Path) -> tuple[subprocess.Popen[bytes], psutil.Process]:
    """Another Python that extracts, and the ffmpeg that it has started."""
    code = (
        "import signal, sys; from pathlib import Path; from vod.media import extract\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job inherits it ignored
        "extract(Path(sys.argv[1]), Path(sys.argv[2]), timeout=30)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, source, target], stderr=subprocess.PIPE)
    found: list[psutil.Process] = []

    def started() -> bool:
        with contextlib.suppress(psutil.Error):
            found[:] = [p for p in psutil.Process(child.pid).children() if "ffmpeg" in p.exe()]
        return bool(found)

    until(started)
    return child, found[0]


def children_running(program: str) -> list[psutil.Process]:
    """The processes that this one has started from *program* and that still run."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE and Path(child.exe()).samefile(program):
                found.append(child)
    return found


def test_ffmpeg_sees_nothing_of_the_environment_but_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hole in a codec must not find keys."""
    seen = tmp_path / "seen"
    program = tmp_path / "ffmpeg"
    program.write_text(f"#!/bin/sh\nenv > {seen}\n")
    program.chmod(0o755)
    for name in (
        "AIRFLOW_CONN_VOD_DEFAULT",
        "AIRFLOW__CORE__FERNET_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "FFREPORT",
    ):
        monkeypatch.setenv(name, "secret")
    run([str(program)], limits=Limits(10))
    found = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert "secret" not in seen.read_text()
    assert found <= {
        *KEPT_VARIABLES,
        "AV_LOG_FORCE_NOCOLOR",
        "MALLOC_ARENA_MAX",
        "PWD",
        "SHLVL",
        "_",
        "OLDPWD",
    }
    assert "PATH" in found
