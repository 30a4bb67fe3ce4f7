"""Audio by unlike wishes lies side by side: no run replaces what another run's record speaks of."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import client_of, settle
from tests.engines.test_ffmpeg import run
from vod import media
from vod.batch.ledger import Ledger, LedgerPages
from vod.engines.vod import VodEngine
from vod.hooks import VodHook
from vod.locations import file_stem, local_path
from vod.records import ExtractedAudio, SubmittedExtraction
from vod.standin import Standin
from vod.storage.destination import Destination


@pytest.fixture
def two_tracks(tmp_path: Path) -> Path:
    """Six seconds: an English tone of 440 Hz, left only, and a German one of 880 Hz."""
    source = tmp_path / "two.mkv"
    tones = [f"aevalsrc={left}|{right}:d=6" for left, right in (("sin(2763*t)", "0"), ("sin(5527*t)",) * 2)]
    command = [str(media.find_ffmpeg()), "-v", "error"]
    command += [part for tone in tones for part in ("-f", "lavfi", "-i", tone)]
    command += ["-map", "0", "-map", "1", "-c:a", "aac"]
    command += ["-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=ger", str(source)]
    subprocess.run(command, check=True)
    return source


def content(record: ExtractedAudio) -> bytes:
    path = local_path(record.uri)
    assert path
    return path.read_bytes()


def test_each_wish_has_a_file_of_its_own_and_finds_it_again(two_tracks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    wishes: list[dict[str, Any]] = [
        {},
        {"language": "en"},
        {"language": "de"},
        {"track": 1},
        {"channels": "left"},
        {"channels": "right"},
        {"channels": 1},
        {"start": 1.0},
        {"duration": 2.0},
        {"start": 1.0, "duration": 2.0},
        {"bit_rate": 64_000},
        {"loudness": -30.0},
        {"strict": True},
        {"audio_format": "OPUS"},
        {"audio_format": "OPUS", "language": "de"},
    ]
    records = [run(str(two_tracks), out, **wish) for wish in wishes]
    contents = [content(record) for record in records]
    assert len({record.uri for record in records}) == len(list(out.iterdir())) == len(wishes)
    assert records[0].uri.endswith(f"/{file_stem(str(two_tracks))}.mp3"), "the plain name is the defaults'"
    assert [content(record) for record in records] == contents
    assert [len(audio) for audio in contents] == [record.size for record in records]
    again = [run(str(two_tracks), out, **wish) for wish in wishes]
    assert all(record.reused for record in again)
    assert [record.uri for record in again] == [record.uri for record in records]
    assert [record.track for record in records[1:4]] == [0, 1, 1]


def test_another_spelling_finds_the_same_file(two_tracks: Path, tmp_path: Path) -> None:
    first = run(str(two_tracks), tmp_path, language="ger", start=1)
    again = run(str(two_tracks), tmp_path, start=1.0, language="German", processes=2, timeout=60.0)
    assert again.reused
    assert again.uri == first.uri


def test_with_and_without_a_copy_for_recognition_the_audio_is_one(two_tracks: Path, tmp_path: Path) -> None:
    wishes: list[dict[str, Any]] = [{"speech": True}, {}, {"speech": True}, {}]
    records = [run(str(two_tracks), tmp_path / "out", **wish) for wish in wishes]
    assert [record.reused for record in records] == [False, True, True, True]
    assert len({record.uri for record in records}) == 1


def test_what_lies_beside_the_audio_is_called_as_it_is(two_tracks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    mixed = run(str(two_tracks), out, speech=True, language="en")
    left = run(str(two_tracks), out, speech=True, language="en", channels="left")
    both = run(str(two_tracks), out, speech=True, track="all")
    stem = file_stem(str(two_tracks))
    names = {path.name for path in out.iterdir()}
    assert len(names) == 8
    for record in (mixed, left, both):
        name = record.uri.rpartition("/")[2].removesuffix(".mp3")
        assert re.fullmatch(rf"{stem}\.(en-)?[0-9a-f]{{8}}", name)
        assert {f"{name}.mp3", f"{name}.16k.wav"} <= names
        assert (record.speech_uri or "").endswith(f"/{name}.16k.wav")
    of_both = both.uri.rpartition("/")[2].removesuffix(".mp3")
    assert {f"{of_both}.1.mp3", f"{of_both}.16k.1.wav"} <= names
    assert both.others[0]["uri"].endswith(f"/{of_both}.1.mp3")


def test_a_copy_from_vod_and_the_audio_of_ffmpeg_lie_side_by_side(
    standin: Standin, connection: str, video: Path, tmp_path: Path
) -> None:
    asset, out, hook = client_of(standin).upload(video), tmp_path / "out", VodHook(connection)
    ledger = Ledger(LedgerPages(None), {})
    by_vod = VodEngine(hook, ledger, "MP3", destination=Destination(str(out)))
    submitted = by_vod.start([asset])[asset]
    assert isinstance(submitted, SubmittedExtraction)
    settle(hook.client, submitted.audio_asset_id)
    copy = by_vod.start([asset])[asset]
    assert isinstance(copy, ExtractedAudio)
    before = content(copy)
    local = run(asset, out, hook=hook)
    assert {path.name for path in out.iterdir()} == {f"{asset}.mp3", f"{asset}.ffmpeg.mp3"}
    assert copy.uri.endswith(f"/{asset}.mp3")
    assert local.uri.endswith(f"/{asset}.ffmpeg.mp3")
    assert content(copy) == before
    assert run(asset, out, hook=hook).reused
