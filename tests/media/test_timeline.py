"""Every sound is where it is in the video: time in the file + offset = time in the video, within 25 ms."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.conftest import ffmpeg
from vod.media import Limits, Output, Selection, extract_all
from vod.media.errors import FfmpegError, UnsupportedTrackError
from vod.media.formats import SPEECH
from vod.media.measure import measure
from vod.media.timeline import GAP, RESTART, Gap, Timeline
from vod.media.verify import compare_copy

SECONDS = 8
_RATE = 8000
WITHIN = 0.025

# Second n begins with a beep of 600 + 100 n Hz, so that each beep says when it belongs.
_BEEPS = "if(lt(mod(t,1),0.08),0.6*sin(2*PI*(600+100*floor(t))*mod(t,1)),0)"

AUDIO = {
    "mp4": ["-c:a", "aac"],
    "mov": ["-c:a", "aac"],
    "mkv": ["-c:a", "aac"],
    "webm": ["-c:a", "libopus"],
    "ts": ["-c:a", "aac"],
    "flv": ["-c:a", "aac"],
}
COPIES = {"webm": "OPUS"}
LATE = 1.5
GAPS = [(2.5, 4.5), (5.9, 6.6)]


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make a video with beeps, once: its sound may start late and have gaps."""
    folder = tmp_path_factory.mktemp("beeps")

    def whole(container: str, late: float) -> Path:
        path = folder / f"whole-{late}.{container}"
        if not path.exists():
            picture = ["-f", "lavfi", "-i", f"testsrc2=s=64x48:r=25:d={SECONDS}"]
            sound = ["-f", "lavfi", "-itsoffset", str(late), "-i", f"aevalsrc='{_BEEPS}':s=48000:d={SECONDS}"]
            codec = ["-c:v", "libvpx" if container == "webm" else "libx264", "-g", "25"]
            ffmpeg(*picture, *sound, *codec, "-preset", "ultrafast", *AUDIO[container], path)
        return path

    def make(container: str, late: float = 0.0, gaps: object = ()) -> Path:
        if not gaps:
            return whole(container, late)
        path = folder / f"gaps-{late}.{container}"
        if not path.exists():
            without(whole(container, late), path, [(late + start, late + end) for start, end in GAPS])
        return path

    return make


def without(source: Path, target: Path, gaps: list[tuple[float, float]]) -> None:
    """Copy a video, but for the packets of sound in the gaps."""
    with av.open(source) as read, av.open(target, "w") as written:
        streams = {stream.index: written.add_stream_from_template(stream) for stream in read.streams}
        begins = (read.start_time or 0) / av.time_base
        for packet in read.demux():
            if packet.dts is None:
                continue
            time = float(packet.pts * packet.time_base) - begins
            if packet.stream.type == "audio" and any(start <= time < end for start, end in gaps):
                continue
            packet.stream = streams[packet.stream.index]
            written.mux(packet)


