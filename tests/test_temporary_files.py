"""Temporary names cannot be foreseen, nothing that is there already is opened, and secrets are 0600."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

from dev import stack
from vod.cloud.client import VodClient
from vod.cloud.transport import replacing
from vod.standin import Standin

ROOT = Path(__file__).parent.parent


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Names and flags of the files that are made in the folder of this test."""
    opened: list[tuple[str, int]] = []
    real = os.open

    def watch(path: object, flags: int, *more: int, **options: int) -> int:
        if str(path).startswith(str(tmp_path)) and flags & os.O_CREAT:
            opened.append((Path(str(path)).name, flags))
        return real(path, flags, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", watch)
    return opened


def test_a_download_is_written_to_a_new_file(
    standin: Standin, client: VodClient, video: Path, tmp_path: Path, watched: list[tuple[str, int]]
) -> None:
    asset = standin.add(video, title="talk")
    watched.clear()
    for _ in range(2):
        client.download(asset, tmp_path / "talk.mp4")
    assert (tmp_path / "talk.mp4").read_bytes() == video.read_bytes()
    names = [name for name, flags in watched if flags & os.O_EXCL]
    assert len({*names}) == 2, "another name each time"
    assert [path.name for path in tmp_path.glob("*talk*")] == ["talk.mp4"]


def test_what_is_there_already_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the name known, a link under it would lead elsewhere."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda _: "foreseen")
    (tmp_path / ".download-foreseen.part").symlink_to(victim)
    with pytest.raises(FileExistsError), replacing(tmp_path / "target"):
        pass
    assert victim.read_text() == "mine"
    assert not (tmp_path / "target").exists()


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "target", mode=0o600) as file:
        file.write(b"half" * (1 // 0))
    assert [*tmp_path.iterdir()] == []


def test_files_of_secrets_are_for_their_owner(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        for path in (tmp_path / "new", tmp_path / "old"):
            if path.name == "old":
                path.touch(0o666)
            stack.write_secret(path, "secret")
            assert (path.stat().st_mode & 0o777, path.read_text()) == (0o600, "secret")
        assert stack.secret(tmp_path / "secrets" / "key") == stack.secret(tmp_path / "secrets" / "key")
        assert (tmp_path / "secrets" / "key").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)


def test_no_temporary_name_is_made_of_what_others_know() -> None:
    """A process id, a clock or a part of a digest can be tried out; tempfile.mktemp does not open."""
    for folder in ("plugins", "dev"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                text = ast.unparse(node) if isinstance(node, ast.JoinedStr | ast.Call) else ""
                if isinstance(node, ast.JoinedStr) and re.search(r"\.(part|tmp)['\"]", text):
                    assert "token_hex" in text or "uuid4().hex}" in text, path
                assert "mktemp(" not in text, path
