"""Files go to folders and object storage whole, or with a reason."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from tests.conftest import attach_memory
from vod.errors import InvalidInputError
from vod.storage.destination import Destination
from vod.storage.errors import FolderNotSeenError


@pytest.fixture(autouse=True)
def _memory_storage() -> None:
    """fsspec's file system in memory, as an object storage that needs no account."""
    attach_memory()


def test_a_local_destination_gives_the_final_path(tmp_path: Path) -> None:
    destination = Destination(str(tmp_path / "new" / "folder"))
    with destination.writing("a.mp3") as path:
        path.write_bytes(b"audio")
    assert destination.uri("a.mp3") == path.as_uri()
    assert destination.size("a.mp3") == 5
    assert destination.size("b.mp3") is None


def test_object_storage_shows_a_file_only_when_it_is_whole() -> None:
    destination = Destination(f"memory://bucket-{uuid.uuid4().hex}/audio")
    with destination.writing("a.mp3") as path:
        path.write_bytes(b"audio")
        assert destination.size("a.mp3") is None
    assert destination.size("a.mp3") == 5
    assert destination.uri("a.mp3").startswith("memory://bucket-")


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_file_is_gone_only_from_a_folder_in_which_something_is_seen(tmp_path: Path, place: str) -> None:
    location = f"memory://bucket-{uuid.uuid4().hex}/audio" if place == "memory" else str(tmp_path / "audio")
    destination = Destination(location)
    with pytest.raises(FolderNotSeenError, match="absent or empty") as caught:
        destination.lacks("a.mp3")
    assert caught.value.asset == location
    with destination.writing("z.mp3") as path:
        path.write_bytes(b"audio")
    assert destination.lacks("a.mp3")
    assert not destination.lacks("z.mp3")
    destination.remove("z.mp3")
    assert destination.lacks("z.mp3"), "the folder has been seen"


def test_nothing_is_uploaded_when_the_writer_fails() -> None:
    destination = Destination(f"memory://bucket-{uuid.uuid4().hex}/audio")

    def write_half() -> None:
        with destination.writing("a.mp3") as path:
            path.write_bytes(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert destination.size("a.mp3") is None


@pytest.mark.parametrize(
    ("location", "sentence"), [("audio", "not an absolute path"), ("gopher://x", "No file system")]
)
def test_a_destination_that_cannot_be_is_refused(location: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError, match=sentence):
        Destination(location)


@pytest.mark.parametrize("place", ["local", "memory"])
def test_names_by_how_they_begin(place: str, tmp_path: Path) -> None:
    folder = str(tmp_path / "a[b]") if place == "local" else "memory://names/a"
    destination = Destination(folder)
    assert destination.names() == []
    for name in ("talk.en.json", "talk.en.txt", "talk2.en.json", "x[1].json"):
        with destination.writing(name) as path:
            path.write_text("x")
    assert sorted(destination.names()) == ["talk.en.json", "talk.en.txt", "talk2.en.json", "x[1].json"]
    assert sorted(destination.names("talk.")) == ["talk.en.json", "talk.en.txt"]
    assert destination.names("x[1]") == ["x[1].json"]
    assert destination.names("nothing") == []
