"""``python -m vod standin``."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

from vod.standin import faults
from vod.standin.faults.rules import Fault
from vod.standin.library import LibraryInUseError
from vod.standin.notifications import web_url
from vod.standin.server import Standin
from vod.standin.settings import Behaviour, FinalStatus, StandinSettings

DEFAULT_PORT = 8600
ADMIN_TOKEN = "VOD_STANDIN_ADMIN_TOKEN"  # noqa: S105 - its name
SECRET_KEY = "VOD_STANDIN_SECRET_KEY"  # noqa: S105 - its name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the stand-in to a (sub)command."""
    usual = StandinSettings(data=Path())
    parser.add_argument("--data", type=Path, required=True, help="folder of the library, made when missing")
    parser.add_argument("--host", default=usual.host, help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free port (%(default)s)")
    parser.add_argument("--access-key", default=usual.access_key, help="the AK that it knows (demo key)")
    parser.add_argument(
        "--secret-key",
        default=os.environ.get(SECRET_KEY, usual.secret_key),
        help=f"the SK that belongs to it (environment variable {SECRET_KEY}; demo key)",
    )
    parser.add_argument("--project-id", default=usual.project_id, help="the one project (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=usual.workers, help="extractions at a time (%(default)s)"
    )
    parser.add_argument(
        "--virtual",
        action="store_true",
        help="no extraction does any work or writes a file; it takes --running-seconds (for load tests)",
    )
    parser.add_argument(
        "--speech-model",
        default=usual.speech_model,
        help="Whisper model that recognises speech for SIS; has to be installed (%(default)s)",
    )
    parser.add_argument(
        "--subscriber",
        dest="subscribers",
        metavar="URL",
        type=_url,
        action="append",
        default=[],
        help="URL to invite to notifications; may be given more than once",
    )
    parser.add_argument(
        "--public-url", help="under which subscribers reach the stand-in, where that is not host and port"
    )

    parser.add_argument(
        "--name",
        dest="names",
        metavar="HOST",
        action="append",
        help="under which callers reach it, besides localhost and --host; may be given more than once",
    )
    for flag, field_name, help_text in (
        ("--pull-from", "pull_from", "URL below which sources of uploads by URL may be"),
        ("--notify", "notify", "URL below which subscribers may be, besides --subscriber"),
    ):
        parser.add_argument(
            flag,
            dest=field_name,
            metavar="URL",
            type=_url,
            action="append",
            help=f"{help_text}; by default this machine, or nothing if --host is another",
        )
    parser.add_argument(
        "--admin-token",
        default=os.environ.get(ADMIN_TOKEN),
        help=f"what callers of /admin must show (environment variable {ADMIN_TOKEN}); by default nothing, or "
        "a made-up one if --host is not this machine",
    )

    odd = parser.add_argument_group("behaviour", "what the real service does now and then")
    usually = usual.behaviour
    odd.add_argument(
        "--final-status",
        choices=get_args(FinalStatus),
        default=usually.final_status,
        help="what a finished audio asset shows (%(default)s)",
    )
    odd.add_argument(
        "--refusal-status",
        type=int,
        choices=(400, 403),
        default=usually.refusal_status,
        help="HTTP status of errors that the documentation lists with both (%(default)s)",
    )
    for name, help_text in (
        ("queue_seconds", "least time an extraction waits and can be cancelled"),
        ("running_seconds", "least time an extraction takes"),
        ("notification_retry_seconds", "wait before a notification is sent again; it doubles"),
        ("quota_scale", "factor on the quotas per minute, 0 switches them off"),
        ("clock_ahead", "seconds by which its clock is ahead of this machine's"),
        ("list_lag", "seconds until asset/list shows a new asset"),
    ):
        default = getattr(usually, name)
        flag = f"--{name.replace('_', '-')}"
        odd.add_argument(flag, type=float, default=default, help=f"{help_text} ({default:g})")
    odd.add_argument(
        "--link-seconds",
        type=int,
        default=usually.link_seconds,
        help="lifetime of pre-signed URLs (%(default)s)",
    )
    odd.add_argument(
        "--cdn-serves-unpublished",
        action="store_true",
        help="let video_url of unpublished assets be downloaded (by the documentation it cannot)",
    )
    odd.add_argument(
        "--fault",
        dest="faults",
        metavar="RULE",
        type=_fault,
        action="append",
        default=[],
        help="spoil something on purpose, for example drop,call=extract_audio,accepted=true,count=1; "
        "docs/standin.md has the list; may be given more than once",
    )


def serve(options: argparse.Namespace) -> int:
    """Runs the stand-in with parsed options until SIGTERM or SIGINT; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("vod.standin").setLevel(logging.INFO)
    behaviour = Behaviour(**{field.name: getattr(options, field.name) for field in fields(Behaviour)})
    given = {
        field.name: getattr(options, field.name)
        for field in fields(StandinSettings)
        if getattr(options, field.name, None) is not None
    }
    try:
        standin = Standin(StandinSettings(**given, behaviour=behaviour))
    except LibraryInUseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(
            f"The stand-in cannot start on {options.host}:{options.port}: {error}. Choose another port.\n"
        )
        return 1

    # uvicorn raises the signal again once it has stopped: by then there is nothing left to do.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: standin.stop())
    if standin.admin_token and not options.admin_token:
        sys.stdout.write(f"Token for /admin: {standin.admin_token}\n")
    standin.run(ready=lambda: _announce(standin.url))
    return 0


def _fault(text: str) -> Fault:
    try:
        return faults.parse(text)
    except faults.FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _url(text: str) -> str:
    try:
        return web_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _announce(url: str) -> None:
    sys.stdout.write(f"VOD stand-in ready: {url}\n")
    sys.stdout.flush()
