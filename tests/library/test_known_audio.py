"""Audio counts as done while its file is there and has the size that its record says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import DictStore
from vod.hooks import VodHook
from vod.library import known_audio
from vod.library.known_audio import KnownAudio, Wanted
from vod.library.register import Register, ffmpeg_inputs, vod_inputs
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


@pytest.mark.parametrize("most", [0, 1000], ids=["by the index", "entry by entry"])
@pytest.mark.parametrize(
    ("name", "done"),
    [("a.mp3", True), ("a.ffmpeg.mp3", True), ("a.33fc5c35.mp3", False), ("a.de-64abc7dc.mp3", False)],
)
def test_what_a_fallback_made_by_options_is_not_all_of_a_video(
    tmp_path: Path, connection: str, monkeypatch: pytest.MonkeyPatch, most: int, name: str, done: bool
) -> None:
    monkeypatch.setattr(known_audio, "_MOST_ENTRIES", most)
    store, here, hook = DictStore(), Destination(str(tmp_path)), VodHook(connection)
    (tmp_path / name).write_bytes(b"audio")
    record = ExtractedAudio(
        asset="a",
        uri=here.uri(name),
        audio_format="MP3",
        codec="mp3",
        duration=2.0,
        size=5,
        engine="ffmpeg" if "." in name.removesuffix(".mp3") else "vod",
    )
    register = Register(store, "task", vod_inputs(hook.client.project_id(), "MP3"))
    register.finish({"a": record.to_json()}, {})
    known = KnownAudio(store, hook, "vod", here).find([Wanted(asset="a", audio_format="MP3")])
    assert ("a" in known.done) is done
