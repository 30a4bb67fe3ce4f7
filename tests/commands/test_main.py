"""The commands say how they are used, and what is wrong with how they were."""

from __future__ import annotations

import argparse
import importlib
import shlex
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from vod import __version__
from vod.__main__ import COMMANDS, main

EXAMPLES = [(name, example) for name, command in COMMANDS.items() for example in command.examples]


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as caught:
        main([*arguments])
    return caught.value.code, *capsys.readouterr()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version") == (0, f"vod {__version__}\n", "")


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_the_examples_are_right(name: str, example: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    importlib.import_module(COMMANDS[name].module).add_arguments(parser)
    parser.parse_args(shlex.split(example))
    code, text, _ = said(capsys, name, "--help")
    assert code == 0
    assert f"{name} {example}".rstrip() in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "required: COMMAND"),
        (("extrakt",), "invalid choice: 'extrakt'"),
        (("extract", "a.mp4"), "required: --output"),
        (("extract", "a.mp4", "--output", "b", "--format", "WMA"), "invalid choice: 'WMA'"),
        (("transcribe",), "required: FILE"),
        (("models", "burn"), "invalid choice: 'burn'"),
        (("cleanup", "--older-than", "soon"), "invalid int value: 'soon'"),
    ],
)
def test_a_mistake_is_told_in_two_lines(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text, error = said(capsys, *arguments)
    assert (code, text, error.count("\n")) == (2, "", 2)
    assert words in error
    assert error.endswith(" --help\n")


def test_the_installed_command_has_its_own_name() -> None:
    [script] = entry_points(group="console_scripts", name="vod")
    assert script.load() is main
    command = "import sys; sys.argv[0] = '/opt/bin/vod'; from vod.__main__ import main; main(['extract'])"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("vod extract: ")
