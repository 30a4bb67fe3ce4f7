"""Where files come from and where they land: local paths, object storage, and the assets of VOD itself."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vod import media
from vod.errors import InvalidInputError
from vod.locations import is_asset_id, is_web_url, local_path

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from vod.hooks import VodHook

DOWNLOAD_LIMIT = 64 << 30
"""Bytes of a source that is fetched, when nobody says another limit."""
_DOWNLOAD_TIMEOUT = 6 * 3600.0
_CHUNK = 1 << 20


def check_source(asset: str) -> None:
    """Refuse what is neither an asset id nor a place that can be read, before anything is done.

    :raises InvalidInputError: a relative path, or an unknown kind of URL.
    """
    if is_asset_id(asset) or asset.startswith(("vod://", "file://")) or is_web_url(asset):
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
    # Here, because who has only local files can do without the second that Airflow takes to import.
    from airflow.sdk import ObjectStoragePath

    try:
        return ObjectStoragePath(url)
    except (ValueError, ImportError) as error:
        raise InvalidInputError(
            f"No file system is installed for this URL ({error}).",
            asset=url,
            remedy="Give a path, or install the provider of that storage.",
        ) from error


@contextmanager
def local_copy(
    location: str,
    hook: VodHook | None,
    *,
    most: int = DOWNLOAD_LIMIT,
    limits: media.Limits | None = None,
) -> Iterator[Path]:
    """Give a local file for a path, URL or asset of VOD; a copy is removed afterwards.

    :param hook: Used for VOD assets only.
    :param most: Bytes that are fetched at most.
    :param limits: When to stop fetching; after six hours when omitted.
    :raises vod.cloud.errors.CloudError: the asset could not be downloaded.
    :raises vod.media.DownloadError: the URL could not be.
    :raises vod.media.TooLargeError: it has more than *most* bytes.
    """
    in_vod = is_asset_id(location) or location.startswith("vod://")
    path = None if in_vod else local_path(location)
    if path is not None:
        yield path
        return
    limits = limits or media.Limits(_DOWNLOAD_TIMEOUT)
    with media.scratch_folder() as folder:
        copy = folder / "original"
        if in_vod:
            assert hook is not None
            with copy.open("wb") as file:
                hook.client.download(location.rsplit("/", 1)[-1], _Bounded(file, most, limits))
        elif is_web_url(location):
            from vod.media.download import download

            download(location, copy, most=most, limits=limits)
        else:
            _fetch(remote_path(location), copy, most, limits)
        yield copy


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write beside *path*; it takes that one's place once it is whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def version(location: str, *, limits: media.Limits) -> str | None:
    """What changes when the file at *location* does; ``None`` when only reading it could tell."""
    if is_asset_id(location) or location.startswith("vod://"):
        return location
    try:
        if (path := local_path(location)) is not None:
            status = path.stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        if is_web_url(location):
            from vod.media.download import head

            size, validator = head(location, limits=limits)
            return validator and f"{size} {validator}"
        return str(remote_path(location).checksum())
    except media.MediaError:
        return None
    except (OSError, ValueError, NotImplementedError):
        return None


class _Bounded:
    """A file that takes a number of bytes and not one more."""

    def __init__(self, file: IO[bytes], most: int, limits: media.Limits) -> None:
        self._file = file
        self._left = self._most = most
        self._limits = limits

    def write(self, data: bytes, /) -> int:
        self._limits.check()
        self._left -= len(data)
        if self._left < 0:
            raise media.TooLargeError(
                f"The file has more than {self._most / 1e9:.3g} GB, the limit for downloads."
            )
        return self._file.write(data)


def _fetch(source: ObjectStoragePath, copy: Path, most: int, limits: media.Limits) -> None:
    try:
        with source.open("rb") as remote, copy.open("wb") as file:
            shutil.copyfileobj(remote, _Bounded(file, most, limits), _CHUNK)
    except FileNotFoundError as error:
        raise media.UnreadableMediaError("The file does not exist.", remedy="Check its name.") from error
    except PermissionError as error:
        raise media.UnreadableMediaError("The storage does not let this file be read.") from error
    except media.MediaError:
        raise
    except Exception as error:  # noqa: BLE001
        # What else a storage's library raises is its own affair, and its text may hold a signed URL.
        raise media.DownloadError(f"The storage did not deliver the file ({type(error).__name__}).") from None


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
        with self.folder() as folder:
            yield folder / name

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Give a folder to write files to; when the block ends well all of them are under :meth:`uri`.

        :raises vod.media.DestinationError: the storage did not take them.
        """
        if self._remote is None:
            folder = self._require_folder()
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise media.DestinationError(f"{folder} cannot be made: {error.strerror}.") from error
            yield folder
            return
        with media.scratch_folder() as folder:
            yield folder
            for file in sorted(folder.iterdir()):
                self._upload(file)

    @contextmanager
    def reading(self, name: str) -> Iterator[Path | None]:
        """Give a local path of the file of that name, ``None`` when there is none."""
        if self._remote is None:
            path = self._require_folder() / name
            yield path if path.is_file() else None
        elif self.size(name) is None:
            yield None
        else:
            with local_copy(self.uri(name), None) as copy:
                yield copy

    def sweep(self) -> int:
        """Remove what killed processes left; :returns: how many files and folders."""
        folder = self._folder if self._folder is not None and self._folder.is_dir() else None
        return media.sweep(folder)

    def _upload(self, file: Path) -> None:
        assert self._remote is not None
        try:
            # Object stores show an object only once its upload is complete.
            with file.open("rb") as local, (self._remote / file.name).open("wb") as remote:
                shutil.copyfileobj(local, remote, _CHUNK)
        except OSError as error:
            raise not_written(self.uri(file.name), error) from error

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


def not_written(uri: str, error: OSError) -> media.MediaError:
    """The failure to write a file, in our own terms."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return media.NoSpaceError(f"There is no space left for {uri}.")
    return media.DestinationError(f"{uri} cannot be written: {error.strerror}.")
