"""Audio of any format is decoded for recognition, and what cannot be decoded says why."""

from __future__ import annotations

import os
import subprocess
import sys
import wave
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from vod.errors import NoAudioTrackError
from vod.media import find_ffmpeg
from vod.speech import UnreadableAudioError, audio
from vod.speech.audio import SAMPLE_RATE, windows

from .conftest import WriteWav, decode


def tone(seconds: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def test_samples_are_those_of_the_file(write_wav: WriteWav) -> None:
    written = tone(1.5)
    decoded = decode(write_wav("tone.wav", written))
    assert decoded.dtype == np.float32
    np.testing.assert_allclose(decoded, written, atol=2 / 32768)


def test_video_with_another_sample_rate_and_codec(video: Path) -> None:
    with av.open(str(video)) as container:
        assert container.duration is not None
        expected = container.duration / 1_000_000
    assert len(decode(video)) / SAMPLE_RATE == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("name", ["-i.wav", "a:b.wav", "quote's \" and\nnewline.wav", "http:x.wav", "%d.wav"])
def test_names_are_names(write_wav: WriteWav, name: str) -> None:
    assert len(decode(write_wav(name, tone(0.2)))) == 0.2 * SAMPLE_RATE


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableAudioError, match=r"nowhere\.mp3: There is no such file\. Check"):
        decode(tmp_path / "nowhere.mp3")


