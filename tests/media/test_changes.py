"""Sound whose channels or sample rate change on the way keeps its time, its length and all that is heard."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from vod.media import Extraction, FfmpegError, Output, Selection, extract_all

from .conftest import WHEEL, ffmpeg

pytestmark = pytest.mark.usefixtures("engine")

PART = 3
"""Seconds of each of two parts."""


def seconds(path: Path, channel: int | None = None) -> list[int | None]:
    """Which second of its source each second of an audio file is; ``None`` where it is silent."""
    with av.open(path) as container:
        layout = "mono" if channel is None else container.streams.audio[0].layout
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=8000)
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    samples = np.concatenate([frame.to_ndarray()[channel or 0] for frame in frames])
    found: list[int | None] = []
    for start in range(0, len(samples) - 6000, 8000):
        piece = samples[start + 1000 : start + 7000]
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece))))
        hertz = spectrum.argmax() * 8000 / len(piece)
        found.append(round((hertz - 300) / 100) if np.abs(piece).max() > 0.001 else None)
    return found


def part(path: Path, first: int, *options: str, level: float = 0.3) -> bytes:
    """Second n of the whole is a tone of 300 + 100 n Hz."""
    tone = f"{level}*sin(2*PI*(300+100*({first}+floor(t)))*t)"
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc='{tone}':s=48000:d={PART}", *options, path)
    return path.read_bytes()


def joined(path: Path, one: list[str], other: list[str], **levels: float) -> Path:
    """A raw stream whose second part is encoded in another way."""
    parts = part(path.with_name(f"1{path.suffix}"), 0, *one)
    path.write_bytes(parts + part(path.with_name(f"2{path.suffix}"), PART, *other, **levels))
    return path


STEREO, MONO, SURROUND = ["-ac", "2"], ["-ac", "1"], ["-af", "pan=5.1|FL=c0|FR=c0|FC=c0|LFE=c0|BL=c0|BR=c0"]


def in_video(sound: Path, video: Path, late: float = 0.0) -> Path:
    picture = ["-f", "lavfi", "-i", f"testsrc2=s=64x48:r=25:d={2 * PART}"]
    maps = ["-map", "0", "-map", "1", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "copy"]
    ffmpeg(*picture, "-itsoffset", str(late), "-i", sound, *maps, video)
    return video


def one(
    source: Path, audio_format: str = "WAV", output: Output | None = None, **selected: object
) -> Extraction:
    target = source.with_name("out")
    selection = Selection(**selected)  # type: ignore[arg-type]
    [found] = extract_all(source, {target: output or Output(audio_format=audio_format)}, selection)
    return found


@pytest.mark.parametrize("name", ["a.aac", "a.mp3"])
def test_a_piece_of_a_raw_stream_is_trimmed_once(name: str, tmp_path: Path) -> None:
    source = joined(tmp_path / name, STEREO, ["-ac", "1", "-ar", "24000"])
    found = one(source, start=2, duration=3)
    assert seconds(found.path) == [2, 3, 4]
    assert found.duration == pytest.approx(3, abs=0.01)
    assert found.offset == 2
    assert seconds(one(source, start=4).path)[:2] == [4, 5]


@pytest.mark.parametrize("other", [STEREO, MONO], ids=["alike", "unlike"])
@pytest.mark.parametrize("codec", ["libvorbis", "libopus", "flac"])
def test_a_piece_of_joined_recordings(codec: str, other: list[str], engine: str, tmp_path: Path) -> None:
    common = ["-c:a", codec, "-f", "ogg"]
    source = joined(tmp_path / "a.ogg", [*STEREO, *common], [*other, *common])
    assert seconds(one(source, start=1, duration=1).path) == [1], "before anything else follows"
    if codec != "flac" and other == MONO and engine == WHEEL:
        with pytest.raises(FfmpegError, match=r"stopped in the middle.*Another version"):
            one(source, start=2, duration=3)
        return
    for start, duration in ((2, 3), (4, 1)):
        found = one(source, start=start, duration=duration)
        assert seconds(found.path) == [*range(start, start + duration)]
        assert found.duration == pytest.approx(duration, abs=0.01)


CODECS = {"ac3": (STEREO, SURROUND), "eac3": (SURROUND, STEREO), "mp2": (STEREO, MONO)}


@pytest.mark.quick(4)
@pytest.mark.parametrize("late", [0.0, 0.5])
@pytest.mark.parametrize("audio_format", ["WAV", "AAC"])
@pytest.mark.parametrize(
    ("codec", "container"), [("ac3", "mp4"), ("ac3", "mkv"), ("eac3", "ts"), ("mp2", "ts")]
)
def test_a_change_within_a_video(
    codec: str, container: str, audio_format: str, late: float, tmp_path: Path
) -> None:
    source = in_video(joined(tmp_path / f"a.{codec}", *CODECS[codec]), tmp_path / f"a.{container}", late)
    piece = one(source, audio_format, start=1 + late, duration=4)
    assert seconds(piece.path) == [1, 2, 3, 4]
    assert piece.duration == pytest.approx(4, abs=0.05)
    assert piece.offset == pytest.approx(1 + late, abs=0.05)
    whole = one(source, audio_format)
    assert seconds(whole.path) == [0, 1, 2, 3, 4, 5]
    assert whole.duration == pytest.approx(6, abs=0.1)
    assert whole.offset == pytest.approx(late, abs=0.05)
    assert piece.warnings[0] == whole.warnings[0] == "The way the sound is encoded changes on the way."


def test_tracks_that_change_are_mixed_at_their_times(tmp_path: Path) -> None:
    changing = joined(tmp_path / "a.ac3", STEREO, SURROUND)
    part(tmp_path / "steady.ac3", 20, level=0.1)
    source = tmp_path / "a.mkv"
    ffmpeg("-i", changing, "-i", tmp_path / "steady.ac3", "-map", "0", "-map", "1", "-c", "copy", source)
    found = one(source, track="mix")
    assert seconds(found.path) == [0, 1, 2, 3, 4, 5]
    assert found.duration == pytest.approx(2 * PART, abs=0.1)


def test_all_tracks_where_one_changes(tmp_path: Path) -> None:
    changing = joined(tmp_path / "a.ac3", STEREO, SURROUND)
    part(tmp_path / "steady.ac3", 20)
    source = tmp_path / "a.mkv"
    ffmpeg("-i", tmp_path / "steady.ac3", "-i", changing, "-map", "0", "-map", "1", "-c", "copy", source)
    found = extract_all(source, {tmp_path / "out.wav": Output(audio_format="WAV")}, Selection(track="all"))
    assert [(each.path.name, each.track.index) for each in found] == [("out.wav", 0), ("out.1.wav", 1)]
    assert [seconds(each.path) for each in found] == [[20, 21, 22], [0, 1, 2, 3, 4, 5]]


def test_one_channel_of_sound_that_changes(tmp_path: Path) -> None:
    stereo_then_mono = joined(tmp_path / "a.mp2", *CODECS["mp2"])
    left = one(in_video(stereo_then_mono, tmp_path / "a.ts"), output=Output(channels="left"))
    assert seconds(left.path) == [0, 1, 2, 3, 4, 5]
    center = one(joined(tmp_path / "a.ac3", SURROUND, STEREO), output=Output(channels="center"))
    assert seconds(center.path)[:PART] == [0, 1, 2]
    assert "the one asked for may be silent" in " ".join(center.warnings)


def test_loudness_is_that_of_the_whole(tmp_path: Path) -> None:
    sound = joined(tmp_path / "a.ac3", STEREO, SURROUND, level=0.01)
    source = in_video(sound, tmp_path / "a.ts")
    loud = one(source, output=Output(audio_format="WAV", loudness=-30))
    with av.open(loud.path) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])[::2]
    whole = 20 * np.log10(np.sqrt((samples[: PART * 48_000] / 32768.0) ** 2).mean())
    assert whole == pytest.approx(-32, abs=3)
