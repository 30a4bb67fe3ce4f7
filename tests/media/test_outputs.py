"""What is written is exactly what was asked for: samples, tracks, pieces, channels, loudness."""

from __future__ import annotations

import array
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from vod.errors import InvalidInputError
from vod.media import (
    ALL,
    SPEECH,
    Ceiling,
    CorruptFramesError,
    Extraction,
    Output,
    Selection,
    Tags,
    TooLargeError,
    TrackNotFoundError,
    UnsupportedTrackError,
    extract,
    extract_all,
    probe,
)

from .conftest import SECONDS, WHEEL, decoded_seconds, ffmpeg, packets, tone

Media = Callable[[str], Path]

FRAME = {"MP3": 1152 / 44100, "AAC": 1024 / 44100, "OPUS": 0.02}


def samples(program: str, source: Path, *options: str, layout: str = "s16le") -> bytes:
    """What *program* itself decodes the first audio track to."""
    command = [program, "-v", "error", "-i", source, "-map", "0:a:0", *options, "-f", layout, "pipe:1"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def one(source: Path, target: Path, output: Output, **selected: object) -> Extraction:
    return extract_all(source, {target: output}, Selection(**selected))[0]


@pytest.mark.parametrize("audio_format", ["WAV", "FLAC"])
@pytest.mark.parametrize(
    "name",
    ["faststart.mp4", "mp3.mkv", "opus.webm", "mp2.mpg", "aac.ts", "pcm.wav", "sound.flac", "surround.mka"],
)
def test_what_loses_nothing_equals_ffmpegs_own_decoding(
    name: str, audio_format: str, engine: str, media: Media, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    one(media(name), target, Output(audio_format=audio_format))
    assert samples(engine, target) == samples(engine, media(name))


@pytest.mark.parametrize("audio_format", ["WAV", "FLAC"])
@pytest.mark.parametrize("codec", ["flac", "pcm_s24le"])
def test_24_bits_stay_24_bits(
    codec: str, audio_format: str, engine: str, media: Media, tmp_path: Path
) -> None:
    source = tmp_path / "fine.mkv"
    noise = ["-f", "lavfi", "-i", "anoisesrc=d=1:r=48000:a=0.5:seed=1"]
    ffmpeg(*noise, "-c:a", codec, "-sample_fmt", "s32", source)
    one(source, tmp_path / "out", Output(audio_format=audio_format))
    ours, theirs = (samples(engine, path, layout="s32le") for path in (tmp_path / "out", source))
    assert ours == theirs
    assert any(ours[1::4]), "the test needs more than 16 bits"


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", ["MP3", "AAC", "OPUS"])
@pytest.mark.parametrize("name", ["pcm.wav", "sound.flac"])
def test_an_encoded_file_is_within_one_frame_of_its_source(
    name: str, audio_format: str, media: Media, tmp_path: Path
) -> None:
    extraction = one(media(name), tmp_path / "out", Output(audio_format=audio_format))
    assert abs(extraction.duration - SECONDS) <= FRAME[audio_format]
    assert 0 <= decoded_seconds(extraction.path) - SECONDS <= FRAME[audio_format]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("name", "audio_format"),
    [
        ("faststart.mp4", "AAC"),
        ("fragments.mp4", "AAC"),
        ("aac.flv", "AAC"),
        ("aac.ts", "AAC"),
        ("mp3.mov", "MP3"),
        ("mp3.avi", "MP3"),
        ("pcm.wav", "WAV"),
        ("sound.flac", "FLAC"),
        ("opus.webm", "OPUS"),
    ],
)
def test_a_copy_is_equal_packet_by_packet(name: str, audio_format: str, media: Media, tmp_path: Path) -> None:
    extraction = one(media(name), tmp_path / "out", Output(audio_format=audio_format))
    assert extraction.copied
    ours, theirs = packets(extraction.path), packets(media(name))
    if audio_format == "WAV":  # packets of any size
        ours, theirs = [b"".join(ours)], [b"".join(theirs)]
    if name == "aac.ts":  # without the ADTS header of each
        theirs = [packet[7:] for packet in theirs]
    assert ours == theirs


@pytest.mark.parametrize("name", ["faststart.mp4", "opus.webm"])
def test_two_outputs_of_one_decoding_are_what_two_runs_give(
    name: str, engine: str, media: Media, tmp_path: Path
) -> None:
    both = extract_all(media(name), {tmp_path / "a.mp3": Output(), tmp_path / "a.16k.wav": SPEECH})
    assert [extraction.path.name for extraction in both] == ["a.mp3", "a.16k.wav"]
    speech = both[1]
    assert (speech.codec, speech.sample_rate, speech.channels) == ("pcm_s16le", 16_000, 1)
    assert samples(engine, speech.path) == samples(engine, media(name), "-ac", "1", "-ar", "16000")
    alone = extract(media(name), tmp_path / "b.mp3")
    assert both[0].path.read_bytes() == alone.path.read_bytes()


@pytest.mark.usefixtures("engine")
def test_a_copy_beside_something_encoded(media: Media, tmp_path: Path) -> None:
    copied, speech = extract_all(
        media("faststart.mp4"), {tmp_path / "a.m4a": Output(audio_format="AAC"), tmp_path / "a.wav": SPEECH}
    )
    assert (copied.copied, speech.copied) == (True, False)
    assert packets(copied.path) == packets(media("faststart.mp4"))


def test_nothing_appears_when_one_of_two_outputs_fails(media: Media, tmp_path: Path, engine: str) -> None:
    with pytest.raises(TooLargeError, match="larger than"):
        extract_all(
            media("pcm.wav"),
            {tmp_path / "a.mp3": Output(), tmp_path / "a.wav": Output(audio_format="WAV", reencode=True)},
            ceiling=Ceiling(file=200_000),
        )
    assert list(tmp_path.iterdir()) == []
    assert extract(media("pcm.wav"), tmp_path / "a.mp3").size < 200_000


@pytest.mark.parametrize("name", ["pcm.wav", "faststart.mp4", "aac.ts", "mp3.mkv"])
def test_a_piece_is_exact(name: str, engine: str, media: Media, tmp_path: Path) -> None:
    piece = one(media(name), tmp_path / "out", Output(audio_format="WAV"), start=2.5, duration=0.75)
    assert piece.duration == pytest.approx(0.75, abs=0.001)
    assert piece.warnings == ()
    assert piece.offset == pytest.approx(2.5, abs=0.05)
    whole, part = (array.array("h", samples(engine, path)) for path in (media(name), piece.path))
    start = round(2.5 * 44100)
    if name in {"pcm.wav", "aac.ts"}:
        assert whole[start : start + len(part)] == part
        return
    # After a jump AAC's substituted noise is another, and Matroska's clock counts milliseconds.
    slack = 50 if name == "mp3.mkv" else 0
    errors = {
        shift: sum(abs(a - b) for a, b in zip(whole[start + shift :], part, strict=False))
        for shift in range(-100, 101)
    }
    assert abs(min(errors, key=errors.__getitem__)) <= slack


@pytest.mark.usefixtures("engine")
def test_a_piece_at_the_end_and_beyond_it(media: Media, tmp_path: Path) -> None:
    last = one(media("sound.flac"), tmp_path / "a.mp3", Output(), start=3.0, duration=5.0)
    assert last.duration == pytest.approx(1.0, abs=0.03)
    for name in ("sound.flac", "sound.mp3", "faststart.mp4"):
        with pytest.raises(InvalidInputError, match="no sound from"):
            one(media(name), tmp_path / "b.mp3", Output(), start=100.0)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp3"]


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """5.1 with another tone in each of its first three channels."""
    source = tmp_path / "voices.mka"
    tones = "|".join(f"0.3*sin({hertz}*2*PI*t)" for hertz in (440, 880, 1320, 0, 0, 0))
    ffmpeg("-f", "lavfi", "-i", f"aevalsrc={tones}:c=5.1(side):d=4:s=44100", "-c:a", "flac", source)
    return source


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(("channels", "hertz"), [("left", 440), ("right", 880), ("center", 1320)])
def test_one_channel(channels: str, hertz: int, voices: Path, tmp_path: Path) -> None:
    extraction = one(voices, tmp_path / "out.flac", Output(audio_format="FLAC", channels=channels))
    assert extraction.channels == 1
    assert tone(extraction.path) == pytest.approx(hertz, abs=5)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("audio_format", "channels", "written"),
    [
        ("MP3", None, 2),
        ("AAC", None, 6),
        ("WAV", None, 6),
        ("FLAC", None, 6),
        ("OPUS", None, 6),
        ("AAC", 2, 2),
        ("OPUS", 1, 1),
    ],
)
def test_surround_is_mixed_down_only_when_asked_or_when_it_must_be(
    audio_format: str, channels: int | None, written: int, voices: Path, tmp_path: Path
) -> None:
    extraction = one(voices, tmp_path / "out", Output(audio_format=audio_format, channels=channels))
    assert extraction.channels == written
    assert extraction.track.channels == 6


