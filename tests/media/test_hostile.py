"""Names that look like options, and files that name other files."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vod.media import EXTENSIONS, LanguageNotFoundError, UnreadableMediaError, extract, probe
from vod.media.probe import MAX_TRACKS, OPEN_OPTIONS

from .conftest import SECONDS, ffmpeg

Media = Callable[[str], Path]

NAMES = [
    *("-i.mp4", "a:b.mp4", "http:x.mp4", "concat:a|b.mp4", "pipe:0", "data:,x", "%03d.mp4", "100%d"),
    *('it\'s "q".mp4', "new\nline.mp4", "sp ace.mp4", "$(x);`y`.mp4", "[a],b=c.mp4", "a*?.mp4", "ünï.mp4"),
    *("SOURCE", "PARTIAL", os.fsdecode(b"not\xffutf8.mp4")),
]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", NAMES)
def test_names_are_names(name: str, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(media("faststart.mp4"), name)
    for audio_format, extension in EXTENSIONS.items():
        target = Path("out") / f"{name}{extension}"
        extract(Path(name), target, audio_format=audio_format)
        assert os.listdir("out") == [target.name]  # noqa: PTH208
        target.unlink()


@pytest.mark.usefixtures("wheel")
def test_an_error_about_a_name_that_is_not_utf8_can_be_printed(media: Media, tmp_path: Path) -> None:
    source = tmp_path / os.fsdecode(b"not\xffutf8.mp4")
    shutil.copy(media("faststart.mp4"), source)
    with pytest.raises(LanguageNotFoundError) as caught:
        extract(source, tmp_path / "out.mp3", language="de")
    assert "utf8.mp4" in str(caught.value).encode("utf-8").decode()


def playlists(folder: Path, canary: Path) -> list[Path]:
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:4,\n{canary}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
        'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT4S"><Period>'
        '<AdaptationSet><Representation id="1" mimeType="video/mp4">'
        f"<BaseURL>{canary}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    contents = {
        "hls.m3u8": hls,
        "hls.mp4": hls,
        "concat.mp4": f"ffconcat version 1.0\nfile '{canary}'\n",
        "dash.mp4": dash,
        "session.mp4": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    return [folder / name for name in contents]


def test_the_canary_can_be_reached_when_nothing_holds_it_back(media: Media, tmp_path: Path) -> None:
    # Otherwise the tests below would pass for the wrong reason.
    source = next(path for path in playlists(tmp_path, media("aac.ts")) if path.name == "hls.m3u8")
    ffmpeg("-i", source, "-f", "null", "-")


def test_playlists_in_disguise_open_nothing(engine: str, media: Media, tmp_path: Path) -> None:
    for source in playlists(tmp_path, media("aac.ts")):
        with pytest.raises(UnreadableMediaError):
            extract(source, tmp_path / "out.mp3")
        # Probing stops them already; ffmpeg, which may take a file for something else, must do so too.
        limits = [part for key, value in OPEN_OPTIONS.items() for part in (f"-{key}", value)]
        command = [engine, "-nostdin", *limits, "-i", f"file:{source}", "-f", "null", "-"]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert not (tmp_path / "out.mp3").exists()


def test_a_flood_of_tracks(tmp_path: Path) -> None:
    source = tmp_path / "flood.mp4"
    ffmpeg("-f", "lavfi", "-i", "sine=d=0.1", *["-map", "0"] * (MAX_TRACKS + 1), source)
    with pytest.raises(UnreadableMediaError):
        probe(source)


@pytest.mark.usefixtures("engine")
def test_a_title_longer_than_a_command_line_may_be(media: Media, tmp_path: Path) -> None:
    titles = tmp_path / "titles"
    titles.write_text(f";FFMETADATA1\ntitle={'long ' * 60_000}\n")
    source = tmp_path / "long.mkv"
    ffmpeg("-i", media("sound.mp3"), "-i", titles, "-map_metadata", "1", "-c", "copy", source)
    assert len(probe(source).title or "") > 200_000
    assert extract(source, tmp_path / "out.mp3").duration == pytest.approx(SECONDS, abs=0.1)
