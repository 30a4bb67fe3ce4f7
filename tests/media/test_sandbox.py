"""What parses strangers' files sees no secret, opens nothing else, and may crash at the cost of one call."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import has_ended
from vod import sandbox
from vod.media import ExtractionCancelledError, Limits, UnreadableMediaError, probe
from vod.media.info import read_media

ATTACK = """
import os, resource, signal, socket, sys, time

def look(file, **asked):
    found = {"environment": dict(os.environ), "first": file.read(4).hex()}
    for name, act in {
        "file": lambda: open("/etc/passwd"),
        "parent": lambda: open(f"/proc/{os.getppid()}/environ"),
        "folder": lambda: os.listdir("/"),
        "socket": lambda: socket.socket(),
        "pipe": lambda: os.pipe(),
        "raise": lambda: resource.setrlimit(resource.RLIMIT_AS, (64 << 30, 64 << 30)),
        "write": lambda: os.write(file.fileno(), b"x"),
    }.items():
        try:
            act()
            found[name] = True
        except (OSError, ValueError):
            found[name] = False
    found["descriptors"] = [number for number in range(256) if is_open(number)]
    return found

def is_open(number):
    try:
        os.fstat(number)
        return True
    except OSError:
        return False

def crash(file, **asked): os.kill(os.getpid(), signal.SIGSEGV)
def leave(file, **asked): os._exit(0)
def spin(file, **asked):
    while True: pass
def hoard(file, **asked):
    kept = []
    while True: kept.append(bytearray(64 << 20))
def flood(file, **asked):
    while True: yield b"x" * (8 << 20)
def lie(file, **asked): return {"codec": ["not", "text"], "sample_rate": "44100"}
def fine(file, **asked): return file.read().decode()
"""


@pytest.fixture
def attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls a function of a hostile decoder in a sandbox that has loaded it."""
    (tmp_path / "hostile_decoder.py").write_text(ATTACK)
    (tmp_path / "source").write_bytes(b"text")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sandbox, "_running", None)
    monkeypatch.setattr(sandbox, "MODULES", ("hostile_decoder",))
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "canary")

    def call(function: str, **options: Any) -> Any:
        return sandbox.call("hostile_decoder", function, tmp_path / "source", **options)

    yield call
    running = sandbox._running
    assert running is not None
    running.close()


@pytest.mark.hostile
def test_a_decoder_that_was_taken_over_finds_nothing(attack: Any) -> None:
    found = attack("look")
    assert found["first"] == b"text".hex()
    assert "canary" not in json.dumps(found["environment"])
    assert set(found["environment"]) <= {*sandbox.KEPT_VARIABLES, "MALLOC_ARENA_MAX"}
    for name in ("file", "parent", "folder", "socket", "pipe", "write"):
        assert found[name] is False, name
    if os.geteuid() != 0:  # root may raise a limit
        assert found["raise"] is False
    assert len(found["descriptors"]) == 5  # three empty ones, its socket, the source


@pytest.mark.hostile
@pytest.mark.parametrize("function", ["crash", "leave"])
def test_a_crash_costs_one_call(attack: Any, function: str) -> None:
    with pytest.raises(sandbox.CrashedError):
        attack(function)
    assert attack("fine") == "text"


@pytest.mark.hostile
def test_memory_has_an_end(attack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MEMORY", 500_000_000)
    with pytest.raises(sandbox.OutOfMemoryError, match=r"more than 0\.5 GB"):
        attack("hoard")
    assert attack("fine") == "text"


@pytest.mark.hostile
def test_more_than_a_result_has_is_not_taken(attack: Any) -> None:
    with pytest.raises(sandbox.CrashedError, match="more than any result"):
        attack("flood")


def test_a_call_ends_when_its_caller_has_enough(attack: Any) -> None:
    def enough() -> None:
        if time.monotonic() > until:
            raise TimeoutError

    attack("fine")
    assert sandbox._running is not None
    server = psutil.Process(sandbox._running._process.pid)
    until = time.monotonic() + 0.3
    with pytest.raises(TimeoutError):
        attack("spin", check=enough)
    until = time.monotonic() + 5
    while not all(map(has_ended, server.children())):
        enough()


def test_what_it_says_is_checked(attack: Any) -> None:
    @dataclass
    class Wanted:
        codec: str
        sample_rate: int | None

    with pytest.raises(sandbox.CrashedError):
        sandbox.build(Wanted, attack("lie"))
    for wrong in ({"codec": "a", "sample_rate": True}, {"sample_rate": 1}, [], "x", None):
        with pytest.raises(sandbox.CrashedError):
            sandbox.build(Wanted, wrong)
    long = sandbox.build(Wanted, {"codec": "a\x1b[2J\u202e" + "b" * 600, "sample_rate": 5})
    assert long.codec.startswith("a?[2J?b")
    assert len(long.codec) == sandbox.MAX_LENGTH_TEXT


def test_many_threads_share_one_server(video: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len({str(found) for found in pool.map(probe, [video] * 40)}) == 1


def test_the_server_is_started_again_when_it_was_killed(video: Path) -> None:
    probe(video)
    assert sandbox._running is not None
    process = sandbox._running._process
    process.kill()
    process.wait()
    assert probe(video).audio


def test_a_fork_of_this_process_has_its_own(video: Path) -> None:
    probe(video)
    script = (
        "import os, sys; from pathlib import Path; from vod import sandbox; from vod.media import probe; "
        "path = Path(sys.argv[1]); probe(path); first = sandbox._running._process.pid; pid = os.fork()\n"
        "if pid == 0:\n    probe(path); os._exit(int(sandbox._running._process.pid == first))\n"
        "assert os.waitpid(pid, 0)[1] == 0; print(first)"
    )
    done = subprocess.run([sys.executable, "-c", script, video], capture_output=True, text=True, check=True)
    assert_gone(int(done.stdout))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_who_started_it(video: Path, number: int) -> None:
    script = (
        "import sys, time; from pathlib import Path; from vod import sandbox; from vod.media import probe; "
        "probe(Path(sys.argv[1])); print(sandbox._running._process.pid, flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, video], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    server = int(process.stdout.readline())
    process.send_signal(number)
    process.wait()
    process.stdout.close()
    assert_gone(server)


def assert_gone(pid: int) -> None:
    until = time.monotonic() + 5
    while not has_ended(pid):
        assert time.monotonic() < until, "it is still there"
        time.sleep(0.01)


def test_being_cancelled_before_it_begins(video: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(ExtractionCancelledError):
        probe(video, limits=Limits(5, cancelled))


def test_a_crash_has_a_name(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crashes(*_: object, **__: object) -> None:
        raise sandbox.CrashedError("It crashed.")

    monkeypatch.setattr(sandbox, "call", crashes)
    with pytest.raises(UnreadableMediaError, match="crashed while it read") as caught:
        read_media("probe", video, Limits(5))
    assert caught.value.outcome == "reader_crashed"
    assert not caught.value.retryable
