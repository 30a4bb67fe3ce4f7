"""The sample videos are what samples.json says they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vod.media import EXTENSIONS, extract, probe

FOLDER = Path(__file__).parents[2] / "samples"
SAMPLES: list[dict[str, Any]] = json.loads((FOLDER / "samples.json").read_text(encoding="utf-8"))


def test_all_videos_are_listed() -> None:
    videos = {path.name for path in FOLDER.iterdir() if path.suffix in {".mp4", ".mkv", ".mov"}}
    assert {sample["file"] for sample in SAMPLES} == videos


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["file"])
def test_a_sample_is_as_described(sample: dict[str, Any]) -> None:
    info = probe(FOLDER / sample["file"])
    assert info.title == sample["title"]
    assert info.size < 300_000
    assert 5 <= (info.duration or 0) <= 12
    assert info.video is not None
    tracks = [{key: track[key] for key in ("language", "default", "codec")} for track in sample["audio"]]
    assert [{"language": t.language, "default": t.default, "codec": t.codec} for t in info.audio] == tracks


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", EXTENSIONS)
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["file"])
def test_a_sample_becomes_audio(sample: dict[str, Any], audio_format: str, tmp_path: Path) -> None:
    extraction = extract(FOLDER / sample["file"], tmp_path / "out", audio_format=audio_format)
    assert extraction.track.index == 0
    assert extraction.duration == pytest.approx(extraction.track.duration, abs=0.05)
    assert extraction.warnings == ()
