"""``python -m vod captions`` writes and checks what it can, replaces nothing, and says why it could not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vod.__main__ import main
from vod.speech import Segment, Transcription, Word


def transcript(file: Path, *texts: str, **values: Any) -> Path:
    """A file with a transcript: words of half a second."""
    words = tuple(Word(at / 2, at / 2 + 0.5, text) for at, text in enumerate(texts or (" The", " lake.")))
    said = Transcription(language="en", duration=9, model="base", segments=(Segment(words),))
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(json.loads(said.to_json()) | values))
    return file


def test_the_command_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = transcript(tmp_path / "a.en.json", " The", " lake", " is", " quiet.")
    assert main(["captions", str(file), "--format", "vtt", "--format", "srt", "--cells", "12"]) == 0
    assert (tmp_path / "a.en.vtt").read_text().endswith("The lake\nis quiet.\n")
    assert (tmp_path / "a.en.srt").exists()
    assert main(["captions", "--check", str(file)]) == 0
    assert main(["captions", str(file), "--format", "json"]) == 1
    assert Transcription.from_json(file.read_text()).text == "The lake is quiet."
    assert "would overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "not a transcript"),
        ("[" * 100_000, "not JSON"),
        ("\udcff", "not JSON"),
        (None, r"No such file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, why: str
) -> None:
    bad, good = tmp_path / "bad.json", transcript(tmp_path / "good.json")
    if text is not None:
        bad.write_bytes(text.encode(errors="surrogateescape"))
    assert main(["captions", str(bad), str(good)]) == 1
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'good.vtt'}\n"
    assert err.startswith(f"{bad}: ")
    assert why in err
    assert err.count("\n") == 1


def test_a_value_that_cannot_be_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["captions", str(transcript(tmp_path / "a.json", language=None))]) == 1
    assert ".language must be a text, not null" in capsys.readouterr().err


def test_what_an_editor_of_windows_saved_is_read(tmp_path: Path) -> None:
    file = transcript(tmp_path / "a.json")
    file.write_bytes(file.read_text().encode("utf-8-sig"))
    assert main(["captions", str(file)]) == 0


def test_no_result_and_no_transcript_replaces_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = transcript(tmp_path / "x" / "talk.json", " First.")
    second = transcript(tmp_path / "y" / "talk.json", " Second.")
    output = tmp_path / "out"
    assert main(["captions", str(first), str(second), "--output", str(output)]) == 1
    out, err = capsys.readouterr()
    assert out == f"{output / 'talk.vtt'}\n"
    assert "First." in (output / "talk.vtt").read_text()
    assert err.startswith(f"{second}: This would overwrite {output / 'talk.vtt'}, which belongs to {first}.")
    to_second = ["--format", "json", "--output", str(second.parent)]
    assert main(["captions", str(first), str(second), *to_second]) == 1
    assert Transcription.from_json(second.read_text()).text == "Second."
    assert main(["captions", str(first), str(first), "--format", "srt", "--format", "srt"]) == 0
    assert capsys.readouterr().out == f"{first.with_suffix('.srt')}\n"


def test_check_says_what_could_not_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = json.loads(transcript(tmp_path / "a.json").read_text())
    [segment] = whole["segments"]
    segment["words"] = [{"start": 5, "end": 5, "text": f" word{at:02}"} for at in range(60)]
    segment["words"] += [{"start": 6, "end": 7, "text": " End."}]
    (tmp_path / "a.json").write_text(json.dumps(whole))
    assert main(["captions", "--check", str(tmp_path / "a.json")]) == 1
    assert "cells a second: the next follows at once." in capsys.readouterr().out


def test_rules_without_end_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = transcript(tmp_path / "a.json")
    for value in ("inf", "nan", "1e308"):
        assert main(["captions", str(file), "--longest", value]) == 1
        assert "out of range" in capsys.readouterr().err