def loudness(path: Path) -> float:
    command = [WHEEL, "-nostats", "-i", path, "-af", "ebur128=framelog=verbose", "-f", "null", "-"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return float(re.findall(r"I: +(\S+) LUFS", said)[-1])


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("channels", [None, 1])
def test_loudness(channels: int | None, media: Media, tmp_path: Path) -> None:
    output = Output(audio_format="FLAC", loudness=-23, channels=channels)
    extraction = one(media("opus.webm"), tmp_path / "out", output)
    assert loudness(extraction.path) == pytest.approx(-23, abs=0.3)
    assert abs(loudness(media("opus.webm")) + 23) > 1


@pytest.mark.usefixtures("engine")
def test_peaks_hold_loudness_back_and_that_is_told(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "peaks.wav"
    ffmpeg("-f", "lavfi", "-i", "aevalsrc=0.9*sin(2764*t)*lt(mod(t\\,1)\\,0.1):d=4", source)
    extraction = one(source, tmp_path / "out", Output(audio_format="WAV", loudness=-8))
    assert "peaks allow no more" in extraction.warnings[0]
    assert not extraction.copied


@pytest.fixture
def many(media: Media, tmp_path: Path) -> Path:
    """Three tracks: a commentary that is the default, music, and what is said."""
    source = tmp_path / "many.mkv"
    ffmpeg(
        *("-i", media("sound.flac"), "-f", "lavfi", "-i", "sine=f=880:d=4", "-f", "lavfi", "-i"),
        *("sine=f=1320:d=4", "-map", "0:a", "-map", "1:a", "-map", "2:a", "-c:a", "aac"),
        *("-disposition:a:0", "default+comment", "-disposition:a:1", "0", "-disposition:a:2", "original"),
        *("-metadata:s:a:1", "title=Music & effects", "-metadata:s:a:2", "language=fra", source),
    )
    return source


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(
    ("track", "index"),
    [(None, 0), ("speech", 2), (1, 1), ("1", 1), ("original", 2), ("comment", 0), ("default", 0)],
)
def test_the_track_asked_for(track: int | str | None, index: int, many: Path, tmp_path: Path) -> None:
    extraction = one(many, tmp_path / "out.wav", Output(audio_format="WAV"), track=track)
    assert extraction.track.index == index
    assert tone(extraction.path) == pytest.approx(440 * (index + 1), abs=5)
    assert [each.index for each in extraction.alternatives] == [n for n in range(3) if n != index]


@pytest.mark.usefixtures("engine")
def test_all_tracks_in_one_run(many: Path, tmp_path: Path) -> None:
    outputs = {tmp_path / "a.mp3": Output(), tmp_path / "a.16k.wav": SPEECH}
    extractions = extract_all(many, outputs, Selection(track=ALL))
    names = ["a.mp3", "a.16k.wav", "a.1.mp3", "a.16k.1.wav", "a.2.mp3", "a.16k.2.wav"]
    assert [extraction.path.name for extraction in extractions] == names
    for extraction in extractions:
        assert tone(extraction.path) == pytest.approx(440 * (extraction.track.index + 1), abs=5)


def good_and_bad(media: Media, path: Path, bad: int) -> Path:
    """Two tracks of AAC, of which one does not decode."""
    ffmpeg(
        *("-i", media("sound.m4a"), "-i", media("sound.m4a"), "-map", "0", "-map", "1", "-c", "copy"), path
    )
    content, dice = bytearray(path.read_bytes()), random.Random(1)
    with av.open(path) as container:
        for packet in container.demux(container.streams.audio[bad]):
            if packet.size:
                assert packet.pos is not None
                content[packet.pos : packet.pos + packet.size] = dice.randbytes(packet.size)
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("bad", [0, 1])
def test_a_track_that_does_not_decode_costs_only_itself(bad: int, media: Media, tmp_path: Path) -> None:
    source, target = good_and_bad(media, tmp_path / "a.mp4", bad), tmp_path / "out.mp3"
    for track in (None, "all"):
        [found] = extract_all(source, {target: Output()}, Selection(track=track))
        assert (found.track.index, found.path) == (1 - bad, target)
        if bad == 0 or track:
            assert f"Audio track {bad}" in found.warnings[0]
    with pytest.raises(UnsupportedTrackError, match="decoded"):
        extract_all(source, {target: Output()}, Selection(track=bad))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("output", "channels", "taken", "said"),
    [
        (Output(audio_format="FLAC"), ("stereo", "hexadecagonal"), 0, "Audio track 1 has 16 channels"),
        (Output(channels="center"), ("stereo", "5.1"), 1, "Audio track 0 has no channel 'center'"),
    ],
)
def test_a_track_that_cannot_become_what_is_asked_for_costs_only_itself(
    output: Output, channels: tuple[str, ...], taken: int, said: str, tmp_path: Path
) -> None:
    sounds = [
        part for layout in channels for part in ("-f", "lavfi", "-i", f"anoisesrc=d=1,aformat=cl={layout}")
    ]
    source = tmp_path / "a.mov"
    ffmpeg(*sounds, "-map", "0", "-map", "1", "-c:a", "pcm_s16le", source)
    [found] = extract_all(source, {tmp_path / "out": output}, Selection(track="all"))
    assert found.track.index == taken
    assert found.warnings[0].startswith(said)


@pytest.mark.usefixtures("engine")
def test_all_tracks_without_the_empty_one(hollow: Media, tmp_path: Path) -> None:
    extractions = extract_all(hollow("two.mkv"), {tmp_path / "a.mp3": Output()}, Selection(track=ALL))
    assert [extraction.track.index for extraction in extractions] == [1]
    assert "track 0" in extractions[0].warnings[0]


@pytest.mark.usefixtures("wheel")
@pytest.mark.parametrize(("track", "words"), [(7, "track 7"), ("dub", "'dub'")])
def test_a_track_that_is_not_there(track: int | str, words: str, many: Path, tmp_path: Path) -> None:
    with pytest.raises(TrackNotFoundError, match=words) as caught:
        one(many, tmp_path / "out.mp3", Output(), track=track)
    assert "fra (track 2, aac)" in caught.value.message


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Output(channels=3),
        lambda: Output(channels="up"),
        lambda: Output(bit_rate=1),
        lambda: Output(sample_rate=1),
        lambda: Output(loudness=3),
        lambda: Selection(track="nonsense"),
        lambda: Selection(start=-1),
        lambda: Selection(duration=0),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_done(wrong: Callable[[], object]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        wrong()
    assert caught.value.remedy


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", ["MP3", "AAC", "WAV"])
@pytest.mark.parametrize("container", ["late.mkv", "late.ts", "late.mp4"])
def test_sound_that_starts_after_the_picture(
    container: str, audio_format: str, media: Media, tmp_path: Path
) -> None:
    source = tmp_path / container
    picture = media("no-audio.mp4")
    ffmpeg("-i", picture, "-itsoffset", "1.5", "-i", media("sound.m4a"), "-c", "copy", source)
    extraction = one(source, tmp_path / "out", Output(audio_format=audio_format))
    assert extraction.offset == pytest.approx(1.5, abs=0.06)
    assert extraction.duration == pytest.approx(SECONDS, abs=0.1)
    with av.open(str(extraction.path)) as written:
        assert (written.streams.audio[0].start_time or 0) * written.streams.audio[
            0
        ].time_base == pytest.approx(0, abs=0.06)


@pytest.mark.usefixtures("engine")
def test_a_usual_video_has_no_offset(media: Media, tmp_path: Path) -> None:
    for name in ("faststart.mp4", "mp3.mkv", "opus.webm", "aac.ts", "aac.flv"):
        assert extract(media(name), tmp_path / "out.mp3").offset == 0.0


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", ["AAC", "MP3"])
def test_silence_is_told_and_no_error(audio_format: str, media: Media, tmp_path: Path) -> None:
    silent, quiet = tmp_path / "silent.m4a", tmp_path / "quiet.m4a"
    ffmpeg("-f", "lavfi", "-i", "anullsrc=d=6", "-c:a", "aac", silent)
    # Sound in a place where nobody listens first.
    ffmpeg("-i", media("pcm.wav"), "-af", "atrim=end=0.1,adelay=2300,apad=whole_dur=6", quiet)
    assert one(silent, tmp_path / "a", Output(audio_format=audio_format)).silent
    assert not one(quiet, tmp_path / "b", Output(audio_format=audio_format)).silent
    assert not one(media("pcm.wav"), tmp_path / "c", Output(audio_format=audio_format)).silent


@pytest.fixture
def damaged(media: Media, tmp_path: Path) -> tuple[Path, int]:
    """An MP4 some of whose audio frames cannot be decoded, and how many these are for its decoder."""
    source = tmp_path / "damaged.mp4"
    content = bytearray(media("faststart.mp4").read_bytes())
    frames = [packet for packet in packets(media("faststart.mp4")) if len(packet) > 40]
    for frame in frames[10:100:10]:
        start = content.find(frame) + 2
        content[start : start + 12] = bytes(range(255, 243, -1))
    source.write_bytes(content)
    lost = 0
    with av.open(str(source)) as container:
        for packet in container.demux(container.streams.audio[0]):
            try:
                packet.decode()
            except av.FFmpegError:
                lost += 1
    assert lost >= 5
    return source, lost


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("audio_format", ["MP3", "AAC"])
def test_corrupt_frames_are_counted_or_an_error(
    audio_format: str, damaged: tuple[Path, int], tmp_path: Path
) -> None:
    source, lost = damaged
    target = tmp_path / "out" / "x"
    extraction = one(source, target, Output(audio_format=audio_format))
    # A copy is not decoded; what cannot be decoded is copied as it is.
    assert extraction.corrupt_frames == (0 if extraction.copied else lost)
    target.unlink()
    with pytest.raises(CorruptFramesError, match=f"{lost} frames") as caught:
        extract_all(source, {target: Output(audio_format=audio_format)}, strict=True)
    assert caught.value.frames == lost
    assert caught.value.outcome == "corrupt"
    assert list(target.parent.iterdir()) == []


@pytest.mark.usefixtures("engine")
def test_strict_about_a_whole_file_changes_nothing(media: Media, tmp_path: Path) -> None:
    outputs = {tmp_path / "a.m4a": Output(audio_format="AAC")}
    extraction = extract_all(media("faststart.mp4"), outputs, strict=True)[0]
    assert extraction.copied
    assert extraction.warnings == ()


@pytest.mark.usefixtures("engine")
def test_tags_are_kept_only_when_asked(media: Media, tmp_path: Path) -> None:
    source = tmp_path / "a.mkv"
    ffmpeg("-i", media("sound.flac"), "-c", "copy", "-metadata", "artist=private", source)
    for keep in (False, True):
        extract_all(source, {tmp_path / "out.mp3": Output()}, tags=Tags(keep=keep, title="T", source="id1"))
        assert (b"private" in (tmp_path / "out.mp3").read_bytes()) is keep
        written = probe(tmp_path / "out.mp3")
        assert (written.title, written.comment) == ("T", "source=id1; track=0; offset=0.000")


@pytest.mark.parametrize(("bit_rate", "quick"), [(None, True), (128_000, True), (96_000, False)])
def test_low_bit_rates_of_aac_take_their_time(bit_rate: int | None, quick: bool) -> None:
    """There the quick search is audibly worse on music (docs/performance.md)."""
    options = Output(audio_format="AAC", bit_rate=bit_rate).options(None)
    assert ("aac_coder" in options) is quick
