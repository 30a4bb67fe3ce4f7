"""Names, titles and foreign messages stay on their line of a log, a message and the terminal."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SAMPLES, DictStore, context_of, settle
from vod.batch.outcomes import AssetsFailedError
from vod.cloud.client import VodClient
from vod.cloud.errors import ServiceError
from vod.logs import get_logger, redact_http_libraries
from vod.operators import ExtractAudioOperator
from vod.pipeline import reports
from vod.records import AssetFailure
from vod.standin import Standin, faults
from vod.text import Lines, printable

PACKAGE = Path(__file__).parent.parent / "plugins" / "vod"
FORGED = "\n2026-01-01 CRITICAL forged\r\x1b[31m\u202egnp\x9b2J\0"
FILE_NAME = FORGED.replace("\0", "").replace("/", "")


def lines_of(text: str) -> list[str]:
    assert text.splitlines(), "nothing was said"
    for line in text.split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.startswith("2026-01-01"), repr(line)
    return text.split("\n")


def test_text_is_on_one_line_and_drives_no_terminal() -> None:
    assert printable("Ein Schöner Tag, 日本 🎬.mp4") == "Ein Schöner Tag, 日本 🎬.mp4"
    assert len(lines_of(printable(FORGED))) == 1
    assert printable("\udc80") == "\N{REPLACEMENT CHARACTER}"


def test_what_is_put_into_a_message_stays_on_its_line(caplog: pytest.LogCaptureFixture) -> None:
    log = get_logger("vod.test")
    log.warning("%s: %.1f s, %d, %s", FORGED, 1.25, 3, ServiceError(FORGED, asset=FORGED, remedy=FORGED))
    log.warning(FORGED)
    log.warning("%s", Lines([FORGED, "second"]))
    assert [len(lines_of(record.getMessage())) for record in caplog.records] == [1, 1, 2]
    assert "1.2 s, 3" in caplog.text


def test_every_module_of_the_package_logs_that_way() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.name != "logs.py":
            assert "getLogger(__name__)" not in path.read_text(), path


def test_errors_and_reports_keep_to_their_lines() -> None:
    error = ServiceError(FORGED, asset=FORGED, remedy=FORGED)
    assert len(lines_of(str(error))) == 1
    error.asset = FORGED
    assert len(lines_of(str(error))) == 1
    failure = AssetFailure(asset=FORGED, outcome="x", message=FORGED, remedy=FORGED)
    assert len(lines_of(str(AssetsFailedError([failure])))) == 2
    tally = reports.Tally()
    assert [*tally.counting([failure])]
    lines_of(reports.table(tally))


def test_names_and_titles_of_files_in_the_log_of_the_operator(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assets = []
    for folder in (tmp_path / "whole", tmp_path / "broken"):
        folder.mkdir()
        assets.append(folder / f"talk{FILE_NAME}.mov")
    shutil.copy(SAMPLES / "lake.mov", assets[0])
    assets[1].write_text("no video")
    operator = ExtractAudioOperator(
        task_id="x",
        engine="ffmpeg",
        assets=[*map(str, assets), str(tmp_path / f"missing{FILE_NAME}")],
        destination=str(tmp_path / "audio"),
        failed_assets="return",
    )
    records = operator.execute(context_of(DictStore()))
    assert [record["outcome"] for record in records] == ["extracted", "unreadable", "unreadable"]
    assert "forged" in caplog.text
    for entry in caplog.records:
        lines_of(entry.getMessage())


def test_names_of_files_on_the_terminal(tmp_path: Path) -> None:
    whole, broken = tmp_path / f"talk{FILE_NAME}.mov", tmp_path / f"broken{FILE_NAME}.mov"
    shutil.copy(SAMPLES / "lake.mov", whole)
    broken.write_text("no video")
    for option in ([], ["--json"]):
        command = [
            sys.executable,
            "-m",
            "vod",
            "extract",
            *option,
            "--output",
            "out",
            str(whole),
            str(broken),
        ]
        said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert said.returncode == 1
        assert len(lines_of(said.stdout.removesuffix("\n"))) == 2
        assert said.stderr == ""


def test_what_the_stand_in_is_told(
    standin: Standin, client: VodClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    standin.behaviour.faults = [faults.Fail(reason=FORGED)]
    source = standin.add(SAMPLES / "lake.mov", title="talk")
    settle(client, client.extract_audio(source, "MP3").audio_asset_id)
    assert "forged" in caplog.text
    for entry in caplog.records:
        lines_of(entry.getMessage())


SECRET = "SECRET"


@pytest.mark.parametrize(
    ("logger", "message", "arguments"),
    [
        ("httpx", "HTTP Request: %s %s", ("GET", f"https://u:{SECRET}@host/a?Signature={SECRET}#f")),
        ("httpcore.http11", f"complete return_value=[(b'Location', b'https://h/a?x={SECRET}')]", ()),
        ("httpcore.http11", f"complete return_value=[(b'location', b'/a?x={SECRET}')]", ()),
        ("httpcore.http2", f"""complete return_value=[(b'Set-Cookie', b"it's {SECRET}")]""", ()),
        ("httpcore.http11", f"complete return_value=[(b'X-Subject-Token', b'{SECRET}')]", ()),
        ("httpcore.proxy", f"complete return_value=[(b'Proxy-Authenticate', b'{SECRET}\\'{SECRET}')]", ()),
        ("urllib3.connectionpool", '%s://%s "%s %s"', ("http", "h", "GET", f"/a?token={SECRET} HTTP/1.1")),
        ("urllib3.util.retry", "Retrying after connection broken: %s", (f"/hook?{SECRET}",)),
    ],
)
def test_http_libraries_log_no_secret(
    logger: str, message: str, arguments: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    redact_http_libraries()
    caplog.set_level(logging.DEBUG, logger)
    logging.getLogger(logger).debug(message, *arguments)
    [record] = caplog.records
    assert SECRET not in record.getMessage()
    assert "***" in record.getMessage()


def test_http_libraries_still_say_what_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    redact_http_libraries()
    for logger in ("httpx", "httpcore.http11"):
        caplog.set_level(logging.DEBUG, logger)
    said = "complete return_value=(b'HTTP/1.1', 200, b'OK', [(b'Content-Length', b'12'), (b'Date', b'x')])"
    logging.getLogger("httpcore.http11").debug(said)
    logging.getLogger("httpx").info('HTTP Request: GET https://host/a "HTTP/1.1 200 OK"')
    assert caplog.messages == [said, 'HTTP Request: GET https://host/a "HTTP/1.1 200 OK"']


def test_all_loggers_of_the_libraries_are_covered() -> None:
    import httpcore
    import requests
    import urllib3

    from vod.logs import _LIBRARIES

    for package in (httpcore, urllib3, requests):
        root = Path(package.__file__).parent
        for path in root.rglob("*.py"):
            for name in re.findall(r"getLogger\((__name__|\"[\w.]+\")\)", path.read_text()):
                module = ".".join([package.__name__, *path.relative_to(root).with_suffix("").parts])
                logger = (module if name == "__name__" else name.strip('"')).removesuffix(".__init__")
                if not re.search(r"contrib|http2\.connection", logger) or logger == "httpcore.http2":
                    assert logger in _LIBRARIES
