"""``python -m vod standin``: a VOD service on this machine, for demos, tests and development."""

from __future__ import annotations

import argparse
import sys

from vod import standin


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vod", description="Video libraries into audio and text.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    standin_parser = commands.add_parser("standin", help="serve a stand-in for Huawei Cloud VOD")
    standin.add_arguments(standin_parser)
    standin_parser.set_defaults(run=standin.serve)
    options = parser.parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
