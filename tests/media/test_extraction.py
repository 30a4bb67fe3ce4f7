"""From a video to its audio: the right track, copied or encoded, whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from vod import allowed_formats
from vod.errors import InvalidInputError, NoAudioTrackError
from vod.media import (
    EXTENSIONS,
    DestinationError,
    EmptyTrackError,
    LanguageNotFoundError,
    Progress,
    UnsupportedTrackError,
    extract,
    probe,
)

from .conftest import SECONDS, decoded_seconds, ffmpeg, packets, tone

Media = Callable[[str], Path]

COPIED = {
    "MP3": {"mp3.mov", "mp3.avi", "sound.mp3"},
    "AAC": {"faststart.mp4", "index-last.mp4", "fragments.mp4", "aac.flv", "aac.ts"},
    "WAV": {"pcm.wav"},
    "FLAC": {"sound.flac"},
    "OPUS": {"opus.webm"},
}
CODECS = {"MP3": "mp3", "AAC": "aac", "WAV": "pcm_s16le", "FLAC": "flac", "OPUS": "opus"}
SOURCES = sorted(
    {*COPIED["MP3"], *COPIED["AAC"], "mp3.mkv", "opus.webm", "mp2.mpg", "wma.wmv", "pcm.wav", "sound.flac"}
)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", EXTENSIONS)
@pytest.mark.parametrize("name", SOURCES)
def test_every_container_becomes_audio(name: str, audio_format: str, media: Media, tmp_path: Path) -> None:
    target = tmp_path / f"out{EXTENSIONS[audio_format]}"
    extraction = extract(media(name), target, audio_format=audio_format)

    assert extraction.path == target
    assert extraction.codec == CODECS[audio_format]
    assert extraction.duration == pytest.approx(SECONDS, abs=0.1)
    assert extraction.size == target.stat().st_size
    assert extraction.channels == 1
    assert extraction.warnings == ()
    if name != "mp3.mkv":  # ffmpeg 5 cannot copy this one well, newer ones can
        assert extraction.copied is (name in COPIED[audio_format])
    written = probe(target)
    assert [track.codec for track in written.audio] == [extraction.codec]
    assert written.video is None
    assert written.audio[0].sample_rate == extraction.sample_rate
    assert decoded_seconds(target) == pytest.approx(SECONDS, abs=0.1)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("name", "audio_format"), [("faststart.mp4", "AAC"), ("mp3.mov", "MP3")])
def test_a_copy_keeps_every_packet(name: str, audio_format: str, media: Media, tmp_path: Path) -> None:
    extraction = extract(media(name), tmp_path / "out", audio_format=audio_format)
    assert extraction.copied
    assert packets(extraction.path) == packets(media(name))


@pytest.mark.usefixtures("engine")
def test_reencode_encodes_at_the_bit_rate_asked_for(media: Media, tmp_path: Path) -> None:
    extraction = extract(media("mp3.mov"), tmp_path / "out", reencode=True, bit_rate=96_000)
    assert not extraction.copied
    assert extraction.bit_rate == pytest.approx(96_000, rel=0.01)


@pytest.mark.usefixtures("engine")
def test_mp3_is_at_128_kbit_by_default(media: Media, tmp_path: Path) -> None:
    assert extract(media("pcm.wav"), tmp_path / "out").bit_rate == pytest.approx(128_000, rel=0.01)


@pytest.mark.usefixtures("engine")
def test_no_sound_is_lost_when_mp3_comes_out_of_matroska(media: Media, tmp_path: Path) -> None:
    # ffmpeg 5 writes an encoder delay of 4096 samples into such a copy; players skip that much.
    extraction = extract(media("mp3.mkv"), tmp_path / "out.mp3")
    assert decoded_seconds(extraction.path) >= SECONDS


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("audio_format", "channels"), [("MP3", 2), ("AAC", 6)])
def test_surround(audio_format: str, channels: int, media: Media, tmp_path: Path) -> None:
    extraction = extract(media("surround.mka"), tmp_path / "out", audio_format=audio_format)
    assert extraction.track.channels == 6
    assert extraction.channels == channels


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(
    ("language", "index", "frequency"),
    [(None, 1, 880), ("en", 0, 440), ("ENG", 0, 440), ("de", 1, 880), ("Ger", 1, 880), ("deu", 1, 880)],
)
def test_the_right_track(
    language: str | None, index: int, frequency: int, media: Media, tmp_path: Path
) -> None:
    extraction = extract(media("two.mkv"), tmp_path / "out.mp3", language=language)
    assert extraction.track == probe(media("two.mkv")).audio[index]
    assert tone(extraction.path) == pytest.approx(frequency, abs=5)


@pytest.mark.usefixtures("wheel")
def test_without_a_default_the_first_track(media: Media, tmp_path: Path) -> None:
    extraction = extract(media("untagged.mkv"), tmp_path / "out.mp3")
    assert extraction.track.index == 0
    assert tone(extraction.path) == pytest.approx(440, abs=5)


@pytest.mark.usefixtures("wheel")
def test_a_language_that_is_not_there(media: Media, tmp_path: Path) -> None:
    with pytest.raises(LanguageNotFoundError) as caught:
        extract(media("two.mkv"), tmp_path / "out.mp3", language="fr")
    for part in ("'fr'", "eng (track 0, aac)", "ger (track 1, aac “Zweitton”)"):
        assert part in caught.value.message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("name", ["two.mkv", "two.mp4"])
def test_a_track_without_packets_is_passed_over(name: str, hollow: Media, tmp_path: Path) -> None:
    extraction = extract(hollow(name), tmp_path / "out.mp3")
    assert extraction.track.index == 1
    assert tone(extraction.path) == pytest.approx(440, abs=5)
    assert "track 0" in extraction.warnings[0]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", EXTENSIONS)
@pytest.mark.parametrize("name", ["one.mkv", "one.mp4"])
def test_only_tracks_without_packets(name: str, audio_format: str, hollow: Media, tmp_path: Path) -> None:
    with pytest.raises(EmptyTrackError) as caught:
        extract(hollow(name), tmp_path / "out", audio_format=audio_format)
    assert caught.value.outcome == "empty_track"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("wheel")
def test_no_audio_track(media: Media, tmp_path: Path) -> None:
    with pytest.raises(NoAudioTrackError) as caught:
        extract(media("no-audio.mp4"), tmp_path / "out.mp3")
    assert "no audio track" in caught.value.message
    assert caught.value.asset == str(media("no-audio.mp4"))
    assert caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("wheel")
def test_an_unknown_codec(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "strange.mkv"
    source.write_bytes(media("mp3.mkv").read_bytes().replace(b"A_MPEG/L3", b"A_ZZZZ/L9"))
    with pytest.raises(UnsupportedTrackError):
        extract(source, tmp_path / "out.mp3")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", EXTENSIONS)
def test_only_title_and_language_are_kept(audio_format: str, media: Media, tmp_path: Path) -> None:
    tags, source = tmp_path / "tags", tmp_path / "tagged.mp4"
    tags.write_text(
        ";FFMETADATA1\ntitle=A title: 'quoted' \\= 50 %d\ncomment=private\nlocation=+48.1+011.5/\n"
        "[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=4\ntitle=private\n"
    )
    ffmpeg(
        *("-i", media("faststart.mp4"), "-i", tags, "-map", "0", "-map_metadata", "1", "-c", "copy"),
        *("-metadata:s:a:0", "language=fra", source),
    )
    assert source.read_bytes().count(b"private") >= 2
    extraction = extract(source, tmp_path / "out", audio_format=audio_format)
    content = extraction.path.read_bytes()
    assert b"CHAP" not in content
    assert b"chpl" not in content
    assert probe(extraction.path).title == "A title: 'quoted' = 50 %d"
    assert b"private" not in content
    assert b"+48.1" not in content
    if audio_format == "AAC":
        assert probe(extraction.path).audio[0].language == "fra"


@pytest.mark.usefixtures("wheel")
def test_progress_rises_to_one_while_the_target_is_not_there(media: Media, tmp_path: Path) -> None:
    target = tmp_path / "out.mp3"
    seen: list[float] = []
    folder: list[set[str]] = []

    def on_progress(progress: Progress) -> None:
        seen.append(progress.fraction)
        folder.append({path.name for path in tmp_path.iterdir()})

    extract(media("pcm.wav"), target, on_progress=on_progress)
    assert seen == sorted(seen)
    assert len(seen) >= 2
    assert seen[-1] == 1.0
    for names in folder[:-1]:
        assert len(names) == 1
        assert all(name.startswith(".vod-") for name in names)
    assert folder[-1] == {"out.mp3"}


@pytest.mark.usefixtures("wheel")
def test_the_target_is_replaced_in_one_step_and_its_folder_made(media: Media, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "out.mp3"
    extract(media("mp3.mov"), target)
    target.write_bytes(b"old")
    extract(media("mp3.mov"), target)
    assert probe(target).audio[0].codec == "mp3"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


@pytest.mark.usefixtures("wheel")
def test_a_failure_leaves_the_old_target_alone(media: Media, hollow: Media, tmp_path: Path) -> None:
    target = tmp_path / "out.mp3"
    target.write_bytes(b"old")
    with pytest.raises(EmptyTrackError):
        extract(hollow("one.mkv"), target)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.usefixtures("wheel")
def test_the_source_is_never_overwritten(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "a.mov"
    source.write_bytes(media("mp3.mov").read_bytes())
    alias = tmp_path / "b.mp3"
    alias.symlink_to(source)
    for target in (source, alias):
        with pytest.raises(InvalidInputError, match="overwrite its own source"):
            extract(source, target)
    assert source.read_bytes() == media("mp3.mov").read_bytes()


@pytest.mark.usefixtures("wheel")
def test_destinations_that_cannot_be(media: Media, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    for target in (tmp_path, tmp_path / "fifo", tmp_path / "file" / "x.mp3", tmp_path / ("x" * 300)):
        with pytest.raises(DestinationError) as caught:
            extract(media("mp3.mov"), target)
        assert str(target) in caught.value.message
    assert {path.name for path in tmp_path.iterdir()} == {"file", "fifo"}
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.usefixtures("wheel")
def test_a_folder_without_permission(media: Media, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(DestinationError, match="Permission denied"):
        extract(media("mp3.mov"), tmp_path / "locked" / "out.mp3")


def test_an_unknown_format(media: Media, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'OGG'") as caught:
        extract(media("mp3.mov"), tmp_path / "out", audio_format="OGG")
    assert "MP3, AAC, WAV, FLAC, OPUS" in caught.value.remedy


def test_a_codec_that_is_not_read_here_is_named(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        allowed_formats, "DECODERS", tuple(name for name in allowed_formats.DECODERS if name != "aac")
    )
    with pytest.raises(UnsupportedTrackError, match="has the codec aac, which is not read here"):
        extract(video, tmp_path / "a.mp3")
