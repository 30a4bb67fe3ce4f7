"""``python -m vod check``: what reads files here, within which limits, and its known vulnerabilities."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from vod import allowed_formats, media, sandbox
from vod.errors import VodError
from vod.locations import parse_location
from vod.media.errors import FfmpegNotFoundError
from vod.media.vulnerabilities import known_vulnerabilities
from vod.speech.errors import SpeechError
from vod.speech.models import DEFAULT_MODEL, resolve_model

SAMPLE = (
    b"RIFF\x2c\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00"
    b"\x02\x00\x10\x00data\x08\x00\x00\x00" + bytes(8)
)
"""A WAV file with four samples."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a (sub)command."""
    parser.add_argument("--ffmpeg", metavar="PATH", help="as a connection names it")
    parser.add_argument("--connection", metavar="ID", help="try this Airflow connection and its destination")


def run(options: argparse.Namespace) -> int:
    """Prints what is found; returns 0 if all works and no known vulnerability can be reached."""
    lines: list[str] = []
    bad: list[str] = []
    versions: list[tuple[str, str]] = []
    try:
        ffmpeg = media.inspect(media.find_ffmpeg(options.ffmpeg))
        lines.append(f"ffmpeg: {ffmpeg.version} ({ffmpeg.path})")
        versions.append(("ffmpeg", ffmpeg.version))
    except FfmpegNotFoundError as error:
        bad.append(str(error))
    if importlib.util.find_spec("av") is None:
        bad.append("PyAV is not installed, so no file can be read. Install it: pip install av.")
    else:
        import av

        lines.append(f"PyAV: {av.__version__} with FFmpeg {av.ffmpeg_version_info}")
        versions.append(("PyAV", av.ffmpeg_version_info))
    lines.append(f"speech model: {_model(bad)}")
    lines.append(_sandbox(bad))
    ceiling = media.Ceiling()
    lines.append(
        f"limits of ffmpeg: {ceiling.memory / 1e9:.3g} GB of memory, {ceiling.file / 1e9:.3g} GB a file, "
        "ten minutes more than the source lasts, six hours at most"
    )
    rare = "read" if allowed_formats.reads_rare_formats() else "not read"
    lines.append(f"rare formats ({', '.join(allowed_formats.RARE_CONTAINERS)}): {rare}")
    day, vulnerabilities = known_vulnerabilities()
    lines.append(f"known vulnerabilities, as of {day}:")
    for name, version in versions:
        there = [vulnerability for vulnerability in vulnerabilities if vulnerability.is_in(version)]
        lines += [f"  {name} {version}: {vulnerability}" for vulnerability in there] or [
            f"  {name} {version}: none in the table"
        ]
        bad += [
            f"{name} {version} has {vulnerability.id}, and files can reach it."
            for vulnerability in there
            if vulnerability.reached
        ]
    if options.connection:
        lines += _connection(options.connection, bad)
    lines += [f"PROBLEM: {problem}" for problem in dict.fromkeys(bad)]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(bool(bad))


def _connection(conn_id: str, bad: list[str]) -> list[str]:
    """What the button Test says of a connection, and whether its destination can be written to."""
    from vod.hooks import VodHook
    from vod.storage.destination import Destination

    lines: list[str] = []
    try:
        hook = VodHook(conn_id)
        works, said = hook.test_connection()
        (lines if works else bad).append(f"connection {conn_id}: {said}")
        if location := hook.settings.destination:
            shown = parse_location(location).shown
            try:
                Destination(location).check()
                lines.append(f"destination {shown}: it can be written to")
            except VodError as error:
                bad.append(f"destination {shown}: {error}")
    except VodError as error:
        bad.append(f"connection {conn_id}: {error}")
    return lines


def _model(bad: list[str]) -> str:
    try:
        return f"{DEFAULT_MODEL} ({resolve_model(DEFAULT_MODEL)})"
    except SpeechError as error:
        if importlib.util.find_spec("faster_whisper"):
            bad.append(str(error))
        return f"{DEFAULT_MODEL}, not here: {error.message}"


def _sandbox(bad: list[str]) -> str:
    with media.scratch_folder() as folder:
        sample = Path(folder, "sample.wav")
        sample.write_bytes(SAMPLE)
        try:
            media.probe(sample)
        except media.MediaError as error:
            bad.append(f"Files cannot be read: {error.message}")
            return "reading: does not work"
    return f"reading: in a process of its own, with {sandbox.MEMORY / 1e9:.3g} GB of memory and one open file"
