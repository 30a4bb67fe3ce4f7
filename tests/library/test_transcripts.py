"""A transcript counts once all of it lies at the destination."""

from __future__ import annotations

from pathlib import Path

from vod.library.transcripts import find_transcripts
from vod.storage.files import Destination


def test_transcripts_are_found_by_asset(tmp_path: Path) -> None:
    here = Destination(str(tmp_path))
    (tmp_path / "a.en.txt").write_text("hello")
    assert find_transcripts(here, ["a"]) == {}, "the captions are still to come"
    (tmp_path / "a.en.srt").write_text("1")
    assert find_transcripts(here, ["a", "b"]) == {"a": (tmp_path / "a.en.txt").as_uri()}
