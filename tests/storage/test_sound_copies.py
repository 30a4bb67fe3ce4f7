"""Of a video on object storage only the sound is fetched, and nothing of one that changes meanwhile."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from tests.conftest import attach_memory
from tests.media.test_ranges import HALF, picture, sound, video
from vod.locations import ANYWHERE
from vod.media import Limits, ranges
from vod.storage.files import sound_copy

__all__ = ["picture"]


def test_parts_of_an_object_have_its_sound_until_it_changes(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranges, "_WORTH", 1e9)
    monkeypatch.setattr(ranges, "_GAPS", (4 << 10,))
    whole = video(picture, tmp_path / "a.mp4", *HALF)
    memory = fsspec.filesystem("memory")
    memory.pipe("/sounds/a.mp4", whole.read_bytes())
    attach_memory()
    limits = Limits(60)
    with sound_copy("memory://sounds/a.mp4", limits=limits, allowed=ANYWHERE) as copy:
        assert copy is not None
        assert copy.size == whole.stat().st_size
        assert copy.fetched < copy.size / 2
        assert sound(copy.path) == sound(whole)

    kept = ranges.fetch_sound

    def changing(*arguments: object) -> int | None:
        fetched = kept(*arguments)  # type: ignore[arg-type]
        memory.pipe("/sounds/a.mp4", whole.read_bytes() + b"more")
        return fetched

    monkeypatch.setattr(ranges, "fetch_sound", changing)
    with sound_copy("memory://sounds/a.mp4", limits=limits, allowed=ANYWHERE) as copy:
        assert copy is None
