"""``python -m vod extract``, as a person runs it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import client_of
from vod import media
from vod.standin import Standin


def vod(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vod", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def records(said: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.stdout.splitlines()]


def test_one_record_a_line_and_failures_too(video: Path, tmp_path: Path) -> None:
    shutil.copy(video, tmp_path / "-talk.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    said = vod(
        *("extract", "--format", "opus", "--output", "out", "--json", "--speech"),
        *("bad.mp4", "--", "-talk.mp4"),
        cwd=tmp_path,
    )
    assert said.returncode == 1, said.stderr
    by_name = {Path(record["asset"]).name: record for record in records(said)}
    assert by_name["-talk.mp4"]["outcome"] == "extracted"
    assert by_name["-talk.mp4"]["codec"] == "opus"
    for name in ("-talk.mp4", "bad.mp4"):
        assert by_name[name]["asset"] == str(tmp_path / name)
    assert by_name["bad.mp4"]["outcome"] == "unreadable"
    assert by_name["bad.mp4"]["message"]
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".opus", ".wav"}
    assert said.stderr == ""


def test_all_is_well_and_the_second_time_all_is_there(video: Path, tmp_path: Path) -> None:
    said = vod("extract", video, "--output", tmp_path)
    assert (said.returncode, said.stderr) == (0, "")
    assert "encoded." in said.stdout
    again = vod("extract", video, "--output", tmp_path)
    assert "there already." in again.stdout
    assert "encoded." in vod("extract", video, "--output", tmp_path, "--force").stdout


def test_it_needs_no_airflow(video: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['airflow'] = None; sys.modules['httpx'] = None\n"
        "from vod.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "extract", video, "--output", tmp_path]
    assert subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def test_an_asset_of_vod(standin: Standin, connection: str, video: Path, tmp_path: Path) -> None:
    asset = client_of(standin).upload(video)
    said = vod(
        "extract", asset, "--output", tmp_path, "--json", env={**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    )
    assert [record["asset"] for record in records(said)] == [asset]
    assert said.returncode == 0, said.stderr


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--channels", "up"], "channels cannot be 'up'"),
        (["--track", "nonsense"], "names no audio track"),
        (["--start", "-1"], "start cannot be"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(
    wrong: list[str], sentence: str, video: Path, tmp_path: Path
) -> None:
    said = vod("extract", video, "--output", tmp_path, "--json", *wrong)
    assert said.returncode == 2
    assert sentence in records(said)[0]["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_bar_on_a_terminal_and_records_beside_it(video: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "vod", "extract", video, "--output", tmp_path, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    stdout, _ = process.communicate(timeout=60)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert json.loads(stdout)["outcome"] == "extracted"
    assert "1/1  100 %" in shown


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing(number: int, tmp_path: Path) -> None:
    source, out = tmp_path / "long.flac", tmp_path / "out"
    command = [media.find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "sine=d=1500", str(source)]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "vod", "extract", source, "--output", out, "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not (out.is_dir() and any(path.stat().st_size for path in out.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(stdout)["outcome"] == "cancelled"
    assert list(out.iterdir()) == []


def test_help_names_the_commands() -> None:
    said = vod("--help")
    assert said.returncode == 0
    assert "extract" in said.stdout
    assert "standin" in said.stdout


def test_names_and_terminals_that_are_not_utf_8(video: Path, tmp_path: Path) -> None:
    inputs = [tmp_path / os.fsdecode(name) for name in (b"caf\xe9.mp4", "\U0001f600.mp4".encode())]
    for path in inputs:
        shutil.copy(video, path)
    command = [sys.executable, "-m", "vod", "extract", "--output", str(tmp_path / "out")]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    for options in ([], ["--json", "--force"]):
        said = subprocess.run(
            [*command, *options, *inputs], env=environment, capture_output=True, check=False, timeout=60
        )
        assert (said.returncode, said.stderr) == (0, b"")
        assert len(said.stdout.splitlines()) == 2


def test_a_reader_that_leaves_early(video: Path, tmp_path: Path) -> None:
    copies = [shutil.copy(video, tmp_path / f"{number}.mp4") for number in range(4)]
    command = [sys.executable, "-m", "vod", "extract", "--output", str(tmp_path / "out"), "--json", *copies]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(60) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""


def test_only_records_are_on_standard_output(video: Path, tmp_path: Path) -> None:
    """Whatever a library prints, by Python or by itself."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "from pathlib import Path\n"
        "def noisy(self, *args, **kwargs):\n"
        "    os.write(1, b'native noise\\n'); print('noise')\n"
        "    return usual(self, *args, **kwargs)\n"
        "usual, Path.replace = Path.replace, noisy\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    said = vod("extract", video, "--output", tmp_path / "out", "--json", env=environment)
    assert [record["outcome"] for record in records(said)] == ["extracted"]
    assert "native noise\nnoise\n" in said.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--processes", "-3"], "Use 1 or more."),
        (["--timeout", "-5"], "Use 0.0 or more."),
        (["--start", "-1"], "Use seconds from 0."),
        (["--format", "OPUS", "--sample-rate", "44100"], "Use one of 8000, 12000, 16000, 24000, 48000."),
        (["--sample-rate", "192000"], "MP3 cannot have a sample rate of 192000 Hz."),
        (["--track", "nine"], "'nine' names no audio track."),
        (["--track", "²"], "'²' names no audio track."),
        (["--channels", "²"], "channels cannot be '²'."),
        (["--output", ""], "The output has no name."),
        (["--output", "nowhere://bucket"], "No file system for nowhere:// is installed."),
    ],
)
def test_what_cannot_be_asked_for_is_a_sentence(options: list[str], sentence: str, tmp_path: Path) -> None:
    said = vod("extract", tmp_path / "any.mp4", "--output", tmp_path / "out", *options)
    assert said.returncode == 2
    assert sentence in said.stdout
    assert "Traceback" not in said.stdout + said.stderr
