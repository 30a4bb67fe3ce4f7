"""What is extracted while the source is still being fetched is, byte for byte, what the whole file gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.media.conftest import ffmpeg
from vod import media
from vod.media import Ahead, Extraction, Limits, Output, Selection, Tags, ahead, writing

SECONDS = 20
MAKE = {
    "a.mkv": ("-c:a", "aac"),
    "a.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus"),
    "a.ts": ("-c:a", "aac"),
    "a.flv": ("-c:v", "flv", "-c:a", "aac"),
    "fragments.mp4": ("-c:a", "aac", "-movflags", "+frag_keyframe+empty_moov", "-g", "10"),
    "index-first.mp4": ("-c:a", "aac", "-movflags", "+faststart"),
    "late.ts": ("-c:a", "aac", "-af", "adelay=1500:all=1,asetpts=PTS+1.5/TB"),
    "index-last.mp4": ("-c:a", "aac"),
    "index-last-pcm.mov": ("-c:a", "pcm_s16be"),
    "index-last-two.mov": ("-c:a", "alac", "-map", "0", "-map", "1", "-map", "1"),
    "inverted.mkv": ("-c:a", "flac", "-af", "pan=stereo|c0=c0|c1=-1*c0"),
}
TAKEN = [*MAKE][:7]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ahead")
    for name, options in MAKE.items():
        ffmpeg(
            *("-f", "lavfi", "-i", f"color=s=64x48:r=5:d={SECONDS}"),
            *("-f", "lavfi", "-i", f"aevalsrc=0.3*sin(700*t)|0.2*sin(1700*t):s=44100:d={SECONDS}"),
            *(*options, folder / name),
        )
    # Two recordings, and a damaged one.
    whole = (folder / "a.ts").read_bytes()
    (folder / "joined.ts").write_bytes(whole + whole)
    middle = len(whole) // 2 // 188 * 188
    (folder / "damaged.ts").write_bytes(whole[:middle] + bytes(188 * 40) + whole[middle + 188 * 40 :])
    return folder


@pytest.fixture(autouse=True)
def small_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "HEADERS", 1 << 16)


def outputs(folder: Path) -> dict[Path, Output]:
    folder.mkdir(exist_ok=True)
    return {folder / "a.mp3": Output(audio_format="MP3"), folder / "a.16k.wav": media.SPEECH}


def wishes(folder: Path, **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "outputs": outputs(folder),
        "selection": Selection(),
        "tags": Tags(source="a", fingerprint="f"),
        "gaps": "silence",
        "strict": False,
        "program": media.find_ffmpeg(),
    }
    return {**given, **more}


@pytest.fixture
def growing(tmp_path: Path, videos: Path) -> Iterator[Any]:
    """Extract a video that arrives in two halves, ffmpeg being at work before the second comes."""
    begun: list[Ahead] = []

    def extract(name: str, folder: Path, boxes: Path | None = None, **more: Any) -> list[Extraction]:
        content, copy, wanted = (videos / name).read_bytes(), tmp_path / name, wishes(folder, **more)
        with Ahead(**wanted, timeout=60) as at_work, copy.open("wb", buffering=0) as file:
            begun.append(at_work)
            at_work.begin(copy, boxes)
            file.write(content[: len(content) // 2])
            assert at_work._worker is None or at_work._planned.wait(30)
            file.write(content[len(content) // 2 :])
            at_work.end()
            return media.extract_all(copy, **wanted, ahead=at_work)

    yield extract
    assert not any(at_work._worker and at_work._worker.is_alive() for at_work in begun)
    assert not [process for process in psutil.Process().children(True) if "ffmpeg" in name_of(process)]


def name_of(process: psutil.Process) -> str:
    """Empty when it has ended meanwhile."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def alike(found: list[Extraction]) -> list[Extraction]:
    return [replace(each, path=Path(each.path.name)) for each in found]


@pytest.mark.quick(4)
@pytest.mark.parametrize("name", [*MAKE, "joined.ts", "damaged.ts"])
def test_it_gives_what_the_whole_file_gives(name: str, growing: Any, videos: Path, tmp_path: Path) -> None:
    expected = media.extract_all(videos / name, **wishes(tmp_path / "whole"))
    found = growing(name, tmp_path / "ahead")
    assert alike(found) == alike(expected)
    assert contents(tmp_path / "ahead") == contents(tmp_path / "whole")


@pytest.mark.parametrize("name", TAKEN)
def test_it_is_taken_and_ffmpeg_is_not_run_again(
    name: str, growing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "run", lambda *_, **__: pytest.fail("ffmpeg was run again"))
    assert len(growing(name, tmp_path / "ahead")) == 2
    assert sorted(contents(tmp_path / "ahead")) == ["a.16k.wav", "a.mp3"]


def boxes_of(video: Path, folder: Path) -> Path:
    """What an MP4 has outside of its media data, and nothing in between."""
    content = bytearray(video.read_bytes())
    start = content.index(b"mdat") + 4
    end = start - 8 + int.from_bytes(content[start - 8 : start - 4], "big")
    assert end - start > 10_000
    content[start:end] = bytes(end - start)
    sparse = folder / "boxes"
    sparse.write_bytes(content)
    return sparse


