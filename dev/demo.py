"""`make demo`: the main job from end to end, on this machine, without an account."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev import stack
from dev.processes import Processes
from vod import media
from vod.errors import VodError
from vod.locations import local_path

BUILD = Path(os.environ.get("VOD_BUILD", stack.ROOT / "build")).resolve() / "demo"
DAG = "extract_and_transcribe"
PROGRESS = re.compile(
    r"(Submitted|Extracted|Transcribed) \d+ of[^[]*|(All \d+|\d+ of \d+) audio assets are ready[^[]*"
)


@dataclass
class Row:
    """One video with one engine; a video that an engine does not take has a ``note`` instead of a result."""

    video: Path
    engine: str
    asset: str = ""
    note: str = ""
    audio: dict[str, Any] | None = None
    transcript: dict[str, Any] | None = None
    failure: str = ""


def main() -> int:
    started = time.monotonic()
    chosen = videos_of(os.environ.get("VIDEO", ""))
    if chosen and not any(video.exists() for video in chosen):
        say(f"VIDEO: there is no file {', '.join(map(str, chosen))}. Check its name and folder.")
        return 2
    if os.environ.get("VIDEOS"):
        say("VIDEOS is a folder for `make up`; `make demo` takes files, as VIDEO.")
    videos = chosen or stack.sample_videos()
    try:
        ffmpeg = media.find_ffmpeg()
    except VodError as error:
        say(str(error))
        return 1
    say(f"ffmpeg: {ffmpeg}")
    with Processes() as processes, tempfile.TemporaryDirectory(prefix="vod-demo-") as library:
        endpoint = stack.start_standin(processes, Path(library), BUILD / "standin.log")
        say(f"stand-in for Huawei Cloud VOD: {endpoint}")
        rows = prepare(endpoint, videos)
        run(processes, endpoint, rows)
    print(table(rows))
    report = BUILD / "report.json"
    report.write_text(
        json.dumps([entry(row) for row in rows if not row.note], indent=2, ensure_ascii=False) + "\n"
    )
    tried = [row for row in rows if not row.note]
    failed = sum(not row.transcript for row in tried)
    where, files = shown(report), shown(BUILD / "audio")
    say(f"{len(tried) - failed} of {len(tried)} done in {time.monotonic() - started:.0f} s.")
    say(f"Report: {where}. Audio and transcripts: {files}.")
    return 1 if failed else 0


def videos_of(text: str) -> list[Path]:
    """The files that VIDEO names, by blanks. A name with blanks may be written plainly, or in quotes."""
    words, files = text.split(" "), []
    while words:
        for end in range(len(words), 0, -1):
            if (name := " ".join(words[:end]).strip()) and Path(name).exists():
                files.append(name)
                del words[:end]
                break
        else:
            if words[0].strip():
                break
            del words[0]
    if words:
        try:
            files = shlex.split(text)
        except ValueError:
            files += words
    return [Path(os.path.abspath(file)) for file in dict.fromkeys(files)]  # noqa: PTH100 - links stay links


def prepare(endpoint: str, videos: list[Path]) -> list[Row]:
    """Upload the videos for the vod engine; the ffmpeg engine reads the files."""
    rows = [Row(video, "vod") for video in videos]
    readable = [row for row in rows if row.video.is_file()]
    uploaded = stack.upload(endpoint, [row.video for row in readable], say)
    for row in rows:
        asset = uploaded.get(row.video)
        if isinstance(asset, str):
            row.asset = asset
        elif asset is None:
            row.failure = "There is no such file. Check the name."
        else:
            row.note = f"not tried: {asset.message}"
    return rows + [Row(video, "ffmpeg", asset=str(video)) for video in videos]


def run(processes: Processes, endpoint: str, rows: list[Row]) -> None:
    """Run the DAG in Airflow, once an engine, and put what its tasks returned into the rows."""
    environment = stack.airflow_environment(
        BUILD / "airflow",
        endpoint=endpoint,
        destination=BUILD / "audio",
        allowed={row.video.resolve().parent for row in rows},
    )
    log = BUILD / "airflow.log"
    log.unlink(missing_ok=True)
    stack.migrate(environment, log)
    engines = [
        engine for engine in ("vod", "ffmpeg") if any(row.engine == engine and row.asset for row in rows)
    ]
    configurations = [
        {"assets": [row.asset for row in rows if row.engine == engine and row.asset], "engine": engine}
        for engine in engines
    ]
    results, wanted = BUILD / "results.json", BUILD / "runs.json"
    results.unlink(missing_ok=True)
    wanted.write_text(json.dumps(configurations))
    say(f"Airflow runs the DAG {DAG} with engine {' and '.join(engines)} …")
    child = processes.start(
        "airflow",
        stack.python("-m", "dev.run_dag", DAG, str(wanted), str(results)),
        environment=environment,
        log=log,
        on_line=tell_progress,
    )
    child.wait()
    if not results.exists():
        raise SystemExit(f"Airflow did not finish; see {shown(log)}.")
    for engine, finished in zip(engines, json.loads(results.read_text()), strict=True):
        returned = finished["returned"]
        for row in rows:
            if row.engine == engine and row.asset:
                collect(row, returned.get("batch.extract") or [], returned.get("batch.transcribe") or [])


def collect(row: Row, extracted: list[dict[str, Any]], transcribed: list[dict[str, Any]]) -> None:
    audio = next((record for record in extracted if record["asset"] == row.asset), {})
    transcript = next((record for record in transcribed if record["asset"] == row.asset), {})
    row.audio = audio if audio.get("outcome") == "extracted" else None
    row.transcript = transcript if transcript.get("outcome") == "transcribed" else None
    if not row.transcript:
        reason = transcript or audio
        row.failure = (
            f"{reason.get('message', 'The run failed; see airflow.log.')} {reason.get('remedy', '')}".strip()
        )


def tell_progress(line: str) -> None:
    """Show those lines of Airflow's log that say how far a batch is."""
    found = PROGRESS.search(line)
    if found:
        say(found[0].strip())


