"""What is read: local files, object storage, web addresses, assets of VOD."""

from __future__ import annotations

import importlib.util
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from vod import media
from vod.errors import InvalidInputError, VodError
from vod.locations import AllowedLocations, Kind, Location, parse_location
from vod.logs import get_logger
from vod.media.sparse import FIRST_PIECE, Fetched, Ranges, RangesError, fetch_sound
from vod.storage.errors import StorageRefusedError, store_errors

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

    from vod.hooks import VodHook

log = get_logger(__name__)

OnFetch = Callable[[Path, Path | None, Callable[[], int] | None], None]
"""As :meth:`vod.media.Ahead.begin`."""

DOWNLOAD_LIMIT = 64 << 30
"""Bytes of a source that is fetched, when no other limit is given."""
_DOWNLOAD_TIMEOUT = 6 * 3600.0
_CHUNK = 1 << 20

PACKAGES = {
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


def check_source(
    asset: str, allowed: AllowedLocations | None = None, *, vod_conn_id: str | None = None
) -> Location:
    """Refuse what can be no source, before anything is done.

    :param allowed: What may be read; Airflow's configuration says it when omitted.
    :param vod_conn_id: Connection that reads assets of VOD: a ``vod://`` URI must not name another one.
    :raises InvalidInputError: a relative path, a URL of an unknown kind, a location that is not allowed, or
        an asset of another connection.
    """
    location = parse_location(asset)
    path = location.path
    if path is not None and not path.is_absolute():
        raise InvalidInputError(
            "This is neither an asset id nor an absolute path.",
            asset=location.shown,
            remedy="Give an absolute path: Airflow does not guarantee a task's working directory.",
        )
    if location.kind is Kind.ASSET:
        theirs = location.connection
        if theirs and vod_conn_id and theirs != vod_conn_id:
            raise InvalidInputError(
                f"The asset belongs to the connection {theirs}, and this task uses {vod_conn_id}.",
                asset=location.shown,
                remedy=f"Give the task vod_conn_id={theirs!r}, or the command --connection.",
            )
    else:
        (allowed_locations() if allowed is None else allowed).check(location)
    if location.kind is Kind.STORAGE:
        _require_file_system(location)
    return location


def _require_file_system(location: Location) -> None:
    from airflow.sdk.io.fs import has_fs

    module, package = PACKAGES.get(location.scheme, (None, None))
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
    sound_of: media.Selection | None = None,
    fetched: Fetched | None = None,
    on_fetch: OnFetch | None = None,
) -> Iterator[Path]:
    """Give a local file for a path, URL or asset of VOD; a copy is removed afterwards.

    :param hook: Used for VOD assets only.
    :param max_bytes: Bytes that are fetched at most.
    :param limits: When to stop fetching. Fetching never takes more than six hours.
    :param allowed: What may be read; Airflow's configuration says it when omitted.
    :param sound_of: Only the sound of these tracks is needed: where that is quicker, nothing else is fetched,
        and the rest of the copy is empty.
    :param fetched: Is told what was fetched.
    :param on_fetch: Called before the bulk of the source is fetched: with the copy, with a sparse file that
        has the source's boxes, and with what tells up to which byte all that is needed is there
        (:meth:`vod.media.Ahead.begin`). It may be called again when fetching begins anew.
    :raises InvalidInputError: the location is not allowed.
    :raises vod.cloud.errors.CloudError: the asset could not be downloaded.
    :raises vod.media.DownloadError: the URL could not be.
    :raises StorageError: the object store did not deliver it.
    :raises vod.media.TooLargeError: it has more than *max_bytes* bytes.
    """
    if allowed is None:
        allowed = allowed_locations()
    location = check_source(source, allowed, vod_conn_id=hook.vod_conn_id if hook else None)
    if location.path is not None:
        require_regular_file(location.path)
        yield location.path
        return
    limits = limits or media.Limits(_DOWNLOAD_TIMEOUT)
    if limits.timeout > _DOWNLOAD_TIMEOUT:
        limits = media.Limits(_DOWNLOAD_TIMEOUT, limits.cancelled)
    with media.scratch_folder() as folder:
        copy, fetched = folder / "original", fetched or Fetched()
        if sound_of and _fetch_sound(
            location, hook, copy, sound_of, max_bytes, limits, allowed, fetched, on_fetch
        ):
            yield copy
            return
        boxes = None
        if copy.exists():
            # As long as the source, and mostly empty: nobody may take it for what is fetched now.
            boxes = copy.rename(folder / "boxes")
        if on_fetch:
            on_fetch(copy, boxes, None)
        if location.kind is Kind.ASSET:
            assert hook is not None
            with copy.open("wb") as file:
                hook.client.download(location.name, BoundedFile(file, max_bytes, limits))
        elif location.kind is Kind.WEB:
            from vod.media.download import download

            whole = download(location, copy, max_bytes=max_bytes, limits=limits, allowed=allowed)
            fetched.restarts = whole.restarts
        else:
            _fetch(location, copy, max_bytes, limits)
        fetched.bytes = fetched.size = copy.stat().st_size
        yield copy


