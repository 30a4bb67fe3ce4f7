"""Which channels and tracks are heard, in the audio and in what recognition gets."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from vod.media import Output, Selection, extract_all
from vod.media.errors import ChannelNotFoundError, UnsupportedTrackError
from vod.media.formats import SPEECH

from .conftest import ffmpeg

pytestmark = pytest.mark.usefixtures("engine")


def tones(path: Path, level: float = 0.01) -> set[int]:
    """Frequencies that are heard, to 10 Hz."""
    with av.open(path) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=8000)
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float64) / 32768
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) / len(samples)
    hertz = np.fft.rfftfreq(len(samples), 1 / 8000)
    return {int(round(value, -1)) for value in hertz[spectrum > level]}


def made(path: Path, channels: str, *options: str) -> Path:
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc='{channels}':s=48000:d=3", *options, path)
    return path


def without_names(wav: Path) -> Path:
    data = bytearray(wav.read_bytes())
    at = data.index(b"fmt ") + 8
    data[at + 20 : at + 24] = bytes(4)  # no mask
    wav.write_bytes(data)
    return wav


def tone(hertz: int, level: float = 0.4) -> str:
    return f"{level}*sin(2*PI*{hertz}*t)"


LEFT_RIGHT = f"{tone(500)}|{tone(800)}:c=stereo"


@pytest.mark.parametrize("audio_format", ["MP3", "WAV"])
@pytest.mark.parametrize(("channels", "hertz"), [("left", 500), ("right", 800)])
def test_the_channel_that_is_chosen(channels: str, hertz: int, audio_format: str, tmp_path: Path) -> None:
    source = made(tmp_path / "a.wav", LEFT_RIGHT)
    extract_all(source, {tmp_path / "out": Output(audio_format=audio_format, channels=channels)})
    assert tones(tmp_path / "out") == {hertz}


@pytest.mark.parametrize("channels", ["left", "right", "center"])
def test_any_channel_of_a_mono_track_is_that_track(channels: str, tmp_path: Path) -> None:
    source = made(tmp_path / "a.wav", tone(500))
    [found] = extract_all(source, {tmp_path / "out": Output(channels=channels)})
    assert tones(tmp_path / "out") == {500}
    assert not found.silent


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    source = made(tmp_path / "a.wav", LEFT_RIGHT)
    with pytest.raises(ChannelNotFoundError, match=r"no channel 'center'; it has FL, FR"):
        extract_all(source, {tmp_path / "out": Output(channels="center")})


@pytest.mark.parametrize("level", [0.4, 0.5])
def test_a_mix_that_cancels_itself_takes_the_louder_channel(level: float, tmp_path: Path) -> None:
    source = made(tmp_path / "a.wav", f"{tone(500)}|{tone(500, -level)}:c=stereo")
    main, speech = extract_all(source, {tmp_path / "out": Output(), tmp_path / "speech": SPEECH})
    assert tones(tmp_path / "speech") == {500}
    if level == 0.4:
        assert "would be silent" in speech.warnings[0]
        assert not main.silent
        assert not speech.silent


@pytest.mark.parametrize(
    ("layout", "channels", "heard", "said"),
    [
        ("5.1", ["{a}", "-{a}", "0", "0.2*{a}", "0", "0"], {500}, "the loudest, left."),  # FL FR FC LFE BL BR
        ("", ["0", "{a}", "0", "-{a}", "0", "0"], {500}, "the loudest, number 2."),
        ("5.1", ["{a}", "-{a}", "{b}", "0", "0", "0"], {800}, None),  # somebody speaks in the middle
        (
            "5.1",
            ["0", "0", "0.05*{b}", "{a}", "0", "0"],
            {800},
            None,
        ),  # a subwoofer
    ],
)
def test_more_than_two_channels_that_cancel_themselves(
    layout: str, channels: list[str], heard: set[int], said: str | None, tmp_path: Path
) -> None:
    expressions = "|".join(channel.format(a=tone(500), b=tone(800)) for channel in channels)
    source = made(tmp_path / "a.wav", f"{expressions}:c=5.1")
    if not layout:
        without_names(source)
    [found] = extract_all(source, {tmp_path / "speech": SPEECH})
    assert tones(tmp_path / "speech", level=0.0001) >= heard
    assert [warning for warning in found.warnings if "would be silent" in warning] == [
        warning for warning in found.warnings if said and warning.endswith(said)
    ]
    assert bool(said) == any("would be silent" in warning for warning in found.warnings)


def test_a_mix_that_cancels_itself_in_places_is_told(tmp_path: Path) -> None:
    source = made(tmp_path / "a.wav", f"{tone(500)}|if(lt(t,1.5),1,-1)*{tone(500)}:c=stereo")
    main, speech = extract_all(source, {tmp_path / "out": Output(), tmp_path / "speech": SPEECH})
    assert main.warnings == ()
    assert [warning for warning in speech.warnings if "In places a mix of the channels is silent" in warning]


def test_channels_without_names_that_cancel_themselves_in_two(tmp_path: Path) -> None:
    four = "|".join(tone(500, level) for level in (0.4, -0.4, 0.4, -0.4))
    source = without_names(made(tmp_path / "a.wav", f"{four}:c=4.0"))
    [found] = extract_all(source, {tmp_path / "out": Output()})
    assert tones(tmp_path / "out") == {500}
    assert "would be silent" in found.warnings[0]


def test_tracks_that_cancel_each_other_are_told(tmp_path: Path) -> None:
    one, other = made(tmp_path / "0.wav", tone(500)), made(tmp_path / "1.wav", tone(500, -0.4))
    ffmpeg("-i", one, "-i", other, "-map", "0", "-map", "1", "-c", "copy", tmp_path / "a.mov")
    [found] = extract_all(tmp_path / "a.mov", {tmp_path / "out": Output()}, Selection(track="mix"))
    assert found.silent
    assert found.warnings == ("The tracks cancel each other, as some are inverted: extract one of them.",)


def test_a_usual_mix_is_one(tmp_path: Path) -> None:
    source = made(tmp_path / "a.wav", LEFT_RIGHT)
    [found] = extract_all(source, {tmp_path / "speech": SPEECH})
    assert tones(tmp_path / "speech") == {500, 800}
    assert found.warnings == ()


@pytest.mark.parametrize("track", [None, "speech"])
def test_of_several_tracks_the_first_that_is_heard(track: str | None, tmp_path: Path) -> None:
    made(tmp_path / "silent.wav", "0")
    made(tmp_path / "loud.wav", tone(500))
    source = tmp_path / "a.mkv"
    both = ["-i", tmp_path / "silent.wav", "-i", tmp_path / "loud.wav", "-map", "0", "-map", "1"]
    ffmpeg(*both, "-c:a", "aac", "-disposition:a:0", "default", source)
    [found] = extract_all(source, {tmp_path / "out": Output()}, Selection(track=track))
    assert (found.track.index, found.silent) == (1, False)
    assert found.warnings == ("Audio track 0 is silent.",)
    [asked] = extract_all(source, {tmp_path / "out": Output()}, Selection(track=0))
    assert (asked.track.index, asked.silent) == (0, True)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.mov"])
def test_tracks_are_mixed_at_their_times(name: str, tmp_path: Path) -> None:
    picture = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=5:d=5"]
    first = ["-itsoffset", "1", "-f", "lavfi", "-i", f"aevalsrc='{tone(500, 0.3)}':s=48000:d=1"]
    second = ["-itsoffset", "3", "-f", "lavfi", "-i", f"aevalsrc='{tone(800, 0.3)}':s=48000:d=1"]
    maps = ["-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"]
    ffmpeg(*picture, *first, *second, *maps, tmp_path / name)
    out = tmp_path / "out.wav"
    [found] = extract_all(tmp_path / name, {out: Output(audio_format="WAV")}, Selection(track="mix"))
    assert {500, 800} <= tones(out, level=0.003)
    with av.open(out) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    loud = np.flatnonzero(np.abs(samples) > 2000) / 48_000 + found.offset
    assert loud[0] == pytest.approx(1.0, abs=0.05)
    assert loud[loud > 2.5][0] == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("lengths", [(1, 3), (3, 1)])
def test_a_mix_lasts_as_long_as_its_longest_track(lengths: tuple[int, int], tmp_path: Path) -> None:
    for number, length in enumerate(lengths):
        made(tmp_path / f"{number}.wav", tone(500), "-t", str(length))
    ffmpeg("-i", tmp_path / "0.wav", "-i", tmp_path / "1.wav", "-map", "0", "-map", "1", tmp_path / "a.mkv")
    [found] = extract_all(tmp_path / "a.mkv", {tmp_path / "out": Output()}, Selection(track="mix"))
    assert found.duration == pytest.approx(3, abs=0.05)


def test_channels_without_names_keep_equal_gains(tmp_path: Path) -> None:
    six = "|".join(tone(300 + 100 * number) for number in range(6))
    source = without_names(made(tmp_path / "a.wav", f"{six}:c=5.1"))
    extract_all(source, {tmp_path / "out": Output(audio_format="WAV", channels=1)})
    assert tones(tmp_path / "out") == {300, 400, 500, 600, 700, 800}


def test_more_channels_than_a_format_holds(tmp_path: Path) -> None:
    ten = "|".join(tone(300 + 50 * number, 0.5) for number in range(10))
    source = made(tmp_path / "a.wav", f"{ten}:c=10c")
    with pytest.raises(UnsupportedTrackError, match=r"has 10 channels, and FLAC holds at most 8"):
        extract_all(source, {tmp_path / "out": Output(audio_format="FLAC")})
    [mixed] = extract_all(source, {tmp_path / "out": Output(audio_format="FLAC", channels=2)})
    assert mixed.channels == 2
    [speech] = extract_all(source, {tmp_path / "speech": SPEECH})
    assert speech.channels == 1
    assert len(tones(tmp_path / "out")) == 10