def entry(row: Row) -> dict[str, Any]:
    """One object of report.json."""
    audio, transcript = row.audio or {}, row.transcript or {}
    return {
        "asset": row.asset or str(row.video),
        "video": str(row.video),
        "engine": row.engine,
        "outcome": "done" if row.transcript else "failed",
        "audio_uri": audio.get("uri"),
        "audio_format": audio.get("audio_format"),
        "codec": audio.get("codec"),
        "duration": audio.get("duration"),
        "size": audio.get("size"),
        "transcript": whole_text(transcript) if transcript else None,
        "extract_seconds": audio.get("seconds"),
        "transcribe_seconds": transcript.get("seconds"),
        "error": row.failure or None,
    }


def whole_text(transcript: dict[str, Any]) -> str:
    """The record has only how it begins."""
    path = local_path(transcript["uris"]["txt"])
    return " ".join(path.read_text(encoding="utf-8").split()) if path else str(transcript["text"])


def table(rows: list[Row]) -> str:
    """What was made of each video, for a person."""
    heads = ("video", "engine", "audio file", "audio", "extract", "transcribe", "transcript")
    lines = [heads, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads) - 1)]
    text = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]])
        for line in lines
    ]
    return "\n".join(["", text[0], "-" * len(text[0]), *text[1:], ""])


def cells(row: Row) -> tuple[str, ...]:
    audio, transcript = row.audio or {}, row.transcript or {}
    name = audio.get("uri", "")
    path = local_path(name) if name else None
    words = transcript.get("text") or row.failure or row.note
    return (
        shorten(row.video.name, 28),
        row.engine,
        shorten(shown(path) if path else name, 56),
        f"{audio['duration']:.1f} s" if audio.get("duration") else "",
        seconds(audio.get("seconds")),
        seconds(transcript.get("seconds")),
        shorten(words, 60) if transcript else words,
    )


def shown(path: Path) -> str:
    """A path as short as it can be said from the project's folder."""
    return str(path.relative_to(stack.ROOT) if path.is_relative_to(stack.ROOT) else path)


def seconds(taken: float | None) -> str:
    if taken is None:
        return ""
    return f"{taken:.1f} s" if taken else "<1 s"  # VOD's clock counts whole seconds


def shorten(text: str, longest: int) -> str:
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("\nStopped.")
        sys.exit(130)
