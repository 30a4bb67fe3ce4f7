"""`python -m vod transcribe`: files beside the audio, a bar on a terminal, models of a folder."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vod.__main__ import main
from vod.speech import Segment, Word, resolve_model
from vod.speech.engines.whisper import WhisperEngine
from vod.speech.passages import Passage


@pytest.mark.slow
def test_a_bar_on_a_terminal_and_a_sentence_beside_it(video: Path, tmp_path: Path) -> None:
    shutil.copytree(resolve_model("tiny.en"), tmp_path / "models" / "ours")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "vod", "transcribe", video, "--output", tmp_path, "--format", "vtt"]
    command += ["--models", tmp_path / "models", "--model", "ours"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    stdout, _ = process.communicate(timeout=60)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert process.returncode == 0
    assert "0/1  100 %" in shown
    assert "1/1  100 %" in shown
    assert "words, en" in stdout
    assert sorted(path.suffix for path in tmp_path.glob("*.en.*")) == [".json", ".vtt"]


def test_what_cannot_be_is_said_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", str(tmp_path / "a.mp3"), "--model", "huge"]) == 2
    assert "no speech model 'huge'" in capsys.readouterr().err
    assert main(["transcribe", "a.mp3", "--models", "models", "--model", "tiny.en"]) == 2
    assert "absolute path" in capsys.readouterr().err


@pytest.mark.parametrize("language", ["zh-CN", "zh_TW"])
def test_characters_that_cannot_be_given_are_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.setitem(sys.modules, "opencc", None)  # as if it were not installed
    assert main(["transcribe", str(tmp_path / "a.mp3"), "--model", "base", "--language", language]) == 2
    assert "OpenCC is not installed" in capsys.readouterr().err


def test_a_second_script_lies_beside_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("opencc")
    said = Segment((Word(start=0.0, end=1.0, text="头发"),))
    passages = [Passage(start=0.0, end=1.0, segments=(said,), language="zh")]
    monkeypatch.setattr(WhisperEngine, "check", lambda *_: None)
    monkeypatch.setattr(WhisperEngine, "passages", lambda *_, **__: iter(passages))
    command = ["transcribe", str(tmp_path / "a.mp3"), "--output", str(tmp_path / "text"), "--format"]
    for _ in range(2):
        assert main([*command, "txt,vtt", "--language", "zh-CN"]) == 0
        assert main([*command, "txt", "--language", "zh-TW"]) == 0
    assert "there already" in capsys.readouterr().out
    texts = {path.name.partition(".")[2]: path.read_text().strip() for path in tmp_path.glob("text/*.txt")}
    assert texts == {"zh.txt": "头发", "zh.TW.txt": "頭髮"}
    assert len([*tmp_path.glob("text/*.vtt")]) == 1
