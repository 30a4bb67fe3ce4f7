"""Audio counts as done while its file is there and has the size that its record says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DictStore
from vod.hooks import VodHook
from vod.library import known_audio
from vod.library.known_audio import KnownAudio, Wanted
from vod.library.register import Register, ffmpeg_inputs
from vod.records import ExtractedAudio
from vod.storage.destination import Destination

ASSET = "/media/talk.mp4"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "talk.mp3"


@pytest.fixture
def known(file: Path) -> KnownAudio:
    """What a register knows in which *file* has 5 bytes."""
    store, here = DictStore(), Destination(str(file.parent))
    record = ExtractedAudio(
        asset=ASSET,
        uri=here.uri(file.name),
        audio_format="MP3",
        codec="mp3",
        duration=1.0,
        size=5,
        engine="ffmpeg",
    )
    Register(store, "task", ffmpeg_inputs("MP3", here.uri(""), {})).finish({ASSET: record.to_json()}, {})
    return KnownAudio(store, VodHook("vod_default"), "ffmpeg", here)


def is_done(known: KnownAudio) -> bool:
    return ASSET in known.find([Wanted(asset=ASSET, audio_format="MP3")]).done


def test_audio_of_another_size_is_not_done(known: KnownAudio, file: Path) -> None:
    assert not is_done(known), "there is no file"
    file.write_bytes(b"audio")
    assert is_done(known)
    for other in (b"audi", b"audio of another run", b""):
        file.write_bytes(other)
        assert not is_done(known)


def test_of_a_long_list_the_size_is_not_known(
    known: KnownAudio, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_audio, "_MOST_ENTRIES", 0)
    for content, done in ((b"audio", True), (b"audio of another run", True), (b"", False)):
        file.write_bytes(content)
        assert is_done(known) == done
