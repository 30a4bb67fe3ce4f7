"""Captions stand where the words are in the VIDEO: sound that starts late, gaps, damaged packets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import pytest

from tests.media.conftest import ffmpeg
from tests.operators.conftest import Context, extract
from vod.locations import local_path
from vod.operators import TranscribeAudioOperator
from vod.speech import Transcription

WITHIN = 0.4
LATE = 1.5
GAP = (9.5, 19.5)

SPOKEN = {"welcome": 0.22, "every": 2.94}
"""When the first two sentences of the sample begin, by its sound."""

_CUE = re.compile(r"(\d+):(\d+):(\d+),(\d+) --> .*\n((?:.+\n)+)")


def cues(srt: str) -> list[tuple[float, str]]:
    """Start in seconds and first word of each subtitle."""
    found = _CUE.findall(srt)
    return [
        (int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(thousandths) / 1000, text.split()[0])
        for hours, minutes, seconds, thousandths, text in found
    ]


def captions(context: Context, source: Path, tmp_path: Path, **options: Any) -> list[tuple[float, str]]:
    audio = extract(
        context, [str(source)], engine="ffmpeg", destination=str(tmp_path / "audio"), force=True, **options
    )
    operator = TranscribeAudioOperator(
        task_id="transcribe",
        model="tiny.en",
        audio=audio,
        destination=str(tmp_path / "text"),
        vod_conn_id="none",
    )
    [transcript] = operator.execute(context)
    words = [
        (word.start, word.text.strip(" .,").lower())
        for segment in Transcription.from_json(text_of(transcript, "json")).segments
        for word in segment.words
    ]
    for at, said in cues(text_of(transcript, "srt")):
        assert any(word == said.strip(".,").lower() and abs(at - start) < WITHIN for start, word in words)
    return words


def text_of(transcript: dict[str, Any], kind: str) -> str:
    path = local_path(transcript["uris"][kind])
    assert path is not None
    return path.read_text()


def twice(video: Path, target: Path, *, late: float = 0.0) -> Path:
    """A video in which the speech of a sample is heard twice, the second time at the end of the gap."""
    speech, silence = f"{target}.wav", GAP[1]
    ffmpeg("-i", video, "-map", "0:a:0", "-ar", "48000", "-ac", "1", speech)
    graph = f"[1:a]asplit[a][b];[a]apad,atrim=0:{silence}[first];[first][b]concat=n=2:v=0:a=1[sound]"
    picture = ["-f", "lavfi", "-i", f"testsrc2=s=64x48:r=5:d={silence + 9 + late}"]
    maps = ["-filter_complex", graph, "-map", "0:v", "-map", "[sound]", "-c:v", "libx264", "-c:a", "aac"]
    whole = target.with_name(f"whole-{target.name}")
    ffmpeg(*picture, "-itsoffset", str(late), "-i", speech, *maps, "-preset", "ultrafast", whole)
    return whole


def with_gap(source: Path, target: Path, late: float) -> Path:
    """Without the packets of sound in which nobody speaks."""
    with av.open(source) as read, av.open(target, "w") as written:
        streams = {stream.index: written.add_stream_from_template(stream) for stream in read.streams}
        begins = (read.start_time or 0) / av.time_base
        for packet in read.demux():
            if packet.dts is None or packet.pts is None:
                continue
            time = float(packet.pts * packet.time_base) - begins - late
            if packet.stream.type == "audio" and GAP[0] <= time < GAP[1] - 0.1:
                continue
            packet.stream = streams[packet.stream.index]
            written.mux(packet)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("late", [0.0, LATE])
@pytest.mark.parametrize("container", ["mp4", "mov", "mkv", "ts"])
def test_every_caption_is_where_it_is_in_the_video(
    container: str, late: float, gap: bool, context: Context, video: Path, tmp_path: Path
) -> None:
    whole = twice(video, tmp_path / f"a.{container}", late=late)
    source = with_gap(whole, tmp_path / f"gap.{container}", late) if gap else whole
    found = captions(context, source, tmp_path, options={"speech": True})
    for again in (0.0, GAP[1]):
        for word, start in SPOKEN.items():
            starts = [at for at, said in found if said == word and abs(at - start - again - late) < 3]
            assert starts, (word, found)
            assert starts[0] == pytest.approx(start + again + late, abs=WITHIN)


@pytest.mark.slow
def test_a_piece_of_a_video(context: Context, video: Path, tmp_path: Path) -> None:
    whole = twice(video, tmp_path / "a.mkv")
    found = {word: start for start, word in captions(context, whole, tmp_path, options={"start": 18.0})}
    for word, start in SPOKEN.items():
        assert found[word] == pytest.approx(start + GAP[1], abs=WITHIN)