@pytest.mark.parametrize("name", [name for name in MAKE if name.startswith("index-last")])
def test_an_index_at_the_end_that_is_known_is_put_in_front(
    name: str, growing: Any, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = media.extract_all(videos / name, **wishes(tmp_path / "whole"))
    monkeypatch.setattr(writing, "run", lambda *_, **__: pytest.fail("ffmpeg was run again"))
    found = growing(name, tmp_path / "ahead", boxes_of(videos / name, tmp_path))
    assert alike(found) == alike(expected)
    assert contents(tmp_path / "ahead") == contents(tmp_path / "whole")


def test_an_index_of_another_version_of_the_source_is_worth_nothing(
    growing: Any, videos: Path, tmp_path: Path
) -> None:
    content = bytearray((videos / "index-last-pcm.mov").read_bytes())
    table = content.index(b"stco") + 12
    first = int.from_bytes(content[table : table + 4], "big")
    content[table : table + 4] = (first + 4000).to_bytes(4, "big")
    other = tmp_path / "other.mov"
    other.write_bytes(content)
    expected = media.extract_all(videos / "index-last-pcm.mov", **wishes(tmp_path / "whole"))
    found = growing("index-last-pcm.mov", tmp_path / "ahead", boxes_of(other, tmp_path))
    assert alike(found) == alike(expected)
    assert contents(tmp_path / "ahead") == contents(tmp_path / "whole")


def _no_table(content: bytearray) -> None:
    at = content.index(b"stco")
    content[at : at + 4] = b"free"


def _far_away(content: bytearray) -> None:
    at = content.index(b"stco") + 12
    content[at : at + 4] = b"\xff\xff\xff\x00"


def _too_many_entries(content: bytearray) -> None:
    at = content.index(b"stco") + 8
    content[at : at + 4] = b"\x7f\xff\xff\xff"


def _packed(content: bytearray) -> None:
    at = content.index(b"mvhd")
    content[at : at + 4] = b"cmov"


def _much_before(content: bytearray) -> None:
    at = content.index(b"mdat") - 4
    content[at:at] = (2 << 20).to_bytes(4, "big") + b"free" + bytes((2 << 20) - 8)


@pytest.mark.parametrize("change", [_no_table, _far_away, _too_many_entries, _packed, _much_before])
def test_an_index_that_cannot_be_moved_stays_behind(change: Any, videos: Path, tmp_path: Path) -> None:
    content = bytearray((videos / "index-last.mp4").read_bytes())
    limits = Limits(60)
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    assert ahead.front_of(path, limits)
    change(content)
    path.write_bytes(content)
    assert ahead.front_of(path, limits) is None


@pytest.mark.parametrize("name", ["index-first.mp4", "fragments.mp4", "a.mkv", "a.ts"])
def test_what_can_be_read_from_its_start_is_left_as_it_is(name: str, videos: Path) -> None:
    assert ahead.front_of(videos / name, Limits(60)) is None


@pytest.mark.parametrize(
    "more",
    [
        {"selection": Selection(start=3.0, duration=5.0)},
        {"selection": Selection(track="all")},
        {"gaps": "close"},
        {"strict": True},
    ],
    ids=str,
)
def test_whatever_is_asked_for(more: dict[str, Any], growing: Any, videos: Path, tmp_path: Path) -> None:
    expected = media.extract_all(videos / "a.mkv", **wishes(tmp_path / "whole", **more))
    assert alike(growing("a.mkv", tmp_path / "ahead", **more)) == alike(expected)
    assert contents(tmp_path / "ahead") == contents(tmp_path / "whole")


def test_a_copy_waits_for_all_packets(growing: Any, tmp_path: Path) -> None:
    folder = tmp_path / "ahead"
    folder.mkdir()
    [found] = growing("a.mkv", folder, outputs={folder / "a.m4a": Output(audio_format="AAC")})
    assert found.copied


def test_a_file_that_never_gets_whole_leaves_nothing(videos: Path, tmp_path: Path) -> None:
    copy, folder = tmp_path / "copy.mkv", tmp_path / "ahead"
    with Ahead(**wishes(folder), timeout=60) as at_work:
        at_work.begin(copy)
        copy.write_bytes((videos / "a.mkv").read_bytes()[: 1 << 18])
        assert at_work._planned.wait(30)
        assert [*folder.iterdir()], "it is at work"
    assert not [*folder.iterdir()]


def test_what_was_begun_before_the_source_changed_is_not_taken(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who fetches does not call ``end`` then."""
    copy, folder = tmp_path / "copy.mkv", tmp_path / "ahead"
    with Ahead(**wishes(folder), timeout=60) as at_work:
        at_work.begin(copy)
        copy.write_bytes((videos / "a.webm").read_bytes()[: 1 << 18])
        assert at_work._planned.wait(30)
        copy.write_bytes((videos / "a.mkv").read_bytes())
        found = media.extract_all(copy, **wishes(folder), ahead=at_work)
    expected = media.extract_all(videos / "a.mkv", **wishes(tmp_path / "whole"))
    assert alike(found) == alike(expected)
    assert contents(folder) == contents(tmp_path / "whole")
