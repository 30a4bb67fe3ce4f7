"""Where files come from and where they land: local paths, object storage, web addresses, assets of VOD."""

from __future__ import annotations

import errno
import importlib.util
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vod import media
from vod.errors import InvalidInputError
from vod.locations import AllowedLocations, Kind, Location, parse_location

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from vod.hooks import VodHook

DOWNLOAD_LIMIT = 64 << 30
"""Bytes of a source that is fetched, when no other limit is given."""
_DOWNLOAD_TIMEOUT = 6 * 3600.0
_CHUNK = 1 << 20

_PACKAGES = {
    **dict.fromkeys(("s3", "s3a", "s3n"), ("s3fs", "apache-airflow-providers-amazon[s3fs]")),
    **dict.fromkeys(("gs", "gcs"), ("gcsfs", "apache-airflow-providers-google")),
    **dict.fromkeys(("abfs", "abfss", "adl", "az"), ("adlfs", "apache-airflow-providers-microsoft-azure")),
    "obs": ("s3fs", "s3fs"),
}
"""By scheme the module that its file system needs, and the package to install."""


def allowed_locations() -> AllowedLocations:
    """What Airflow's configuration allows to be read and written: ``[vod] allowed_locations``."""
    from airflow.sdk.configuration import conf

    return AllowedLocations.from_text(conf.get("vod", "allowed_locations", fallback=None))


def check_source(asset: str, allowed: AllowedLocations | None = None) -> Location:
    """Refuse what can be no source, before anything is done.

    :param allowed: What may be read; Airflow's configuration says it when omitted.
    :raises InvalidInputError: a relative path, a URL of an unknown kind, or a location that is not allowed.
    """
    location = parse_location(asset)
    path = location.path
    if path is not None and not path.is_absolute():
        raise InvalidInputError(
            "This is neither an asset id nor an absolute path.",
            asset=location.shown,
            remedy="Give an absolute path: Airflow does not guarantee a task's working directory.",
        )
    if location.kind is not Kind.ASSET:
        (allowed_locations() if allowed is None else allowed).check(location)
    if location.kind is Kind.STORAGE:
        _require_file_system(location)
    return location


def _require_file_system(location: Location) -> None:
    from airflow.sdk.io.fs import has_fs

    module, package = _PACKAGES.get(location.scheme, (None, None))
    if has_fs(location.scheme) and (module is None or importlib.util.find_spec(module)):
        return
    raise InvalidInputError(
        f"No file system for {location.scheme}:// is installed.",
        asset=location.shown,
        remedy=f"Install it on every worker: pip install '{package}'."
        if package
        else "Give a path, or a URL of object storage for which a provider of Airflow is installed.",
    )


def remote_path(location: Location) -> ObjectStoragePath:
    """The path on object storage that a URL means."""
    # Importing this takes a second, which those with local files only need not spend.
    from airflow.sdk import ObjectStoragePath

    _require_file_system(location)
    return ObjectStoragePath(location.text.strip())


def require_regular_file(path: Path) -> None:
    """Refuse what is no regular file, without opening it: a pipe or a device could block for ever.

    :raises vod.media.UnreadableMediaError: it is not there, or is a folder, a pipe or a device.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # opening it will say why it fails
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise media.UnreadableMediaError(
            "This is a pipe or device, not a file.", remedy="Name a regular file."
        )


@contextmanager
def local_copy(
    source: str,
    hook: VodHook | None,
    *,
    max_bytes: int = DOWNLOAD_LIMIT,
    limits: media.Limits | None = None,
    allowed: AllowedLocations | None = None,
) -> Iterator[Path]:
    """Give a local file for a path, URL or asset of VOD; a copy is removed afterwards.

    :param hook: Used for VOD assets only.
    :param max_bytes: Bytes that are fetched at most.
    :param limits: When to stop fetching. Fetching never takes more than six hours.
    :param allowed: What may be read; Airflow's configuration says it when omitted.
    :raises InvalidInputError: the location is not allowed.
    :raises vod.cloud.errors.CloudError: the asset could not be downloaded.
    :raises vod.media.DownloadError: the URL could not be.
    :raises vod.media.TooLargeError: it has more than *max_bytes* bytes.
    """
    if allowed is None:
        allowed = allowed_locations()
    location = check_source(source, allowed)
    if location.path is not None:
        require_regular_file(location.path)
        yield location.path
        return
    limits = limits or media.Limits(_DOWNLOAD_TIMEOUT)
    if limits.timeout > _DOWNLOAD_TIMEOUT:
        limits = media.Limits(_DOWNLOAD_TIMEOUT, limits.cancelled)
    with media.scratch_folder() as folder:
        copy = folder / "original"
        if location.kind is Kind.ASSET:
            assert hook is not None
            with copy.open("wb") as file:
                hook.client.download(location.name, _Bounded(file, max_bytes, limits))
        elif location.kind is Kind.WEB:
            from vod.media.download import download

            download(location, copy, max_bytes=max_bytes, limits=limits, allowed=allowed)
        else:
            _fetch(remote_path(location), copy, max_bytes, limits)
        yield copy


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write beside *path*; it takes that one's place once it is whole."""
    with media.partial_beside(path) as part:
        yield part
        part.replace(path)


