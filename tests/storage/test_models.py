"""Speech models of a site: in a folder, and fetched once from object storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.conftest import attach_memory
from vod.errors import InvalidInputError
from vod.speech import ModelNotFoundError, resolve_model
from vod.storage.models import models_folder

FILES = {"model.bin": b"weights", "tokenizer.json": b"{}", "config.json": b"{}"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vod"


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    attach_memory()
    memory = fsspec.filesystem("memory")
    for name in ("large", "org/repo"):
        for file, content in FILES.items():
            memory.pipe_file(f"/bucket/models/{name}/{file}", content)
    memory.pipe_file("/bucket/models/large/more/notes.txt", b"not the model's")
    yield memory
    memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize("name", ["large", "org/repo"])
def test_a_model_is_fetched_once(cache: Path, bucket: fsspec.AbstractFileSystem, name: str) -> None:
    folder = models_folder("memory://bucket/models/", name)
    model = resolve_model(name, folder)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == FILES
    (model / "model.bin").write_bytes(b"as fetched")
    assert resolve_model(name, models_folder("memory://bucket/models/", name)) == model
    assert (model / "model.bin").read_bytes() == b"as fetched", "not fetched again"
    bucket.pipe_file(f"/bucket/models/{name}/model.bin", b"new weights")
    newer = resolve_model(name, models_folder("memory://bucket/models/", name))
    assert (newer / "model.bin").read_bytes() == b"new weights", "what changed there is another model"


def test_what_is_not_there_is_looked_for_elsewhere(cache: Path, bucket: fsspec.AbstractFileSystem) -> None:
    folder = models_folder("memory://bucket/models", "tiny.en")
    assert resolve_model("tiny.en", folder) == resolve_model("tiny.en")
    for name in ("../secret", "/etc"):
        with pytest.raises(ModelNotFoundError):
            resolve_model(name, models_folder("memory://bucket/models", name))


def test_a_fetch_that_breaks_leaves_nothing(
    cache: Path, bucket: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = type(bucket).get_file

    def breaks(self: object, source: str, target: str, **more: object) -> object:
        if source.endswith("tokenizer.json"):
            raise OSError(28, "No space left on device")
        return fetch(self, source, target, **more)

    monkeypatch.setattr(type(bucket), "get_file", breaks)
    with pytest.raises(Exception, match=r"No space|space") as caught:
        models_folder("memory://bucket/models", "large")
    assert "space" in str(caught.value)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert models_folder(str(tmp_path), "large") == tmp_path
    assert models_folder(tmp_path.as_uri(), "large") == tmp_path
    for location in ("models", "https://example.com/models", "0" * 32):
        with pytest.raises(InvalidInputError, match="cannot be in"):
            models_folder(location, "large")