def _fetch_sound(
    location: Location,
    hook: VodHook | None,
    copy: Path,
    selection: media.Selection,
    max_bytes: int,
    limits: media.Limits,
    allowed: AllowedLocations,
    fetched: Fetched,
    on_fetch: OnFetch | None,
) -> bool:
    """Whether only the sound was fetched; otherwise all has to be."""
    import httpx

    from vod.media.tracks import places_of_sound

    try:
        with ranges(location, hook, limits, allowed) as source:
            fetch_sound(
                source,
                copy,
                lambda path: places_of_sound(path, selection, limits=limits),
                fetched,
                max_bytes=max_bytes,
                on_fetch=on_fetch and (lambda available: on_fetch(copy, copy, available)),
            )
            return True
    except RangesError as error:
        log.debug("%s is fetched whole: %s", location.shown, error)
    except (media.ExtractionCancelledError, media.ExtractionTimeoutError, InvalidInputError):
        raise
    except (VodError, OSError, ValueError, httpx.HTTPError, httpx.InvalidURL) as error:
        # Whatever is wrong shows again, and in its own words, when all is fetched.
        log.info("%s is fetched whole (%s).", location.shown, type(error).__name__)
    return False


@contextmanager
def ranges(
    location: Location, hook: VodHook | None, limits: media.Limits, allowed: AllowedLocations
) -> Iterator[Ranges]:
    """What is not on this machine, to be read in pieces.

    :raises RangesError: it can only be fetched whole.
    :raises VodError: it cannot be read.
    """
    from vod.media.download import signed_ranges, web_ranges

    if location.kind is Kind.WEB:
        with web_ranges(location, limits=limits, allowed=allowed) as found:
            yield found
    elif location.kind is Kind.ASSET:
        assert hook is not None
        client = hook.client

        def sign() -> str:
            details = client.asset_details(location.name)
            return details.signed_url or details.url or ""

        with signed_ranges(sign, limits=limits) as found:
            yield found
    else:
        with store_errors(location.shown):
            yield _StoreRanges(remote_path(location), limits)


class _StoreRanges:
    """An object of a store, to be read in pieces."""

    def __init__(self, path: ObjectStoragePath, limits: media.Limits) -> None:
        self._path = path
        self._limits = limits
        self._version = self._state()
        self.size = int(path.fs.info(path.path)["size"])
        self.first = self.read(0, FIRST_PIECE)

    def read(self, start: int, end: int) -> bytes:
        self._limits.check()
        end = min(end, self.size)
        data: bytes = self._path.fs.cat_file(self._path.path, start=start, end=end)
        if len(data) != end - start:
            raise RangesError("A piece of another length came.")
        return data

    def check(self) -> None:
        """:raises RangesError: the object has changed."""
        self._path.fs.invalidate_cache()
        if self._state() != self._version:
            raise RangesError("The object has changed.")

    def _state(self) -> str:
        return str(self._path.checksum())


def version(source: str, *, limits: media.Limits, allowed: AllowedLocations | None = None) -> str | None:
    """A cheap change marker: size and modification time, or ETag; ``None`` if there is none.

    :raises StorageError: the object store does not answer now.
    """
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
        with store_errors(location.shown):
            return str(remote_path(location).checksum())
    except (media.MediaError, StorageRefusedError):
        return None
    except (OSError, ValueError, NotImplementedError):
        return None


class BoundedFile:
    """A file that takes a number of bytes and not one more, and none once it is cancelled.

    :raises vod.media.TooLargeError: there would be more.
    :raises vod.media.NoSpaceError: the disk does not take them.
    :raises vod.media.ExtractionTimeoutError, vod.media.ExtractionCancelledError: as *limits* say.
    """

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
        try:
            return self._file.write(data)
        except OSError as error:
            raise media.NoSpaceError(f"The download cannot be kept: {error.strerror}.") from error


def _fetch(location: Location, copy: Path, max_bytes: int, limits: media.Limits) -> None:
    try:
        with (
            copy.open("wb") as file,
            store_errors(location.shown),
            remote_path(location).open("rb") as remote,
        ):
            shutil.copyfileobj(remote, BoundedFile(file, max_bytes, limits), _CHUNK)
    except FileNotFoundError as error:
        raise media.UnreadableMediaError("The file does not exist.", remedy="Check its name.") from error