@pytest.mark.parametrize("content", [b"", b"just text\n" * 100, bytes(100_000), b"RIFF\0\0\0\0WAVEfmt "])
def test_what_is_no_audio(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "talk.mp3"
    path.write_bytes(content)
    with pytest.raises(UnreadableAudioError, match=r"talk\.mp3") as caught:
        decode(path)
    assert caught.value.outcome == "unreadable"


def test_audio_without_a_sample(write_wav: WriteWav) -> None:
    with pytest.raises(UnreadableAudioError, match="no sound"):
        decode(write_wav("empty.wav", np.zeros(0)))


def test_not_a_file(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.wav"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo, Path("/dev/zero")):
        with pytest.raises(UnreadableAudioError, match="not a regular file"):
            decode(path)


def test_video_without_audio(tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10, width=32, height=32, pix_fmt="yuv420p")
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(NoAudioTrackError) as caught:
        decode(path)
    assert caught.value.outcome == "no_audio_track"


@pytest.mark.parametrize(
    ("name", "disguise"),
    [
        ("talk.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n#EXT-X-ENDLIST\n"),
        ("talk.mp3", "ffconcat version 1.0\nfile 'secret.ts'\n"),
    ],
)
def test_no_playlist_makes_it_read_another_file(tmp_path: Path, name: str, disguise: str) -> None:
    with av.open(str(tmp_path / "secret.ts"), "w") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(1)[None].astype("f4"), "fltp", "mono")
        frame.sample_rate = SAMPLE_RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert len(decode(tmp_path / "secret.ts")) > 0.9 * SAMPLE_RATE
    (tmp_path / name).write_text(disguise)
    with pytest.raises(UnreadableAudioError):
        decode(tmp_path / name)


def test_damaged_packets_are_skipped_and_counted(
    video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    for position, size in packets[100:110]:
        content[position : position + size] = b"\xff" * size
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)

    samples = decode(path)

    assert len(decode(video)) * 0.9 < len(samples) < len(decode(video))
    assert "10 damaged packets" in caplog.text


def test_windows_follow_each_other_and_are_cut_where_it_is_quiet(
    write_wav: WriteWav, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audio, "WINDOW", 2.0)
    monkeypatch.setattr(audio, "_SEARCH", 1.0)
    pause = np.zeros(int(0.3 * SAMPLE_RATE), dtype=np.float32)
    written = np.concatenate([tone(2.4), pause, tone(2.0), pause, tone(3.3)])
    found = list(windows(write_wav("a.wav", written)))
    assert len(found) >= 3
    for (start, samples), (following, _) in pairwise(found):
        assert following == start + len(samples) / SAMPLE_RATE
        assert 2.0 <= len(samples) / SAMPLE_RATE <= 3.0
    assert 2.4 <= found[1][0] <= 2.7, "in the pause"
    assert sum(len(samples) for _, samples in found) == len(written)


def stereo(path: Path, *channels: np.ndarray, rate: int = 44_100, layout: str = "") -> Path:
    """A WAV with these channels of :data:`SAMPLE_RATE`, written with another rate."""
    samples = (np.stack(channels, axis=1) * 32767).astype("<i2").tobytes()
    command = [find_ffmpeg(), "-v", "error", "-f", "s16le", "-ar", str(SAMPLE_RATE)]
    command += ["-ac", str(len(channels)), *(["-channel_layout", layout] if layout else []), "-i", "-"]
    subprocess.run([*command, "-ar", str(rate), str(path)], input=samples, check=True)
    return path


def pitch(samples: np.ndarray) -> float:
    """Hz of the loudest tone."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * SAMPLE_RATE / len(samples))


def of(hertz: float, seconds: float = 2.0) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def heard(path: Path, channels: audio.Channels) -> dict[str | None, float]:
    [(_, found)] = audio.voices(path, channels)
    return {voice.speaker: round(pitch(voice.samples), -1) for voice in found}


@pytest.mark.parametrize("extension", ["wav", "mp3", "m4a", "ogg"])
def test_each_channel_by_itself(tmp_path: Path, extension: str) -> None:
    path = stereo(tmp_path / f"a.{extension}", of(300), of(700))
    assert heard(path, "split") == {"left": 300, "right": 700}
    assert heard(path, "left") == {"left": 300}
    assert heard(path, "right") == {"right": 700}
    assert list(heard(path, "mix")) == [None]


@pytest.mark.parametrize("extension", ["wav", "mp3", "m4a"])
def test_channels_with_the_same_sound_are_one(tmp_path: Path, extension: str) -> None:
    path = stereo(tmp_path / f"a.{extension}", of(300), of(300))
    assert heard(path, "split") == {None: 300}
    mono = stereo(tmp_path / f"mono.{extension}", of(500))
    assert heard(mono, "split") == heard(mono, "left") == heard(mono, "right") == {None: 500}


def test_a_silent_channel_is_nobody_and_the_other_keeps_its_name(tmp_path: Path) -> None:
    path = stereo(tmp_path / "a.wav", 0 * of(300), of(700))
    assert heard(path, "split") == {"right": 700}
    silent = stereo(tmp_path / "silent.wav", 0 * of(300), 0 * of(300))
    [(_, [voice])] = audio.voices(silent, "split")
    assert not voice.samples.any()


def test_more_than_two_channels_have_the_names_of_their_places(tmp_path: Path) -> None:
    tones = [of(hertz) for hertz in (300, 400, 500, 600, 700, 800)]
    around = stereo(tmp_path / "a.wav", *tones, layout="5.1")
    names = ["front left", "front right", "front center", "low frequency", "back left", "back right"]
    assert heard(around, "split") == dict(zip(names, range(300, 900, 100), strict=True))
    assert heard(around, "right") == {"right": 400}
    unnamed = tmp_path / "unnamed.wav"
    with wave.open(str(unnamed), "wb") as file:  # says nothing about places
        file.setparams((4, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((np.stack(tones[:4], axis=1) * 32767).astype("<i2").tobytes())
    assert list(heard(unnamed, "split")) == [f"channel {number}" for number in range(1, 5)]
    assert heard(unnamed, "right") == {"right": 400}


def test_all_channels_are_cut_at_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "WINDOW", 2.0)
    monkeypatch.setattr(audio, "_SEARCH", 1.0)
    path = stereo(tmp_path / "a.wav", of(300, 7.0), of(700, 7.0))
    found = list(audio.voices(path, "split"))
    assert len(found) >= 3
    ends = [start + len(voices[0].samples) / SAMPLE_RATE for start, voices in found]
    assert [start for start, _ in found[1:]] == ends[:-1]
    assert all(len(voices[0].samples) == len(voices[1].samples) for _, voices in found)


HOURS = 10


@pytest.mark.slow
def test_hours_of_silence_take_no_memory(tmp_path: Path) -> None:
    """A FLAC of some kilobytes holds ten hours: decoded as a whole they were gigabytes."""
    path = tmp_path / "silence.flac"
    command = [find_ffmpeg(), "-v", "error", "-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono"]
    subprocess.run([*command, "-t", str(HOURS * 3600), str(path)], check=True)
    script = (
        "import resource, sys; from pathlib import Path; from vod.speech.audio import windows; "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; "
        "seconds = sum(len(samples) for _, samples in windows(Path(sys.argv[1]))) / 16000; "
        "print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds == pytest.approx(HOURS * 3600, abs=1)
    assert kilobytes < 400_000