def version(source: str, *, limits: media.Limits, allowed: AllowedLocations | None = None) -> str | None:
    """A cheap change marker: size and modification time, or ETag; ``None`` if there is none."""
    if allowed is None:
        allowed = allowed_locations()
    location = check_source(source, allowed)
    try:
        if location.kind is Kind.ASSET:
            return source
        if location.path is not None:
            status = location.path.stat()
            return f"{status.st_size} {status.st_mtime_ns}"
        if location.kind is Kind.WEB:
            from vod.media.download import head

            size, validator = head(location, limits=limits, allowed=allowed)
            return validator and f"{size} {validator}"
        return str(remote_path(location).checksum())
    except media.MediaError:
        return None
    except (OSError, ValueError, NotImplementedError):
        return None


class _Bounded:
    """A file that takes a number of bytes and not one more."""

    def __init__(self, file: IO[bytes], max_bytes: int, limits: media.Limits) -> None:
        self._file = file
        self._left = self._max_bytes = max_bytes
        self._limits = limits

    def write(self, data: bytes, /) -> int:
        self._limits.check()
        self._left -= len(data)
        if self._left < 0:
            raise media.TooLargeError(
                f"The file has more than {self._max_bytes / 1e9:.3g} GB, the limit for downloads."
            )
        return self._file.write(data)


def _fetch(source: ObjectStoragePath, copy: Path, max_bytes: int, limits: media.Limits) -> None:
    try:
        with source.open("rb") as remote, copy.open("wb") as file:
            shutil.copyfileobj(remote, _Bounded(file, max_bytes, limits), _CHUNK)
    except FileNotFoundError as error:
        raise media.UnreadableMediaError("The file does not exist.", remedy="Check its name.") from error
    except PermissionError as error:
        raise media.UnreadableMediaError("The storage does not let this file be read.") from error
    except media.MediaError:
        raise
    except Exception as error:  # noqa: BLE001
        # Any library may raise anything here, and its text may hold a signed URL.
        raise media.DownloadError(f"The storage did not deliver the file ({type(error).__name__}).") from None


class Destination:
    """A folder, local or on object storage, in which each file appears whole or not at all.

    :param location: Path, ``file://`` URL or any URL that Airflow's ``ObjectStoragePath`` knows.
    :param allowed: What may be written; Airflow's configuration says it when omitted.
    :raises InvalidInputError: a relative path, a URL that cannot be written to, or a location that is not
        allowed.
    """

    def __init__(self, location: str, *, allowed: AllowedLocations | None = None) -> None:
        parsed = parse_location(location)
        if parsed.kind in (Kind.ASSET, Kind.WEB) or (parsed.path and not parsed.path.is_absolute()):
            raise InvalidInputError(
                f"The destination {parsed.shown!r} is not an absolute path.",
                remedy="Give an absolute path, or a URL such as s3://bucket/audio.",
            )
        (allowed_locations() if allowed is None else allowed).check(parsed)
        self._folder = parsed.path
        self._remote = remote_path(parsed) if self._folder is None else None
        self._allowed = AllowedLocations()

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
            with local_copy(self.uri(name), None, allowed=self._allowed) as copy:
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
