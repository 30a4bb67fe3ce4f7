"""``python -m vod check`` says what reads files here, and fails where a file can reach a vulnerability."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.conftest import connection_json
from vod import allowed_formats
from vod.media.vulnerabilities import known_vulnerabilities
from vod.standin import Standin


def check(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vod", "check", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_what_is_in_use() -> None:
    said = check()
    assert (said.returncode, said.stderr) == (0, ""), said.stdout
    assert f"PyAV: {av.__version__} with FFmpeg {av.ffmpeg_version_info}" in said.stdout
    for words in (
        "ffmpeg: ",
        "speech model: base (",
        "limits of ffmpeg: 4.29 GB",
        "in a process of its own",
    ):
        assert words in said.stdout


def test_a_hole_that_can_be_reached_is_a_problem() -> None:
    said = check(VOD_RARE_FORMATS="1")
    assert said.returncode == 1
    assert "has CVE-2026-125182, and files can reach it" in said.stdout


def test_no_ffmpeg_is_a_problem(tmp_path: Path) -> None:
    said = check(VOD_FFMPEG=str(tmp_path / "none"))
    assert said.returncode == 1
    assert "PROBLEM: " in said.stdout
    assert "Traceback" not in said.stderr


def test_a_connection_and_its_destination_are_tried(standin: Standin, tmp_path: Path) -> None:
    folder = tmp_path / "audio"
    wrong = json.loads(connection_json(standin, destination="/proc/audio"))
    environment = {
        "AIRFLOW_CONN_MINE": connection_json(standin, destination=str(folder)),
        "AIRFLOW_CONN_WRONG": json.dumps({**wrong, "password": "not the secret key"}),
        "AIRFLOW__VOD__ALLOWED_LOCATIONS": f"{tmp_path}, /proc/audio",
    }
    said = check("--connection", "mine", **environment)
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"connection mine: VOD at {standin.url} accepts the keys." in said.stdout
    assert f"destination {folder}: it can be written to" in said.stdout
    said = check("--connection", "wrong", **environment)
    assert said.returncode == 1
    assert re.search("PROBLEM: connection wrong: .*signature", said.stdout)
    assert "PROBLEM: destination /proc/audio: " in said.stdout
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("version", "ids"),
    [
        ("8.1.2", {"125203", "125267", "125244", "125182"}),
        ("5.1.9-0+deb12u1", {"125203", "125267", "125244", "125182"}),
        ("8.1.3", {"125182"}),
        ("n9.0.2-17-gabc", {"125182"}),
        ("9.0.3", set()),
        ("of unknown version", {"125203", "125267", "125244", "125182"}),
    ],
)
def test_which_versions_have_which(version: str, ids: set[str]) -> None:
    _, vulnerabilities = known_vulnerabilities()
    assert {
        vulnerability.id.rpartition("-")[2]
        for vulnerability in vulnerabilities
        if vulnerability.is_in(version)
    } == ids


def test_none_is_reached_unless_switched_on() -> None:
    _, vulnerabilities = known_vulnerabilities()
    assert not any(vulnerability.reached for vulnerability in vulnerabilities)
    allowed_formats.read_rare_formats()
    try:
        assert {known.decoder for known in vulnerabilities if known.reached} == {"cook"}
    finally:
        allowed_formats.read_rare_formats(False)
