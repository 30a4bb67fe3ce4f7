"""Sources that end too early, and headers that lie."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vod.media import (
    EXTENSIONS,
    FfmpegError,
    NoSpaceError,
    Output,
    Selection,
    TruncatedMediaError,
    extract,
    extract_all,
)
from vod.media.integrity import declared_size, following_bytes, lost_bytes

from .conftest import SECONDS, WHEEL, cut, ffmpeg

Media = Callable[[str], Path]

KNOWS_ITS_SIZE = [
    *("faststart.mp4", "index-last.mp4", "fragments.mp4", "mp3.mov", "mp3.mkv", "opus.webm"),
    *("mp3.avi", "aac.flv", "pcm.wav"),
]


@pytest.mark.parametrize("name", KNOWS_ITS_SIZE)
def test_what_is_cut_off_is_seen_in_the_structure(name: str, media: Media, tmp_path: Path) -> None:
    source = media(name)
    assert lost_bytes(source) == 0
    size = source.stat().st_size
    cut_off = cut(source, tmp_path / name, 0.8)
    assert 0 < lost_bytes(cut_off) <= size * 0.2 + 10


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"RIFF", b"\x1aE\xdf\xa3", b"\0\0\0\1mdat", b"\0\0\0\0moov", b"FLV"),
        b"\x1aE\xdf\xa3\x01" + b"\xfe" * 7,
        b"\x1aE\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xfe" * 7,
    ],
)
def test_declared_size_of_stumps(content: bytes, tmp_path: Path) -> None:
    source = tmp_path / "stump"
    source.write_bytes(content)
    assert declared_size(source) in {None, len(content)} or declared_size(source) > 1 << 50


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("share", [0.4, 0.85])
@pytest.mark.parametrize("audio_format", EXTENSIONS)
@pytest.mark.parametrize(
    "name", ["faststart.mp4", "mp3.mkv", "opus.webm", "aac.flv", "sound.flac", "pcm.wav"]
)
def test_a_cut_file_is_an_error_with_the_seconds_missing(
    name: str, audio_format: str, share: float, media: Media, tmp_path: Path
) -> None:
    source = cut(media(name), tmp_path / name, share)
    with pytest.raises(TruncatedMediaError) as caught:
        extract(source, tmp_path / "out", audio_format=audio_format)
    assert caught.value.missing == pytest.approx(SECONDS * (1 - share), abs=0.7)
    assert caught.value.outcome == "truncated"
    assert not caught.value.retryable
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_a_cut_avi_is_an_error_with_the_seconds_missing(share: float, media: Media, tmp_path: Path) -> None:
    """Its header is a large part of a short file, so that bytes say little about time."""
    source = tmp_path / "a.avi"
    content = media("mp3.avi").read_bytes()
    begin, end = content.index(b"movi"), content.index(b"idx1")
    source.write_bytes(content[: int(begin + (end - begin) * share)])
    with pytest.raises(TruncatedMediaError) as caught:
        extract(source, tmp_path / "out.mp3")
    [kept] = extract_all(source, {tmp_path / "out.mp3": Output()}, truncated="keep")
    assert kept.duration < SECONDS * share + 0.3
    assert caught.value.missing == pytest.approx(SECONDS - kept.duration, abs=0.3)
    assert kept.missing == pytest.approx(caught.value.missing, abs=0.001)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("share", [0.35, 0.6, 0.95])
@pytest.mark.parametrize("name", ["index-last.mp4", "fragments.mp4"])
def test_a_cut_file_without_its_index(name: str, share: float, media: Media, tmp_path: Path) -> None:
    source = cut(media(name), tmp_path / name, share)
    with pytest.raises(TruncatedMediaError):
        extract(source, tmp_path / "out.mp3")


@pytest.mark.usefixtures("engine")
def test_when_only_the_picture_is_cut_the_audio_counts(media: Media, tmp_path: Path) -> None:
    source = cut(media("short-sound.mp4"), tmp_path / "a.mp4", 0.9)
    extraction = extract(source, tmp_path / "out.mp3")
    assert extraction.duration == pytest.approx(1.0, abs=0.1)
    assert "audio is complete" in extraction.warnings[0]


@pytest.mark.usefixtures("engine")
def test_a_picture_that_lasts_longer_is_no_news(media: Media, tmp_path: Path) -> None:
    assert extract(media("short-sound.mp4"), tmp_path / "out.mp3").warnings == ()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", EXTENSIONS)
def test_a_header_that_lies_is_a_warning_with_figures(
    audio_format: str, media: Media, tmp_path: Path
) -> None:
    content = media("mp3.mkv").read_bytes()
    assert content.count(b"00:00:04.") >= 1
    source = tmp_path / "liar.mkv"
    source.write_bytes(content.replace(b"00:00:04.", b"00:09:04."))
    extraction = extract(source, tmp_path / "out", audio_format=audio_format)
    assert extraction.duration == pytest.approx(SECONDS, abs=0.1)
    assert extraction.warnings == (
        f"The header claims {extraction.track.duration:.1f} s, the audio ends cleanly after 4.0 s.",
    )
    assert extraction.track.duration == pytest.approx(540 + SECONDS, abs=0.1)


@pytest.mark.usefixtures("wheel")
def test_only_an_expectation_from_outside_shows_a_cut_transport_stream(media: Media, tmp_path: Path) -> None:
    source = cut(media("aac.ts"), tmp_path / "a.ts", 0.5)
    assert extract(source, tmp_path / "out.mp3").duration < 3
    with pytest.raises(TruncatedMediaError) as caught:
        extract(source, tmp_path / "out.mp3", expected_duration=SECONDS)
    assert caught.value.missing == pytest.approx(2, abs=0.7)
    assert extract(media("aac.ts"), tmp_path / "out.mp3", expected_duration=SECONDS).warnings == ()


@pytest.mark.usefixtures("engine")
def test_matroska_and_wav_written_to_a_pipe_do_not_know_their_size(media: Media, tmp_path: Path) -> None:
    for name, muxer in (("mp3.mkv", "matroska"), ("pcm.wav", "wav")):
        source = tmp_path / name
        command = [WHEEL, "-v", "error", "-i", media(name), "-c", "copy", "-f", muxer, "pipe:1"]
        source.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
        assert declared_size(source) is None
        extraction = extract(source, tmp_path / "out.mp3")
        assert extraction.duration == pytest.approx(SECONDS, abs=0.1)
        assert extraction.warnings == ()


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", EXTENSIONS)
def test_damaged_packets_are_counted(audio_format: str, media: Media, tmp_path: Path) -> None:
    content = bytearray(media("aac.ts").read_bytes())
    dice = random.Random(1)
    for _ in range(400):
        content[dice.randrange(2000, len(content))] = dice.randrange(256)
    source = tmp_path / "damaged.ts"
    source.write_bytes(content)
    extraction = extract(source, tmp_path / "out", audio_format=audio_format)
    assert "ffmpeg complained" in " ".join(extraction.warnings)


@pytest.mark.usefixtures("engine")
def test_garbage_before_an_mp3_does_not_become_noise(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "garbage.mp3"
    source.write_bytes(random.Random(1).randbytes(200_000) + media("sound.mp3").read_bytes())
    extraction = extract(source, tmp_path / "out.mp3")
    assert extraction.track.codec == "mp3"
    assert extraction.duration < 2 * SECONDS


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("audio_format", EXTENSIONS)
def test_a_full_disk(
    audio_format: str, engine: str, media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ffmpeg 5 ends with success when only the end of an MP3 did not fit.
    wrapper = tmp_path / "ffmpeg"
    wrapper.write_text(
        "#!/bin/sh\n"
        "for argument do\n"
        "  case $argument in file:*.part) argument=file:/dev/full;; esac\n"
        '  shift; set -- "$@" "$argument"\n'
        "done\n"
        f'exec "{engine}" "$@"\n'
    )
    wrapper.chmod(0o755)
    monkeypatch.setenv("VOD_FFMPEG", str(wrapper))
    with pytest.raises(NoSpaceError) as caught:
        extract(media("pcm.wav"), tmp_path / "out", audio_format=audio_format)
    assert caught.value.retryable
    assert list(tmp_path.iterdir()) == [wrapper]


@pytest.mark.usefixtures("wheel")
def test_gaps_in_the_source_are_told(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "gap.mkv"
    ffmpeg("-i", media("sound.flac"), "-af", "aselect='lt(t,1)+gt(t,3)'", "-c:a", "flac", source)
    extraction = extract(source, tmp_path / "out.mp3")
    assert extraction.duration == pytest.approx(4.0, abs=0.2)
    [gap] = extraction.gaps
    assert (gap.start, gap.duration) == (pytest.approx(1.0, abs=0.1), pytest.approx(2.0, abs=0.2))
    assert extraction.warnings == (f"The sound has one gap of {gap.duration:.1f} s, which is silent.",)


@pytest.mark.usefixtures("engine")
def test_what_comes_before_zero_is_not_missed(media: Media, tmp_path: Path) -> None:
    # An Opus file may tell the player to leave out more than a second at its start.
    source = tmp_path / "a.opus"
    ffmpeg("-i", media("sound.flac"), "-c:a", "libopus", source)
    content = bytearray(source.read_bytes())
    head = content.index(b"OpusHead")
    content[head + 10 : head + 12] = (48_000).to_bytes(2, "little")
    # The page's checksum: of all its bytes, with the checksum's own as zeros.
    content[22:26] = bytes(4)
    content[22:26] = ogg_checksum(content[: 27 + content[26] + 19]).to_bytes(4, "little")
    source.write_bytes(content)
    extraction = extract(source, tmp_path / "out.mp3")
    assert extraction.duration == pytest.approx(SECONDS - 1, abs=0.1)


def ogg_checksum(page: bytes) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


@pytest.mark.usefixtures("engine")
def test_a_cut_file_with_nearly_no_sound_left_is_cut_and_not_empty(media: Media, tmp_path: Path) -> None:
    source = cut(media("pcm.wav"), tmp_path / "a.wav", 0.002)
    with pytest.raises(TruncatedMediaError):
        extract(source, tmp_path / "out.mp3")


# --- what a header or a tag claims, against sound that is all there ---


def _sized(path: Path, size: int) -> Path:
    """A WAV whose writer could not fill in its sizes."""
    data = bytearray(path.read_bytes())
    for at in (4, data.index(b"data") + 4):
        data[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "size", [0, 0x7FFF0000, 0x7FFFF024, 0x7FFFFFFE, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFF]
)
@pytest.mark.usefixtures("engine")
def test_sizes_that_a_writer_to_a_pipe_leaves(size: int, media: Media, tmp_path: Path) -> None:
    source = tmp_path / "a.wav"
    source.write_bytes(media("pcm.wav").read_bytes())
    extraction = extract(_sized(source, size), tmp_path / "out.mp3")
    assert extraction.duration == pytest.approx(SECONDS, abs=0.1)


_BEHIND = {
    "zeros": bytes(40_000),
    "noise": random.Random(3).randbytes(40_000),
    "Lyrics3": b"LYRICSBEGIN" + b"la la " * 3000 + b"018011LYRICS200",
    "APE tag": b"APETAGEX" + b"\xd0\x07\0\0" + b"x" * 3000,
    "half a chunk": b"LIST" + struct.pack("<I", 5000) + b"INFO" + b"x" * 40,
}


@pytest.mark.parametrize("name", ["sound.mp3", "pcm.wav", "aac.ts", "aac.flv", "faststart.mp4", "mp3.mkv"])
@pytest.mark.parametrize("behind", _BEHIND)
@pytest.mark.usefixtures("wheel")
def test_what_stands_behind_the_sound_is_not_missed(
    behind: str, name: str, media: Media, tmp_path: Path
) -> None:
    source = tmp_path / name
    source.write_bytes(media(name).read_bytes() + _BEHIND[behind])
    extraction = extract(source, tmp_path / "out.wav", audio_format="WAV")
    assert extraction.duration == pytest.approx(SECONDS, abs=0.3)


@pytest.mark.usefixtures("wheel")
def test_a_size_that_is_too_big_for_an_avi_that_is_whole(media: Media, tmp_path: Path) -> None:
    data = bytearray(media("mp3.avi").read_bytes())
    data[4:8] = struct.pack("<I", len(data) * 3)
    source = tmp_path / "a.avi"
    source.write_bytes(data)
    assert extract(source, tmp_path / "out.mp3").duration == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("share", [0.5, 0.77])
@pytest.mark.parametrize("name", ["mp3.mkv", "opus.webm", "aac.flv", "mp3.avi", "pcm.wav"])
@pytest.mark.usefixtures("engine")
def test_what_there_is_of_a_cut_file_can_be_kept(
    name: str, share: float, media: Media, tmp_path: Path
) -> None:
    source = cut(media(name), tmp_path / name, share)
    target = tmp_path / "out.mp3"
    [extraction] = extract_all(source, {target: Output()}, truncated="keep")
    assert extraction.duration == pytest.approx(SECONDS * share, abs=1.0)
    assert extraction.missing is not None
    assert extraction.missing + extraction.duration == pytest.approx(SECONDS, abs=1.0)
    assert "missing" in " ".join(extraction.warnings)
    target.unlink()
    with pytest.raises(TruncatedMediaError):
        extract_all(source, {target: Output()})


@pytest.mark.usefixtures("engine")
def test_whole_fragments_can_be_kept(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(media("fragments.mp4").read_bytes()[:-700])
    [extraction] = extract_all(source, {tmp_path / "out": Output()}, truncated="keep")
    assert extraction.duration > 2
    assert extraction.missing


@pytest.mark.usefixtures("wheel")
def test_nothing_is_missing_of_a_whole_file(media: Media, tmp_path: Path) -> None:
    [extraction] = extract_all(media("mp3.mkv"), {tmp_path / "out": Output()}, truncated="keep")
    assert extraction.missing is None


@pytest.mark.usefixtures("engine")
def test_a_mix_tells_what_its_tracks_would_tell(media: Media, tmp_path: Path) -> None:
    sound, whole = media("sound.m4a"), tmp_path / "whole.mp4"
    both = ["-i", sound, "-i", sound, "-map", "0", "-map", "1", "-c", "copy", "-movflags", "+faststart"]
    ffmpeg(*both, whole)
    mix, target = Selection(track="mix"), {tmp_path / "out.mp3": Output()}
    source = cut(whole, tmp_path / "cut.mp4", 0.7)
    with pytest.raises(TruncatedMediaError) as caught:
        extract_all(source, target, mix)
    assert caught.value.missing == pytest.approx(SECONDS * 0.3, abs=0.5)
    [kept] = extract_all(source, target, mix, truncated="keep")
    assert kept.missing == pytest.approx(caught.value.missing, abs=0.001)
    assert caught.value.message in kept.warnings
    with pytest.raises(TruncatedMediaError):
        extract_all(whole, target, mix, expected_duration=2 * SECONDS)
    source.write_bytes(whole.read_bytes() * 2)
    [first] = extract_all(source, target, mix)
    assert [warning for warning in first.warnings if "Another recording follows" in warning]


# --- several recordings in one file ---


@pytest.mark.parametrize(
    "name", ["faststart.mp4", "fragments.mp4", "mp3.mov", "pcm.wav", "mp3.avi", "aac.flv"]
)
@pytest.mark.usefixtures("wheel")
def test_another_recording_that_is_not_read_is_told(name: str, media: Media, tmp_path: Path) -> None:
    one = media(name).read_bytes()
    source = tmp_path / name
    source.write_bytes(one + one)
    extraction = extract(source, tmp_path / "out.mp3")
    told = [warning for warning in extraction.warnings if "Another recording follows" in warning]
    if extraction.duration < 1.5 * SECONDS:
        assert told == [
            f"Another recording follows the first in this file: {len(one)} bytes, which are not read."
        ]
    assert not following_bytes(media(name))


@pytest.mark.parametrize("name", ["mp3.mkv", "opus.webm", "aac.ts", "sound.mp3"])
@pytest.mark.parametrize("audio_format", ["MP3", "OPUS", "WAV"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.usefixtures("wheel")
def test_recordings_that_ffmpeg_reads_on_are_all_there_or_told(
    name: str, audio_format: str, count: int, media: Media, tmp_path: Path
) -> None:
    one = media(name).read_bytes()
    source = tmp_path / name
    source.write_bytes(one * count)
    extraction = extract(source, tmp_path / "out", audio_format=audio_format)
    if count == 3 and name in ("mp3.mkv", "opus.webm"):  # ffmpeg reads two
        assert f"{len(one)} bytes, which are not read" in " ".join(extraction.warnings)
        count = 2
    assert extraction.duration == pytest.approx(count * SECONDS, abs=0.4)


@pytest.mark.quick(4)
@pytest.mark.parametrize("audio_format", ["AAC", "MP3", "OPUS", "WAV"])
@pytest.mark.parametrize("container", ["aac", "ts"])
@pytest.mark.usefixtures("engine")
def test_sound_that_changes_on_the_way(audio_format: str, container: str, tmp_path: Path) -> None:
    parts = []
    for rate, channels in ((48_000, 2), (24_000, 1), (44_100, 2)):
        part = tmp_path / f"{rate}.{container}"
        options = ["-ar", str(rate), "-ac", str(channels), "-c:a", "aac"]
        ffmpeg("-f", "lavfi", "-i", "sine=f=440:d=3", *options, part)
        parts.append(part.read_bytes())
    source = tmp_path / f"a.{container}"
    source.write_bytes(b"".join(parts))
    extraction = extract(source, tmp_path / "out", audio_format=audio_format)
    assert extraction.duration == pytest.approx(9.0, abs=0.4)
    assert not extraction.copied


@pytest.mark.usefixtures("wheel")
def test_a_file_in_which_ffmpeg_stops_is_an_error(tmp_path: Path) -> None:
    parts = []
    for channels in (1, 2):
        part = tmp_path / f"{channels}.opus"
        ffmpeg("-f", "lavfi", "-i", "sine=f=440:d=3", "-ac", str(channels), "-c:a", "libopus", part)
        parts.append(part.read_bytes())
    source = tmp_path / "chain.opus"
    source.write_bytes(b"".join(parts))
    with pytest.raises(FfmpegError, match="stopped in the middle of the file"):
        extract(source, tmp_path / "out.mp3")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(("a.aiff", []), ("a.au", []), ("a.caf", []), ("a.w64", []), ("a.wav", ["-rf64", "always"])),
        ("a.wma", ["-c:a", "wmav2"]),
    ],
)
def test_formats_whose_end_is_missing(name: str, options: list[str], tmp_path: Path) -> None:
    whole = tmp_path / name
    ffmpeg("-f", "lavfi", "-i", "sine=r=48000:d=4", *options, whole)
    assert lost_bytes(whole) == 0
    cut = tmp_path / f"cut-{name}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(TruncatedMediaError) as caught:
        extract(cut, tmp_path / "a.mp3")
    assert caught.value.missing == pytest.approx(1.6, abs=0.3)
    [kept] = extract_all(cut, {tmp_path / "a.mp3": Output()}, truncated="keep")
    assert kept.missing
    assert kept.duration == pytest.approx(2.4, abs=0.3)


@pytest.mark.parametrize(
    ("name", "place", "length"), [("a.aiff", b"SSND", 4), ("a.caf", b"data", 8), ("a.au", b".snd\0\0\0", 4)]
)
def test_lengths_that_a_writer_to_a_pipe_leaves_in_other_formats(
    name: str, place: bytes, length: int, tmp_path: Path
) -> None:
    source = tmp_path / name
    ffmpeg("-f", "lavfi", "-i", "sine=r=48000:d=4", source)
    data = bytearray(source.read_bytes())
    at = data.index(place) + (8 if name == "a.au" else 4)
    data[at : at + length] = b"\xff" * length
    source.write_bytes(data)
    assert extract(source, tmp_path / "a.mp3").duration == pytest.approx(4, abs=0.1)


def test_padding_after_an_mp3_is_no_change_of_its_sound(tmp_path: Path) -> None:
    source = tmp_path / "a.mp3"
    ffmpeg("-f", "lavfi", "-i", "sine=r=48000:d=4", "-c:a", "libmp3lame", source)
    source.write_bytes(source.read_bytes() + b"\xff" * 9000)
    found = extract(source, tmp_path / "b.mp3")
    assert found.duration == pytest.approx(4, abs=0.1)
    assert not [warning for warning in found.warnings if "changes" in warning]


@pytest.mark.usefixtures("wheel")
def test_sound_that_goes_on_under_another_number_is_told(tmp_path: Path) -> None:
    source = tmp_path / "a.ts"
    content = b""
    for pid, late in ((257, 0), (513, 3)):
        part = tmp_path / f"{pid}.ts"
        tone = ["-f", "lavfi", "-i", "sine=r=48000:d=3"]
        ffmpeg(*tone, "-c:a", "mp2", "-streamid", f"0:{pid}", "-output_ts_offset", str(late), part)
        content += part.read_bytes()
    source.write_bytes(content)
    assert "not read" in " ".join(extract(source, tmp_path / "a.mp3").warnings)
    assert extract(part, tmp_path / "b.mp3").warnings == ()


@pytest.mark.parametrize(
    ("name", "options"), [("a.aiff", []), ("a.wav", ["-rf64", "always"]), ("a.wma", []), ("a.mkv", [])]
)
@pytest.mark.usefixtures("wheel")
def test_a_recording_that_follows_in_other_formats_is_told_unless_it_is_read(
    name: str, options: list[str], tmp_path: Path
) -> None:
    source = tmp_path / name
    ffmpeg("-f", "lavfi", "-i", "sine=r=48000:d=3", *options, source)
    one = source.read_bytes()
    source.write_bytes(one + one)
    assert following_bytes(source) == len(one)
    assert not following_bytes(source, 2 * len(one))
    found = extract(source, tmp_path / "a.mp3")
    told = [text for text in found.warnings if "are not read" in text]
    assert len(told) == (found.duration < 5)


@pytest.mark.parametrize("kind", ["BW64", "RIFX", "MXF"])
@pytest.mark.usefixtures("wheel")
def test_more_formats_whose_end_is_missing(kind: str, tmp_path: Path) -> None:
    source = tmp_path / ("a.mxf" if kind == "MXF" else "a.wav")
    tone = ["-f", "lavfi", "-i", "sine=r=48000:d=4"]
    picture = (
        ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=4", "-c:v", "mpeg2video"] if kind == "MXF" else []
    )
    ffmpeg(*tone, *picture, *(["-rf64", "always"] if kind == "BW64" else []), source)
    data = source.read_bytes()
    if kind == "BW64":
        data = b"BW64" + data[4:]
    if kind == "RIFX":
        head = struct.pack(
            ">4sI8sIHHIIHH4sI",
            b"RIFX",
            36 + 384_000,
            b"WAVEfmt ",
            16,
            1,
            1,
            48_000,
            96_000,
            2,
            16,
            b"data",
            384_000,
        )
        data = head + data[-384_000:]
    source.write_bytes(data)
    assert extract(source, tmp_path / "a.mp3").duration == pytest.approx(4, abs=0.1)
    source.write_bytes(data[: len(data) * 7 // 10])
    with pytest.raises(TruncatedMediaError):
        extract(source, tmp_path / "a.mp3")


@pytest.mark.parametrize("codec", ["ac3", "eac3", "mp2"])
@pytest.mark.parametrize("behind", ["zeros", "APE tag"])
@pytest.mark.usefixtures("engine")
def test_what_stands_behind_raw_frames_is_not_missed(codec: str, behind: str, tmp_path: Path) -> None:
    source = tmp_path / f"a.{codec}"
    ffmpeg("-f", "lavfi", "-i", "sine=r=48000:d=4", source)
    source.write_bytes(source.read_bytes() + _BEHIND[behind] * 5)
    assert extract(source, tmp_path / "a.mp3").duration == pytest.approx(4, abs=0.3)


@pytest.mark.usefixtures("wheel")
def test_the_end_of_an_index_of_fragments_is_no_sound(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    whole = media("fragments.mp4").read_bytes()
    assert b"mfra" in whole[-500:]
    source.write_bytes(whole[:-70])
    assert extract(source, tmp_path / "a.mp3").duration == pytest.approx(SECONDS, abs=0.1)