def beeps(path: Path) -> dict[int, float]:
    """When the beep of each second is heard in an audio file."""
    with av.open(path) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=_RATE)
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    samples = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float32)
    loud = np.abs(samples) > 4000
    found: dict[int, float] = {}
    edges = np.flatnonzero(loud)
    begins = [edges[0], *(b for a, b in pairwise(edges) if b - a > _RATE // 4)] if len(edges) else []
    for begin in begins:
        piece = samples[begin : begin + int(0.06 * _RATE)]
        if len(piece) < 0.05 * _RATE:
            continue  # cut off by a gap
        crossings = int((np.diff(np.signbit(piece)) != 0).sum())
        hertz = crossings / 2 / (len(piece) / _RATE)
        found[round((hertz - 600) / 100)] = begin / _RATE
    return found


def _cases() -> Iterator[object]:
    for container in AUDIO:
        for late in (0.0, LATE):
            for gaps in (False, True):
                for piece in (None, (3.2, 3.5)):
                    for audio_format in ("MP3", COPIES.get(container, "AAC"), "WAV"):
                        quick = audio_format == "MP3" and (container in ("mp4", "ts") or (gaps and not piece))
                        yield pytest.param(
                            *(container, late, gaps, piece, audio_format),
                            marks=() if quick else pytest.mark.slow,
                        )


@pytest.mark.quick(8)
@pytest.mark.parametrize(("container", "late", "gaps", "piece", "audio_format"), [*_cases()])
@pytest.mark.usefixtures("engine")
def test_time_in_the_file_and_offset_are_the_time_in_the_video(
    container: str,
    late: float,
    gaps: bool,
    piece: tuple[float, float] | None,
    audio_format: str,
    videos: Callable[..., Path],
    tmp_path: Path,
) -> None:
    start, duration = piece or (0.0, None)
    main, speech = tmp_path / "out", tmp_path / "speech.wav"
    outputs = {main: Output(audio_format=audio_format), speech: SPEECH}
    extractions = extract_all(
        videos(container, late, gaps), outputs, Selection(start=start, duration=duration)
    )
    for extraction in extractions:
        heard = beeps(extraction.path)
        times = {second: time + extraction.offset for second, time in heard.items()}
        assert times == {second: pytest.approx(second + late, abs=WITHIN) for second in times}
        there = [
            second
            for second in range(SECONDS)
            if start + 0.1 < second + late < start + (duration or 99) - 0.2
            and not (gaps and any(a - 0.15 < second < b + 0.1 for a, b in GAPS))
        ]
        assert set(there) <= set(times)
        assert extraction.copied == (audio_format not in ("MP3", "WAV") and not gaps and not piece) or (
            extraction.path == speech
        )
        if gaps and not piece:
            listed = [(gap.start + extraction.offset - late, gap.duration) for gap in extraction.gaps]
            assert listed == [(pytest.approx(a, abs=0.06), pytest.approx(b - a, abs=0.06)) for a, b in GAPS]


@pytest.mark.usefixtures("wheel")
def test_a_copy_that_begins_before_its_time_is_none(tmp_path: Path) -> None:
    """ffmpeg 5 copies a second that an edit list has cut out. Ogg has no such list: it would be heard."""
    whole, early = tmp_path / "whole.opus", tmp_path / "early.opus"
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc='{_BEEPS}':s=48000:d=4", "-c:a", "libopus", whole)
    ffmpeg("-i", whole, "-c", "copy", "-avoid_negative_ts", "disabled", "-output_ts_offset", "-1", early)
    limits = Limits(60)
    compare_copy(measure(whole, limits=limits), measure(whole, limits=limits))
    written = measure(early, limits=limits)
    with pytest.raises(FfmpegError, match="leaves out"):
        compare_copy(written, replace(written, begins=0.0))


@pytest.mark.usefixtures("wheel")
def test_a_gap_ends_with_its_piece(videos: Callable[..., Path], tmp_path: Path) -> None:
    """The sound starts at 1.5 s of the video and is missing from 4 to 6; the piece ends at 5."""
    source, piece = videos("mkv", 1.5, True), Selection(start=0, duration=5)
    [extraction] = extract_all(source, {tmp_path / "out.wav": Output(audio_format="WAV")}, piece)
    [gap] = extraction.gaps
    assert gap.start == pytest.approx(2.5, abs=0.05)
    assert gap.start + gap.duration == pytest.approx(3.5, abs=0.05)
    assert gap.start + gap.duration == pytest.approx(extraction.duration, abs=0.05)


def test_gaps_can_be_closed(videos: Callable[..., Path], tmp_path: Path) -> None:
    [extraction] = extract_all(videos("mkv", 0.0, True), {tmp_path / "out": Output()}, gaps="close")
    missing = sum(end - start for start, end in GAPS)
    assert extraction.duration == pytest.approx(SECONDS - missing, abs=0.15)
    assert "2 gaps of 2.7 s in all, which were left out" in " ".join(extraction.warnings)


@pytest.mark.usefixtures("wheel")
def test_damaged_packets_are_missed_by_the_clock(videos: Callable[..., Path], tmp_path: Path) -> None:
    source = tmp_path / "damaged.mp4"
    content = bytearray(videos("mp4").read_bytes())
    with av.open(videos("mp4")) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        for packet in packets[150:180]:
            content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    source.write_bytes(content)
    [extraction] = extract_all(source, {tmp_path / "out.wav": Output(audio_format="WAV")})
    heard = beeps(extraction.path)
    assert {5, 6, 7} <= set(heard)
    assert heard == {second: pytest.approx(second, abs=WITHIN) for second in heard}
    assert sum(gap.duration for gap in extraction.gaps) == pytest.approx(30 * 1024 / 48_000, abs=0.05)
    with wave.open(str(extraction.path)) as written:
        assert written.getnframes() == pytest.approx(SECONDS * 48_000, abs=2048)


@pytest.fixture(scope="module")
def late_sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make a video whose sound starts at 3 s: after the 5 MB that ffmpeg probes, or in an AVI that says so in
    its header."""
    folder = tmp_path_factory.mktemp("late")

    def make(container: str) -> Path:
        path = folder / f"late.{container}"
        if not path.exists():
            picture = "testsrc2=s=480x360:r=25:d=6,noise=alls=100:allf=t"
            late = [] if container == "avi" else ["-itsoffset", "3"]
            # What ffmpeg finds at the end of a program stream it takes, too.
            seconds = 1 if container == "mpg" else 3
            sound = ["-f", "lavfi", *late, "-i", f"aevalsrc='{_BEEPS}':s=48000:d={seconds}"]
            codec = {"wmv": "wmav2", "avi": "pcm_s16le", "mpg": "mp2"}.get(container, "aac")
            codecs = ["-c:v", "wmv2" if container == "wmv" else "mpeg2video", "-q:v", "1", "-c:a", codec]
            ffmpeg("-f", "lavfi", "-i", picture, *sound, *codecs, path)
        if container == "avi":
            data = bytearray(path.read_bytes())
            starts = data.index(b"auds") + 28
            data[starts : starts + 4] = (3 * 48_000).to_bytes(4, "little")
            path.write_bytes(data)
        return path

    return make


@pytest.mark.quick(6)
@pytest.mark.parametrize("container", ["mkv", "ts", "wmv", "avi"])
@pytest.mark.parametrize("audio_format", ["MP3", "AAC"])
@pytest.mark.parametrize("start", [0.0, 3.5])
@pytest.mark.usefixtures("engine")
def test_sound_that_starts_later_than_headers_say(
    container: str, audio_format: str, start: float, late_sound: Callable[[str], Path], tmp_path: Path
) -> None:
    outputs = {tmp_path / "out": Output(audio_format=audio_format), tmp_path / "speech.wav": SPEECH}
    for found in extract_all(late_sound(container), outputs, Selection(start=start)):
        heard = beeps(found.path)
        # WMA's decoder gives nothing for the first packets, with a part of the first beep.
        assert [heard[n] + found.offset for n in (1, 2)] == [pytest.approx(n + 3, abs=WITHIN) for n in (1, 2)]
        assert found.offset == pytest.approx(max(start, 3.0), abs=0.05)
        assert not found.gaps
        assert not found.alternatives
        assert not [text for text in found.warnings if "gap" in text or "claims" in text]


@pytest.mark.usefixtures("wheel")
def test_sound_that_ffmpeg_does_not_find_is_not_called_absent(
    late_sound: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedTrackError, match="starts so late"):
        extract_all(late_sound("mpg"), {tmp_path / "out": Output()})


@pytest.mark.usefixtures("wheel")
def test_another_sample_rate_on_the_way_leaves_no_gaps(tmp_path: Path) -> None:
    content, shift = b"", 0
    for rate in (48_000, 22_050):
        part = tmp_path / f"{rate}.flv"
        ffmpeg("-f", "lavfi", "-i", f"sine=r={rate}:d=3", "-c:a", "aac", part)
        data = bytearray(part.read_bytes())
        at = 13
        while shift and at < len(data):
            time = int.from_bytes(data[at + 4 : at + 7], "big") + shift
            data[at + 4 : at + 7] = time.to_bytes(3, "big")
            at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
        content += data[13:] if shift else data
        shift = 3000
    source = tmp_path / "a.flv"
    source.write_bytes(content)
    [found] = extract_all(source, {tmp_path / "out": Output()})
    assert found.duration == pytest.approx(6.0, abs=0.1)
    assert not found.gaps


@pytest.mark.parametrize("container", ["ts", "mpg"])
@pytest.mark.parametrize("start", [0.0, 14.0])
@pytest.mark.usefixtures("engine")
def test_a_long_gap_while_the_picture_runs_on(container: str, start: float, tmp_path: Path) -> None:
    whole, source = tmp_path / f"whole.{container}", tmp_path / f"a.{container}"
    picture = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=17"]
    sound = ["-f", "lavfi", "-i", f"aevalsrc='{_BEEPS}':s=48000:d=17"]
    ffmpeg(*picture, *sound, "-c:v", "mpeg2video", "-c:a", "mp2", whole)
    without(whole, source, [(2.5, 13.5)])
    outputs = {tmp_path / "out": Output(), tmp_path / "speech.wav": SPEECH}
    for found in extract_all(source, outputs, Selection(start=start)):
        assert not [text for text in found.warnings if "recordings" in text]
        heard = beeps(found.path)
        assert set(heard) == ({14, 15, 16} if start else {0, 1, 2, 14, 15, 16})
        times = {second: time + found.offset for second, time in heard.items()}
        assert times == {second: pytest.approx(second, abs=WITHIN) for second in times}
        if not start:
            [gap] = found.gaps
            assert (gap.start, gap.duration) == (pytest.approx(2.5, abs=0.06), pytest.approx(11, abs=0.06))


FRAME = 1024 / 48_000


def line(times: list[float], **beliefs: float) -> Timeline:
    timeline = Timeline(**beliefs)  # type: ignore[arg-type]
    for time in times:
        timeline.add(time, FRAME)
    return timeline


def steady(count: int, start: float = 0.0, every: float = FRAME) -> list[float]:
    return [start + number * every for number in range(count)]


def test_rounding_jitter_and_drift_are_no_gaps() -> None:
    rounded = [round(time, 3) for time in steady(500)]
    jitter = [time + 0.012 * (number % 3 == 1) for number, time in enumerate(steady(500))]
    slow = steady(20_000, every=FRAME * 1.0005)
    for times in (rounded, jitter, slow):
        assert line(times).is_plain


def test_single_lost_frames_add_up() -> None:
    times = [time for number, time in enumerate(steady(1000)) if number % 100 != 99]
    timeline = line(times)
    assert timeline.gap_seconds == pytest.approx(9 * FRAME, abs=FRAME * 1.1)
    assert timeline.restarts == 0


def test_an_overlap() -> None:
    timeline = line([*steady(100), *steady(100, 100 * FRAME - 0.5)])
    assert timeline.overlap_seconds == pytest.approx(0.5)
    assert not timeline.gaps


@pytest.mark.parametrize("back", [RESTART + 0.1, 100 * FRAME])
def test_what_goes_back_further_is_another_recording(back: float) -> None:
    timeline = line([*steady(100), *steady(100, 100 * FRAME - back)])
    assert (timeline.restarts, timeline.overlap_seconds, timeline.gap_seconds) == (1, 0, 0)


@pytest.mark.parametrize("odd", [-2000.0, 5000.0])
def test_one_damaged_time_stamp_is_nothing(odd: float) -> None:
    times = steady(100)
    times[50] += odd
    assert line(times, longest=10.0).is_plain


def test_a_long_gap_is_believed_when_the_file_says_how_long_it_lasts() -> None:
    times = [*steady(100), *steady(100, 5000.0)]
    assert line(times).restarts == 1
    assert line(times, ends=4000.0).restarts == 1
    believed = line(times, ends=5010.0)
    assert believed.gaps == [Gap(start=round(100 * FRAME, 3), duration=round(5000 - 100 * FRAME, 3))]


def test_what_to_do_about_each_frame() -> None:
    timeline = Timeline()
    assert timeline.add(1.0, 0.1) == 0
    assert timeline.add(1.1 + GAP / 2, 0.1) == 0
    assert timeline.add(3.0, 0.1) == pytest.approx(1.8)
    assert timeline.add(3.0, 0.1) == pytest.approx(-0.1)
