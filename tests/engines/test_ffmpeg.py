"""The ffmpeg engine: formats, options, sources, reuse, failures and progress of each asset."""

from __future__ import annotations

import logging
import os
import random
import shutil
import threading
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec
import pytest

from tests.conftest import attach_memory, client_of
from tests.media.conftest import ffmpeg
from tests.media.test_download import serving
from vod import media
from vod.batch.ledger import Ledger, LedgerPages
from vod.engines.ffmpeg import FfmpegEngine
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.errors import InvalidInputError
from vod.hooks import VodHook
from vod.locations import ANYWHERE, file_stem, local_path
from vod.media import sparse, tracks, writing
from vod.records import AssetFailure, ExtractedAudio, Record
from vod.standin import Standin
from vod.storage.destination import Destination


def new_ledger() -> Ledger:
    return Ledger(LedgerPages(None), {})


@pytest.fixture(autouse=True)
def _memory_storage() -> None:
    attach_memory()


@pytest.fixture
def source(video: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "in" / "talk #1.mp4"
    copy.parent.mkdir()
    shutil.copy(video, copy)
    return copy


def engine(folder: Path | str, audio_format: str = "MP3", **arguments: Any) -> FfmpegEngine:
    names = FfmpegOptions.__dataclass_fields__
    options = {name: arguments.pop(name) for name in [*arguments] if name in names}
    arguments.setdefault("allowed", ANYWHERE)
    hook, ledger = arguments.pop("hook", None), arguments.pop("ledger", None) or new_ledger()
    destination = Destination(str(folder))
    return FfmpegEngine(
        hook, ledger, audio_format, destination, options=FfmpegOptions(**options), **arguments
    )


def extracted(record: Record) -> ExtractedAudio:
    assert isinstance(record, ExtractedAudio), record
    return record


def run(where: str, folder: Path | str, audio_format: str = "MP3", **options: Any) -> ExtractedAudio:
    return extracted(engine(folder, audio_format, **options).start([where])[where])


@pytest.mark.parametrize("audio_format", media.EXTENSIONS)
def test_every_format_with_a_wav_for_speech_beside_it(
    audio_format: str, source: Path, tmp_path: Path
) -> None:
    record = run(str(source), tmp_path / "out", audio_format, speech=True)
    assert record.uri.endswith(media.EXTENSIONS[audio_format])
    assert record.speech_uri is not None
    assert record.speech_uri.endswith(".16k.wav")
    assert record.title == "talk #1"
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("to", ["folder", "memory"])
def test_what_is_at_the_destination_is_reused(to: str, source: Path, tmp_path: Path) -> None:
    folder = f"memory://bucket-{uuid.uuid4().hex}/audio" if to == "memory" else tmp_path / "out"
    first = run(str(source), folder, speech=True)
    again = run(str(source), folder, speech=True)
    assert not first.reused
    assert again.reused
    for name in ("asset", "uri", "speech_uri", "codec", "duration", "size", "sample_rate", "channels"):
        assert getattr(again, name) == getattr(first, name)
    assert (again.track, again.language, again.offset, again.title) == (
        first.track,
        first.language,
        first.offset,
        first.title,
    )


def test_what_differs_is_not_reused(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(str(source), out)
    assert not run(str(source), out, force=True).reused
    assert run(str(source), out).reused
    assert not run(str(source), out, bit_rate=64_000).reused
    assert run(str(source), out).reused, "the other bit rate has a file of its own"
    os.utime(source, ns=(1, 1))
    assert not run(str(source), out).reused, "another file of the same name"
    target = out / f"{file_stem(str(source))}.mp3"
    target.write_bytes(target.read_bytes()[:-3000])
    assert not run(str(source), out).reused, "it is cut"
    target.write_bytes(b"something else")
    assert not run(str(source), out).reused


def test_what_the_ledger_has_is_done_also_when_forced(source: Path, tmp_path: Path) -> None:
    ledger = new_ledger()
    for force in (False, True):
        local = FfmpegEngine(None, ledger, "MP3", Destination(str(tmp_path / "out")), force=force)
        first = local.start([str(source)])
        assert local.start([str(source)]) == first
    speaking = FfmpegEngine(
        None, ledger, "MP3", Destination(str(tmp_path / "out")), options=FfmpegOptions(speech=True)
    )
    ledger.forget(str(source))
    speaking.start([str(source)])
    speech = next((tmp_path / "out").glob("*.wav"))
    speech.unlink()
    speaking.start([str(source)])
    assert speech.exists(), "the ledger spoke of two files"
    speech.unlink()
    ledger.forget(str(source))
    local.start([str(source)])
    next((tmp_path / "out").iterdir()).write_bytes(b"somebody else's")
    again = local.start([str(source)])[str(source)]
    assert not extracted(again).reused, "what is not there any more is done again"
    assert media.probe(next((tmp_path / "out").iterdir())).audio


def test_all_files_that_the_ledger_speaks_of_must_be_there(video: Path, tmp_path: Path) -> None:
    local = FfmpegEngine(
        None,
        new_ledger(),
        "MP3",
        Destination(str(tmp_path / "out")),
        options=FfmpegOptions(track="all"),
        force=True,
    )
    train = str(video.parent / "train.mkv")
    first = extracted(local.start([train])[train])
    assert local.start([train])[train] == first
    other = Path(unquote(urlsplit(first.others[0]["uri"]).path))
    other.unlink()
    local.start([train])
    assert other.exists()


def test_options_by_name_as_templates_give_them() -> None:
    asked = {
        "track": "1",
        "start": "1.5",
        "speech": "True",
        "channels": "left",
        "strict": "",
    }
    wanted = FfmpegOptions(track=1, start=1.5, speech=True, channels="left")
    assert FfmpegOptions.from_mapping(asked) == wanted
    assert FfmpegOptions.from_mapping(
        {"language": None, "duration": "None", "channels": 2, "track": "speech"}
    ) == FfmpegOptions(channels=2, track="speech")
    for wrong in ({"tracks": 1}, {"start": "soon"}, {"speech": "maybe"}):
        with pytest.raises(InvalidInputError, match=f"{next(iter(wrong))!r}"):
            FfmpegOptions.from_mapping(wrong)


def test_a_web_url(source: Path, tmp_path: Path) -> None:
    with serving() as server:
        server.content, server.breaks_after = source.read_bytes(), 60_000
        record = run(server.url, tmp_path / "out")
        asked = len(server.requests)
        assert run(server.url, tmp_path / "out").reused
        assert len(server.requests) == asked + 1, "a HEAD is enough"
        server.tag = '"2"'
        assert not run(server.url, tmp_path / "out").reused
        small = engine(tmp_path / "out", max_bytes=1000, force=True).start([server.url])[server.url]
    assert small.outcome == "too_large"
    assert record.title == "a"
    assert record.duration == run(str(source), tmp_path / "out").duration
    shown = repr([record, small])
    assert "secret" not in shown
    assert "/folder/a.mp4?" in record.asset


def test_an_original_of_vod(standin: Standin, connection: str, video: Path, tmp_path: Path) -> None:
    asset = client_of(standin).upload(video, title="Its title")
    hook = VodHook(connection)
    record = run(asset, tmp_path / "out", hook=hook)
    assert record.title == "Its title"
    written = media.probe(tmp_path / "out" / f"{asset}.ffmpeg.mp3")
    assert written.title == "Its title"
    assert (written.comment or "").startswith(
        f"source={asset}; track=0; language=eng; offset=0.000; fingerprint="
    )
    assert run(asset, tmp_path / "out", hook=hook).reused
    failure = engine(tmp_path / "o", max_bytes=1000, hook=hook).start([asset])[asset]
    assert failure.outcome == "too_large"


def test_vod_knows_when_a_transport_stream_was_cut(
    standin: Standin, connection: str, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = client_of(standin).upload(video)
    hook = VodHook(connection)
    details = hook.client.asset_details(asset)
    assert details.metadata.duration is not None
    stream = tmp_path / "cut.ts"
    command = [media.find_ffmpeg(), "-v", "error", "-t", "4", "-i", str(video), "-c", "copy", str(stream)]
    assert os.spawnvp(os.P_WAIT, command[0], command) == 0
    monkeypatch.setattr(hook.client, "download", lambda _, sink: sink.write(stream.read_bytes()))
    failure = engine(tmp_path / "out", hook=hook).start([asset])[asset]
    assert failure.outcome == "truncated"


def test_one_failure_does_not_touch_the_others(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    strange, bad = tmp_path / "strange.mp4", tmp_path / "bad.mp4"
    shutil.copy(source, strange)
    bad.write_bytes(b"no video")
    real = media.extract_all

    def extract_all(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == strange:
            raise RuntimeError("a bug, with a secret in it")
        return real(path, *arguments, **options)

    monkeypatch.setattr(media, "extract_all", extract_all)
    assets = [str(tmp_path / "missing.mp4"), str(strange), str(bad), str(source)]
    told: list[Record] = []
    outcomes = engine(tmp_path / "out", on_record=told.append).start(assets)
    assert [outcomes[asset].outcome for asset in assets] == ["unreadable", "error", "unreadable", "extracted"]
    assert sorted(record.asset for record in told) == sorted(assets)
    assert "secret" not in repr(outcomes)
    assert "Extracted 1 of 4 assets" in caplog.text
    assert "3 failed" in caplog.text
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".mp3"]


def test_the_smallest_first(source: Path, tmp_path: Path) -> None:
    sizes = {}
    for size in (900_000, 300_000, 600_000):
        path = tmp_path / f"{size}.mp4"
        path.write_bytes(source.read_bytes().ljust(size, b"\0"))
        sizes[str(path)] = size
    told: list[Record] = []
    engine(tmp_path / "out", on_record=told.append, processes=1).start(sizes)
    assert [sizes[record.asset] for record in told] == [300_000, 600_000, 900_000]


def test_all_tracks_are_in_one_record(tmp_path: Path) -> None:
    samples = Path(__file__).parents[2] / "samples"
    train = next(path for path in samples.iterdir() if len(media.probe(path).audio) > 1)
    tracks = media.probe(train).audio
    record = run(str(train), tmp_path / "out", track="all")
    assert record.alternatives == [str(track) for track in tracks if track.index != record.track]
    assert {record.track, *(other["track"] for other in record.others)} == {t.index for t in tracks}
    for other in record.others:
        assert Path(other["uri"].removeprefix("file://")).stat().st_size == other["size"]


def test_no_ffmpeg_costs_nothing_else(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOD_FFMPEG", str(tmp_path / "none"))
    outcome = engine(tmp_path / "out").start([str(source)])[str(source)]
    assert outcome.outcome == "ffmpeg_missing"
    assert not (tmp_path / "out").exists()


def test_the_ffmpeg_of_the_connection(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOD_FFMPEG", raising=False)
    note, program = tmp_path / "note", tmp_path / "my ffmpeg"
    program.write_text(f'#!/bin/sh\necho >> "{note}"\nexec "{media.find_ffmpeg()}" "$@"\n')
    program.chmod(0o755)
    local = engine(tmp_path / "out", ffmpeg=str(program))
    assert local.start([str(source)])[str(source)].outcome == "extracted"
    assert note.exists()
    local = engine(tmp_path / "out", ffmpeg=str(tmp_path / "none"), force=True)
    failure = local.start([str(source)])[str(source)]
    assert failure.outcome == "ffmpeg_missing"
    assert "connection" in str(failure)


def test_cancelled_before_it_began(source: Path, tmp_path: Path) -> None:
    local = engine(tmp_path / "out")
    local.cancel()
    outcome = local.start([str(source)])[str(source)]
    assert isinstance(outcome, AssetFailure)
    assert (outcome.outcome, outcome.retryable) == ("cancelled", True)


def test_what_a_killed_run_left_is_swept(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    out = tmp_path / "out"
    out.mkdir()
    (out / ".vod-0123.part").write_bytes(b"half")
    os.utime(out / ".vod-0123.part", (0, 0))
    run(str(source), out)
    assert [path.suffix for path in out.iterdir()] == [".mp3"]
    assert "left unfinished" in caplog.text


def test_progress_reaches_the_caller_and_ends_at_all_of_it(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, float]] = []
    lock = threading.Lock()

    def on_progress(asset: str, progress: media.Progress) -> None:
        with lock:
            seen.append((asset, progress.fraction))

    run(str(source), tmp_path / "out", "FLAC", on_progress=on_progress)
    assert seen[-1] == (str(source), 1.0)


def test_progress_is_logged_with_percent_speed_and_time_left(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not by a real extraction: ffmpeg may be done before it has said anything."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("vod.engines.ffmpeg_asset._PROGRESS_EVERY", 0.0)
    report = engine(tmp_path / "out")._extraction._progress_of(str(source))
    report(media.Progress(0.25, speed=40.0, left=90.0))
    report(media.Progress(1.0, speed=40.0, left=0.0))
    assert caplog.messages == [f"{source}: 25 %, 40x, 90 s left"]


@pytest.fixture(scope="session")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound and picture alternate every half a second, as in a phone's recording; more than 8 MB."""
    path = tmp_path_factory.mktemp("long") / "a.mp4"
    noise = path.with_name("noise.yuv")
    noise.write_bytes(random.Random(1).randbytes(192 * 144 * 3 // 2 * 50))
    picture = ["-stream_loop", "5", "-f", "rawvideo", "-s", "192x144", "-r", "25", "-i", noise]
    sound = ["-f", "lavfi", "-i", "aevalsrc=0.5*sin(2*PI*(300+100*t)*t):s=48000:d=12"]
    ffmpeg(*picture, *sound, "-c:v", "mjpeg", "-q:v", "1", "-c:a", "aac", "-chunk_duration", "500000", path)
    assert path.stat().st_size > 8 << 20
    return path


@pytest.mark.parametrize("where", ["VOD", "object storage"])
def test_of_a_long_video_only_the_sound_is_fetched(
    where: str,
    long_video: Path,
    standin: Standin,
    connection: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if where == "VOD":
        source, hook = client_of(standin).upload(long_video), VodHook()
    else:
        source, hook = "memory://bucket/a.mp4", None
        fsspec.filesystem("memory").pipe_file("/bucket/a.mp4", long_video.read_bytes())
    folder, size = tmp_path / "audio", long_video.stat().st_size
    whole = run(str(long_video), tmp_path / "local", "WAV")
    expected = (local_path(whole.uri) or Path()).read_bytes()[-48_000:]

    record = run(source, folder, "WAV", hook=hook)
    assert record.source_size == size
    assert record.fetched
    assert record.fetched < size / 4
    assert (local_path(record.uri) or Path()).read_bytes()[-48_000:] == expected

    # An index that lies about where the sound is must not pass holes for sound.
    right = tracks.places_of_sound
    monkeypatch.setattr(tracks, "places_of_sound", lambda *args, **given: right(*args, **given)[:-4])
    again = run(source, folder, "WAV", hook=hook, force=True)
    assert again.fetched == size
    assert (local_path(again.uri) or Path()).read_bytes()[-48_000:] == expected


def test_a_video_with_its_index_at_the_end_is_extracted_while_all_of_it_is_fetched(
    long_video: Path, standin: Standin, connection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(str(long_video), tmp_path / "local", "MP3")
    monkeypatch.setattr(sparse, "_WORTH", 0.0)  # as if the sound alone took longer
    monkeypatch.setattr(writing, "run", lambda *_, **__: pytest.fail("ffmpeg was only run afterwards"))
    record = run(client_of(standin).upload(long_video), tmp_path / "audio", "MP3", hook=VodHook())
    assert record.fetched == record.source_size == long_video.stat().st_size
    assert record.duration == whole.duration
    assert record.size == pytest.approx(whole.size, abs=200), "but for the tags"


def test_while_only_the_sound_is_fetched_it_is_extracted(
    long_video: Path, standin: Standin, connection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(str(long_video), tmp_path / "local", "MP3")
    monkeypatch.setattr(writing, "run", lambda *_, **__: pytest.fail("ffmpeg was only run afterwards"))
    record = run(client_of(standin).upload(long_video), tmp_path / "audio", "MP3", hook=VodHook())
    assert record.fetched
    assert record.fetched < long_video.stat().st_size / 4
    assert record.duration == whole.duration
    assert record.size == pytest.approx(whole.size, abs=200), "but for the tags"


def test_a_video_that_changes_while_its_sound_is_fetched_is_extracted_as_it_is_then(
    long_video: Path, standin: Standin, connection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(_: object) -> None:
        raise sparse.RangesError("The file has changed.")

    whole = run(str(long_video), tmp_path / "local", "WAV")
    monkeypatch.setattr("vod.media.download.HttpRanges.check", changed)  # when all pieces are there
    record = run(client_of(standin).upload(long_video), tmp_path / "audio", "WAV", hook=VodHook())
    assert record.fetched == long_video.stat().st_size
    for one, other in ((record.duration, whole.duration), (record.size, whole.size)):
        assert one == pytest.approx(other, abs=200)
    sounds = [(local_path(each.uri) or Path()).read_bytes()[-48_000:] for each in (record, whole)]
    assert sounds[0] == sounds[1]
