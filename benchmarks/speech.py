"""Word errors, CPU, wall time and peak memory of our transcription beside faster-whisper's two own ways.

All of them hear the same recordings in one run, each in a process of its own. ``MEDIA`` is a folder with
recordings and INDEX.tsv (columns ``file``, ``language``, ``text``). Those in English are heard once more as
one long recording, over and over with pauses. Prints a table and writes benchmarks/speech.json.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
from rapidfuzz.distance import Levenshtein

RESULTS = Path(__file__).with_name("speech.json")
RATE = 16_000
"""Hz."""

WITHOUT_BLANKS = ("zh", "ja", "ko", "th")
"""Languages in which characters are counted, not words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("media", type=Path, help="a folder with INDEX.tsv")
    parser.add_argument("--models", default="tiny.en,base")
    parser.add_argument("--long", type=float, default=20.0, metavar="MINUTES", help="of the long recording")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(hear(options.media, options.models, options.way)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_long(options.media, Path(folder), options.long * 60)
        for model in options.models.split(","):
            for media, name in ((options.media, "all"), (Path(folder), f"{options.long:g} min")):
                for way in WAYS:
                    command = [sys.executable, "-m", "benchmarks.speech", str(media)]
                    ran = subprocess.run(
                        [*command, "--models", model, "--way", way],
                        check=True,
                        capture_output=True,
                        text=True,
                    )
                    rows.append({"recordings": name, **json.loads(ran.stdout.splitlines()[-1])})
                    print(line(rows[-1]), flush=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def make_long(media: Path, folder: Path, seconds: float) -> None:
    """Make one recording of those in English, over and over with two seconds between them."""
    from faster_whisper.audio import decode_audio

    said, heard = [], []
    with (media / "INDEX.tsv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["language"] == "en"]
    clips = [(decode_audio(str(media / row["file"])), row["text"]) for row in rows]
    for sound, text in itertools.cycle(clips):
        heard += [sound, numpy.zeros(2 * RATE, dtype=numpy.float32)]
        said.append(text)
        if sum(map(len, heard)) >= seconds * RATE:
            break
    with wave.open(str(folder / "long.wav"), "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(2)
        written.setframerate(RATE)
        written.writeframes((numpy.concatenate(heard) * 32767).astype("<i2").tobytes())
    (folder / "INDEX.tsv").write_text(f"file\tlanguage\ttext\nlong.wav\ten\t{' '.join(said)}\n")


def line(row: dict[str, Any]) -> str:
    errors = ", ".join(f"{code} {share:.1%}" for code, share in sorted(row["errors"].items()))
    return (
        f"| {row['recordings']} | {row['model']} | {row['way']} | {errors} | {row['cpu']:.0f} |"
        f" {row['wall']:.0f} | {row['memory'] / 1e6:.0f} |"
    )


def hear(media: Path, model: str, way: str) -> dict[str, Any]:
    """Hear all recordings whose language the model knows."""
    with (media / "INDEX.tsv").open(encoding="utf-8") as file:
        recordings = [
            row
            for row in csv.DictReader(file, delimiter="\t")
            if row["language"] == "en" or not model.endswith(".en")
        ]
    transcribe, close = WAYS[way](model)
    counted: dict[str, list[int]] = {}
    texts = {}
    started = time.monotonic()
    for row in recordings:
        text = texts[row["file"]] = transcribe(media / row["file"])
        wrong, of = errors(text, row["text"], row["language"])
        language = row["language"] if row["language"] in ("en", "zh") else "others"
        sums = counted.setdefault(language, [0, 0])
        sums[0] += wrong
        sums[1] += of
    wall = time.monotonic() - started
    close()
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "model": model,
        "way": way,
        "errors": {code: wrong / of for code, (wrong, of) in counted.items()},
        "cpu": sum(each.ru_utime + each.ru_stime for each in used),
        "wall": wall,
        # Linux counts in kilobytes. The caller and its recogniser run at the same time.
        "memory": sum(each.ru_maxrss for each in used) * 1024,
        "texts": texts,
    }


def errors(heard: str, said: str, language: str) -> tuple[int, int]:
    """How many words (characters without blanks) are wrong, and of how many."""
    lists = [re.findall(r"[\w']+", text.lower().replace("\u2019", "'")) for text in (heard, said)]
    if language in WITHOUT_BLANKS:
        lists = [list("".join(each)) for each in lists]
    return Levenshtein.distance(*lists), len(lists[1])


def ours(model: str) -> tuple[Callable[[Path], str], Callable[[], None]]:
    from vod.speech import SpeechOptions
    from vod.speech.engines.whisper import WhisperEngine
    from vod.speech.transcribing import transcribe

    engine, options = WhisperEngine(), SpeechOptions(model=model, device="cpu")
    return lambda audio: transcribe(audio, engine, options).text, engine.close


def sequential(model: str) -> tuple[Callable[[Path], str], Callable[[], None]]:
    whisper = _whisper(model)

    def transcribe(audio: Path) -> str:
        segments, _ = whisper.transcribe(str(audio), word_timestamps=True)
        return "".join(segment.text for segment in segments)

    return transcribe, lambda: None


def batched(model: str) -> tuple[Callable[[Path], str], Callable[[], None]]:
    from faster_whisper import BatchedInferencePipeline

    pipeline = BatchedInferencePipeline(_whisper(model))

    def transcribe(audio: Path) -> str:
        segments, _ = pipeline.transcribe(str(audio), batch_size=8, word_timestamps=True)
        return "".join(segment.text for segment in segments)

    return transcribe, lambda: None


def _whisper(model: str) -> Any:
    from faster_whisper import WhisperModel

    from vod.speech import resolve_model

    return WhisperModel(str(resolve_model(model)), device="cpu", compute_type="int8")


WAYS: dict[str, Callable[[str], tuple[Callable[[Path], str], Callable[[], None]]]] = {
    "ours": ours,
    "batched": batched,
    "sequential": sequential,
}

if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    main()
