"""Speech models in a folder of the site, also on object storage."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from pathlib import Path, PurePosixPath

from vod.errors import InvalidInputError
from vod.locations import Kind, parse_location
from vod.logs import get_logger
from vod.speech.errors import ModelNotFoundError
from vod.speech.models import cache_folder, is_model
from vod.storage.errors import store_errors
from vod.storage.sources import remote_path

log = get_logger(__name__)


def models_folder(location: str, model: str) -> Path:
    """A folder on this machine that holds the model of that name, if the location does.

    From object storage the model is fetched once, into :func:`vod.speech.models.cache_folder`.

    :param location: A path, or a URL that Airflow's ``ObjectStoragePath`` knows.
    :raises InvalidInputError: a location that can hold no folders.
    :raises vod.storage.errors.StorageError: the store does not deliver it.
    :raises vod.speech.errors.ModelNotFoundError: there is no space for it on this machine.
    """
    place = parse_location(location)
    if place.kind in (Kind.ASSET, Kind.WEB) or (place.path and not place.path.is_absolute()):
        raise InvalidInputError(
            f"Speech models cannot be in {place.shown!r}.",
            remedy="Give an absolute path, or a URL such as s3://aws_default@bucket/models.",
        )
    if place.path:
        return place.path
    name = PurePosixPath(model)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        return cache_folder()  # a path is no name: whoever looks for it there says so
    remote = remote_path(place) / str(name)
    root = remote.path.rstrip("/")
    with store_errors(f"{place.shown.rstrip('/')}/{name}"):
        sizes = {
            path.removeprefix(f"{root}/"): info["size"]
            for path, info in remote.fs.find(root, detail=True).items()
            if "/" not in path.removeprefix(f"{root}/")
        }
    digest = hashlib.sha256(repr((location, str(name), sorted(sizes.items()))).encode()).hexdigest()[:16]
    folder = cache_folder() / f"models-{digest}"
    if not sizes or is_model(folder / name):
        return folder
    log.info("Fetching the speech model %s, %.0f MB.", name, sum(sizes.values()) / 1e6)
    folder.mkdir(parents=True, exist_ok=True)
    # Several tasks may do this at once: each fetches its own, and whoever is first has it for all.
    part = folder / f".part-{secrets.token_hex(4)}"
    try:
        part.mkdir()
        with store_errors(f"{place.shown.rstrip('/')}/{name}"):
            for file in sizes:
                remote.fs.get_file(f"{root}/{file}", str(part / file))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            part.rename(folder / name)
        except OSError:
            if not is_model(folder / name):
                raise
    except OSError as error:
        raise ModelNotFoundError(
            f"The speech model {model!r} cannot be fetched into {folder} "
            f"({error.strerror or type(error).__name__}).",
            remedy="Free space there, or let XDG_CACHE_HOME name another folder.",
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder
