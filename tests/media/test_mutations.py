"""Damaged files: every one ends in a typed outcome, in time, and leaves nothing but what it says it wrote."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vod.errors import VodError
from vod.media import extract, probe

Media = Callable[[str], Path]

BASES = [
    *("faststart.mp4", "index-last.mp4", "fragments.mp4", "mp3.mov", "two.mkv", "opus.webm", "mp3.avi"),
    *("aac.flv", "aac.ts", "mp2.mpg", "wma.wmv", "pcm.wav", "sound.flac", "sound.mp3", "sound.m4a"),
]
EACH = 34
TIME_LIMIT = 20.0

OUTCOMES = {
    *("unreadable", "no_audio_track", "empty_track", "unsupported", "truncated", "timeout"),
    *("too_large", "ffmpeg_failed"),
}


def mutated(content: bytes, dice: random.Random) -> bytes:
    """*content* with bits turned, pieces lost, doubled or overwritten, or its end missing."""
    data = bytearray(content)
    match dice.randrange(5):
        case 0:
            for _ in range(dice.choice([1, 10, 100, 1000])):
                data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        case 1:  # where structure is
            for _ in range(dice.choice([1, 5, 20])):
                data[dice.randrange(min(len(data), 600))] = dice.choice([0, 1, 0x7F, 0x80, 0xFF])
        case 2:
            del data[dice.randrange(len(data)) :]
        case 3:
            start = dice.randrange(len(data))
            del data[start : start + dice.choice([1, 188, 5000])]
        case 4:
            start, length = dice.randrange(len(data)), dice.choice([4, 64, 4096])
            data[start : start + length] = dice.randbytes(length)
    return bytes(data)


def try_one(base: str, number: int, media: Media, folder: Path) -> str:
    source, target = folder / base, folder / "out" / "x.mp3"
    source.write_bytes(mutated(media(base).read_bytes(), random.Random(f"{base} {number}")))
    began = time.monotonic()
    try:
        extraction = extract(source, target, timeout=TIME_LIMIT)
    except VodError as error:
        assert error.outcome in OUTCOMES, error  # noqa: PT017
        assert not target.parent.exists() or list(target.parent.iterdir()) == []
        outcome = error.outcome
    else:
        assert list(target.parent.iterdir()) == [target]
        assert probe(target).audio[0].codec == "mp3"
        assert extraction.duration > 0
        target.unlink()
        outcome = "extracted"
    assert time.monotonic() - began < TIME_LIMIT + 5
    return outcome


@pytest.mark.slow
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("base", BASES)
def test_500_damaged_files(base: str, media: Media, tmp_path: Path) -> None:
    outcomes = [try_one(base, number, media, tmp_path) for number in range(EACH)]
    assert len(outcomes) * len(BASES) >= 500
    assert "extracted" in outcomes, "damage as heavy as that shows nothing"
    if base.endswith((".mp4", ".wav")):
        assert set(outcomes) != {"extracted"}, "damage as light as that shows nothing"


@pytest.mark.usefixtures("wheel")
def test_some_damaged_files(media: Media, tmp_path: Path) -> None:
    for base in BASES:
        try_one(base, 0, media, tmp_path)
