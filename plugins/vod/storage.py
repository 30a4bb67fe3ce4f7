"""Where files come from and where they land: local paths, object storage, and the assets of VOD itself."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from airflow.sdk import ObjectStoragePath

from vod.errors import InvalidInputError

if TYPE_CHECKING:
    from vod.hooks import VodHook

_ASSET_ID = re.compile(r"[0-9A-Za-z_-]+")
_LONGEST_STEM = 100  # bytes; a name takes 255, and suffixes are to come


def is_asset_id(asset: str) -> bool:
    """Whether this names a VOD asset: ids are opaque, but hold no dot, slash or colon as paths do."""
    return _ASSET_ID.fullmatch(asset) is not None


def asset_uri(conn_id: str, asset_id: str) -> str:
    """URI of an asset of VOD: ``vod://<connection>/<asset id>``. It holds no secret and does not expire."""
    return f"vod://{quote(conn_id, safe='')}/{asset_id}"


def local_path(location: str) -> Path | None:
    """The local path that a path or ``file://`` URL means; ``None`` for any other URL."""
    if location.startswith("file://"):
        return Path(unquote(urlsplit(location).path))
    return None if "://" in location else Path(location)


def check_source(asset: str) -> None:
    """Refuse what is neither an asset id nor a place that can be read, before anything is done.

    :raises InvalidInputError: a relative path, or an unknown kind of URL.
    """
    if is_asset_id(asset) or asset.startswith(("vod://", "file://")):
        return
    if "://" not in asset:
        if not Path(asset).is_absolute():
            raise InvalidInputError(
                "This is neither an asset id nor an absolute path.",
                asset=asset,
                remedy="Give the whole path: a task's working directory is nobody's promise.",
            )
        return
    remote_path(asset)


def remote_path(url: str) -> ObjectStoragePath:
    """The path on object storage that a URL means.

    :raises InvalidInputError: no file system is installed for such URLs.
    """
    try:
        return ObjectStoragePath(url)
    except (ValueError, ImportError) as error:
        raise InvalidInputError(
            f"No file system is installed for this URL ({error}).",
            asset=url,
            remedy="Give a path, or install the provider of that storage.",
        ) from error


@contextmanager
def local_copy(location: str, hook: VodHook) -> Iterator[Path]:
    """Give a local file for a path, URL or asset of VOD; a copy is removed afterwards.

    :param hook: Used for VOD assets only.
    :raises vod.cloud.errors.CloudError: the asset could not be downloaded.
    """
    if not is_asset_id(location) and not location.startswith("vod://"):
        path = local_path(location)
        if path is not None:
            yield path
            return
    with tempfile.TemporaryDirectory(prefix="vod-") as folder:
        copy = Path(folder, "original")
        if is_asset_id(location) or location.startswith("vod://"):
            hook.client.download(location.rsplit("/", 1)[-1], copy)
        else:
            source = remote_path(location)
            with source.open("rb") as remote, copy.open("wb") as file:
                while chunk := remote.read(1024 * 1024):
                    file.write(chunk)
        yield copy


class Destination:
    """A folder, local or on object storage, in which each file appears whole or not at all.

    :param location: Path, ``file://`` URL or any URL that Airflow's ``ObjectStoragePath`` knows.
    :raises InvalidInputError: a relative path, or an unknown kind of URL.
    """

    def __init__(self, location: str) -> None:
        self._folder = local_path(location)
        self._remote = None if self._folder else remote_path(location)
        if self._folder is not None and not self._folder.is_absolute():
            raise InvalidInputError(
                f"The destination {location!r} is not an absolute path.",
                remedy="Give an absolute path, or a URL such as s3://bucket/audio.",
            )

    def uri(self, name: str) -> str:
        """URI of the file of that name."""
        return str(self._remote / name) if self._remote else (self._require_folder() / name).as_uri()

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a path to write to; when the block ends well the file is under :meth:`uri`.

        For a local folder this is the final path: its writer renames a finished file onto it.
        """
        if self._remote is None:
            folder = self._require_folder()
            folder.mkdir(parents=True, exist_ok=True)
            yield folder / name
            return
        with tempfile.TemporaryDirectory(prefix="vod-") as folder_name:
            file = Path(folder_name, name)
            yield file
            # Object stores show an object only once its upload is complete.
            with file.open("rb") as local, (self._remote / name).open("wb") as remote:
                while chunk := local.read(1024 * 1024):
                    remote.write(chunk)

    def size(self, name: str) -> int | None:
        """Bytes of the file of that name; ``None`` when there is none."""
        path = self._remote / name if self._remote else self._require_folder() / name
        try:
            return int(path.stat().st_size)
        except FileNotFoundError:
            return None

    def read(self, name: str) -> bytes | None:
        """Contents of the file of that name; ``None`` when there is none."""
        path = self._remote / name if self._remote else self._require_folder() / name
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def _require_folder(self) -> Path:
        assert self._folder is not None
        return self._folder


def file_stem(asset: str) -> str:
    """A file name for what is made of an asset: the same every time, and different for different assets.

    Asset ids are kept. Of a path or URL the name is kept where it is harmless, with a digest of the whole.
    """
    if is_asset_id(asset):
        return asset
    name = Path(unquote(urlsplit(asset).path) if "://" in asset else asset).stem
    harmless = re.sub(r"[^\w-]+", "_", name).strip("_-")
    stem = harmless.encode()[:_LONGEST_STEM].decode(errors="ignore") or "asset"
    return f"{stem}-{hashlib.sha256(asset.encode()).hexdigest()[:8]}"
