"""Commands take formats in one way, with commas or one after the other, and no address for a file."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from vod.commands import captions, transcribe


@pytest.mark.parametrize(("command", "usual"), [(captions, ["vtt"]), (transcribe, ["txt", "vtt", "srt"])])
def test_commas_and_repetition(command: Any, usual: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    def formats(*arguments: str) -> list[str]:
        return parser.parse_args(["a.json", *arguments]).format

    assert formats() == usual
    assert formats("--format", "vtt,srt") == formats("--format", "vtt", "--format", "srt") == ["vtt", "srt"]
    assert formats("--format", "vtt, srt,") == ["vtt", "srt"]
    with pytest.raises(SystemExit):
        formats("--format", "vtt,doc")
    assert formats() == usual, "what was given before is no default"
    assert "there is no format 'doc'; choose from json, txt, vtt, srt" in capsys.readouterr().err


@pytest.mark.parametrize("command", [captions, transcribe])
@pytest.mark.parametrize("address", ["vod://b/0123", "https://h/a.mp3?sig=abcdef", "file:///a.mp3"])
def test_an_address_is_no_file(command: Any, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    for arguments in ([address], ["a.json", "--output", address]):
        with pytest.raises(SystemExit):
            parser.parse_args(arguments)
        said = capsys.readouterr().err
        assert "is an address. This command works with files and folders of this machine." in said
        assert "abcdef" not in said
