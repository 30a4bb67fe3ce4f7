"""The stand-in as a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from vod.standin import StandinSettings, add_arguments


class Process:
    """A running stand-in, as far as the tests' client cares."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        ready = process.stdout.readline()
        assert ready.startswith("VOD stand-in ready: http://127.0.0.1:")
        self.url = ready.split()[-1]
        self.settings = StandinSettings(data=Path())

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def start():
    """Starts stand-ins; none outlives the test."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: object) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-m", "vod", "standin", *map(str, arguments)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            return process

        yield start


def test_ready_means_ready(start, tmp_path):
    standin = Process(start("--data", tmp_path / "new" / "library", "--port", 0))
    assert httpx.get(f"{standin.url}/admin/stats").json()["submissions"] == {}
    assert standin.end(signal.SIGTERM) == 0
    out, err = standin.process.communicate()
    assert out == ""
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_whatever_ends_it_the_next_one_goes_on(start, tmp_path, long_video, connect, wait_until, number):
    """A running extraction: its ffmpeg ends with the stand-in, and the next stand-in does the work again."""
    library = tmp_path / "library"
    first = Process(start("--data", library, "--port", 0))
    with connect(first) as vod:
        created = vod.create(video_type="MKV", video_name="long.mkv")
        headers = {"Content-Type": "video/x-matroska"}
        httpx.put(
            created["video_upload_url"], content=long_video.read_bytes(), headers=headers
        ).raise_for_status()
        vod.post("/status/uploaded", {"asset_id": created["asset_id"], "status": "CREATED"})
        audio = vod.extract(created["asset_id"])
        vod.wait(audio, "TRANSCODING")
        wait_until(lambda: ffmpegs(first.process.pid))
        children = psutil.Process(first.process.pid).children(recursive=True)
        converting = ffmpegs(first.process.pid)
    try:
        if number == signal.SIGKILL:
            first.end(number)
            if shutil.which("setpriv"):  # else nothing tells ffmpeg
                wait_until(lambda: not any(map(lives, children)))
        else:
            assert first.end(number) == 0
            assert not [child for child in converting if child.is_running()]
            # What reads media ends by itself, once it sees that nobody is left to ask.
            wait_until(lambda: not any(map(lives, children)))
            assert not list((library / "objects" / audio).iterdir()), "it was waited for, not ended"
    finally:
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    second = Process(start("--data", library, "--port", 0))
    with connect(second) as vod:
        vod.wait(audio, "CREATED")
        assert vod.details(audio)["base_info"]["meta_data"]["duration"] == 900
        assert vod.stats()["submissions"] == {created["asset_id"]: 1}


def test_kill_loses_nothing_that_was_answered(start, tmp_path, connect):
    """Killed while it answers: every 202 stands, and everything else is there at most once."""
    options = ("--data", tmp_path, "--port", 0, "--quota-scale", 0, "--workers", 8)
    first = Process(start(*options))
    sources = httpx.post(f"{first.url}/admin/assets", json={"count": 300}).json()["asset_ids"]
    answered = {}
    with connect(first) as vod, contextlib.suppress(httpx.TransportError):
        for source in sources:
            answered[source] = vod.extract(source)
            if len(answered) == 50:
                first.process.kill()
    assert 50 <= len(answered) < len(sources)
    second = Process(start(*options))
    with connect(second) as vod:
        for audio in answered.values():
            vod.wait(audio, "CREATED")
        submissions = vod.stats()["submissions"]
    assert set(submissions.values()) == {1}
    assert set(answered) <= set(submissions)
    assert len(submissions) <= len(answered) + 1


def ffmpegs(parent: int) -> list[psutil.Process]:
    children = psutil.Process(parent).children(recursive=True)
    return [child for child in children if child.name().startswith("ffmpeg")]


def lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_taken_port(start, tmp_path):
    first = Process(start("--data", tmp_path / "one", "--port", 0))
    second = start("--data", tmp_path / "two", "--port", first.url.rpartition(":")[2])
    out, err = second.communicate(timeout=20)
    assert (second.returncode, out) == (1, "")
    assert "Choose another port." in err
    assert "Traceback" not in err


def test_a_library_in_use(start, tmp_path):
    Process(start("--data", tmp_path, "--port", 0))
    second = start("--data", tmp_path, "--port", 0)
    out, err = second.communicate(timeout=20)
    assert (second.returncode, out) == (1, "")
    assert "Stop the other stand-in, or give this one its own --data folder." in err
    assert "Traceback" not in err


def test_faults_from_the_command_line(start, tmp_path, connect):
    rule = "throttle,call=info,count=1"
    with connect(Process(start("--data", tmp_path, "--port", 0, "--fault", rule, "--fault", "page"))) as vod:
        assert [vod.get("/info").status_code for _ in range(2)] == [429, 502]


def test_a_fault_that_is_none(start, tmp_path):
    process = start("--data", tmp_path, "--port", 0, "--fault", "explode,count=1")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (2, "")
    assert "argument --fault: 0: Input tag 'explode'" in err
    assert "Traceback" not in err


def test_options_are_those_of_the_settings(tmp_path):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(["--data", str(tmp_path)])
    usual = StandinSettings(data=tmp_path)
    assert options.port == 8600
    assert (options.host, options.access_key, options.secret_key) == (
        usual.host,
        usual.access_key,
        usual.secret_key,
    )
    assert (options.project_id, options.final_status) == (usual.project_id, usual.behaviour.final_status)
    assert "secret" not in repr(usual)
