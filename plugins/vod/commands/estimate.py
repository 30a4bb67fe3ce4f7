"""``python -m vod estimate``: what a list, or the videos of some days, would come to."""

from __future__ import annotations

import argparse
import sys
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path

from vod.connection import DEFAULT_CONNECTION
from vod.errors import VodError
from vod.locations import AllowedLocations
from vod.pipeline import manifests
from vod.pipeline.estimates import estimate, limits_of_site
from vod.pipeline.planning import new_videos
from vod.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options to a (sub)command."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--list", metavar="FILE", help="a list of assets: path or URL, as extract_asset_list takes"
    )
    what.add_argument(
        "--from-date",
        type=_day,
        metavar="DATE",
        help="first day that videos were created, in UTC",
    )
    parser.add_argument("--to-date", type=_day, metavar="DATE", help="last day (default: the first)")
    parser.add_argument("--engine", choices=("vod", "ffmpeg"), default="vod", help="extracts (%(default)s)")
    parser.add_argument("--transcribe", action="store_true", help="add transcription")
    parser.add_argument(
        "--vod-conn-id", default=DEFAULT_CONNECTION, metavar="ID", help="connection (%(default)s)"
    )


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{printable(text)!r} is not a date such as 2026-11-01") from None


def run(options: argparse.Namespace) -> int:
    """Says it; returns 0, 1 if one run of it is over the site's limits, or 2 if it cannot be told."""
    from vod.hooks import VodHook  # slow to import: not for --help

    try:
        durations: dict[str, float | None] | None = None
        if options.list:
            location = options.list if "://" in options.list else str(Path(options.list).absolute())
            entries = manifests.read(location, AllowedLocations())
            videos = list(dict.fromkeys(entry.asset for entry in entries))
        else:
            first, last = options.from_date, options.to_date or options.from_date
            if last < first:
                sys.stderr.write(f"The first day, {first}, is after the last, {last}.\n")
                return 2
            since, until = (
                datetime.combine(day, time(), timezone.utc) for day in (first, last + timedelta(days=1))
            )
            durations = new_videos(since, until, options.vod_conn_id)
            videos = [*durations]
        found = estimate(
            videos,
            VodHook(options.vod_conn_id),
            by_vod=options.engine == "vod",
            transcribed=options.transcribe,
            durations=durations,
        )
        sys.stdout.write(f"{found}\n")
        limits = limits_of_site()
    except VodError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        found.check(limits)
    except VodError as error:
        sys.stderr.write(f"In one run: {error}\n")
        return 1
    return 0
