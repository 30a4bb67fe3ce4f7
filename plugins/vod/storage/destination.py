"""Where results land: a folder in which each file appears whole or not at all."""

from __future__ import annotations

import glob
import inspect
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vod import media
from vod.errors import InvalidInputError
from vod.locations import AllowedLocations, Kind, parse_location, public_name
from vod.logs import get_logger
from vod.storage.errors import FolderNotSeenError, StorageError, StorageRefusedError, store_errors
from vod.storage.sources import PACKAGES, allowed_locations, local_copy, remote_path

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

log = get_logger(__name__)

T = TypeVar("T")

MARK = ".vod-folder"
"""Name of the file whose text tells a local folder from every other."""

_APPEARS_WHOLE = frozenset(PACKAGES) | {"oss"}
"""Schemes whose stores show an object only when all of it has arrived. Elsewhere it is renamed at the end."""

_UPLOAD_OPTIONS = {"chunksize": 16 << 20, "max_concurrency": 4, "overwrite": True}
"""What file systems are told that know these words. Of each upload s3fs would hold 500 MB in memory."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a file to write beside *path*; it takes that one's place once it is whole."""
    with media.partial_beside(path) as part:
        yield part
        part.replace(path)


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
        self._location = parsed
        self._folder = parsed.path
        self._remote = remote_path(parsed) if self._folder is None else None
        self._allowed = AllowedLocations()
        self._swept = False
        self._seen = False

    def uri(self, name: str) -> str:
        """URI of the file of that name."""
        return str(self._remote / name) if self._remote else (self._require_folder() / name).as_uri()

    def check(self) -> None:
        """Write and remove a small file, so that what is wrong shows before anything is done.

        A folder is made if it is not there. On object storage this takes two requests.

        :raises vod.media.DestinationError: the folder cannot be made or written to.
        :raises StorageRefusedError: the object store refuses: no keys, wrong ones, no permission, no bucket.
        :raises StorageError: it does not answer.
        :raises vod.media.NoSpaceError: there is no space left.
        """
        name = f".vod-{secrets.token_hex(8)}.check"
        if self._remote is None:
            with (
                self.folder() as folder,
                _local_errors(folder, "written to"),
                media.partial_beside(folder / name),
            ):
                return
        shown = self._location.shown
        try:
            with store_errors(shown, writing=True):
                path = self._remote / name
                path.fs.pipe_file(path.path, b"vod")
            try:
                with store_errors(shown, writing=True):
                    path.fs.rm_file(path.path)
            except StorageRefusedError as error:
                error.message = f"In {shown} these keys may write, but not delete: {name} stays there."
                error.remedy = "Permit deleting as well: what arrives damaged has to be removed."
                raise
        except StorageError as error:
            if self._is_anonymous():
                error.message = f"{error.message} The access is anonymous."
                error.remedy = self._how_to_log_in()
            raise

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a path to write to; when the block ends well the file is under :meth:`uri`.

        For a local folder this is the final path: its writer renames a finished file onto it
        (:func:`replacing`).
        """
        with self.folder() as folder:
            yield folder / name

    def mark(self) -> str | None:
        """A text that tells this folder from every other; it is written there the first time.

        :returns: ``None`` on object storage, and where a file cannot be linked.
        :raises vod.media.DestinationError: the folder cannot be made or written to.
        """
        if self._folder is None:
            return None
        file = self._folder / MARK
        with _local_errors(self._folder, "written to"):
            self._folder.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                with media.partial_beside(file) as part:
                    part.write_text(secrets.token_hex(16))
                    try:
                        file.hardlink_to(part)  # of several tasks one is first
                    except FileExistsError:
                        pass
                    except OSError:
                        return None
            return file.read_text()

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Give a folder to write files to; when the block ends well all of them are under :meth:`uri`.

        What killed processes left there is removed first.

        :raises vod.media.DestinationError: the folder cannot be made.
        :raises StorageError: the object store did not take the files. None of them is there in part.
        """
        self._sweep_once()
        if self._remote is None:
            folder = self._require_folder()
            with _local_errors(folder, "made"):
                folder.mkdir(parents=True, exist_ok=True)
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

    def size(self, name: str) -> int | None:
        """Bytes of the file of that name; ``None`` when there is none.

        :raises StorageError: the store does not say.
        """
        return self._asked(name, lambda path: int(path.stat().st_size))

    def read(self, name: str) -> bytes | None:
        """Contents of the file of that name; ``None`` when there is none.

        :raises StorageError: the store does not deliver it.
        """
        return self._asked(name, lambda path: path.read_bytes())

    def names(self, prefix: str = "") -> list[str]:
        """Names of what lies there; none when the folder does not exist.

        :param prefix: Only those that begin so. An object store is asked for no others.
        :raises StorageError: the store does not say.
        """

        def listed(path: Any) -> list[str]:
            if self._remote is None:
                return [entry.name for entry in path.glob(f"{glob.escape(prefix)}*")]
            root = path.path.rstrip("/")
            found = [name.removeprefix(f"{root}/") for name in path.fs.find(root, prefix=prefix)]
            return [name for name in found if name.startswith(prefix) and "/" not in name]

        return self._asked("", listed) or []

    def lacks(self, name: str) -> bool:
        """Whether the file of that name is gone, for certain.

        An absent or empty folder may be a disk that is not mounted here, so something else must be found in
        it. A link counts as there, whatever it leads to. On object storage this takes two requests for what
        is gone, and the first time up to ten.

        :raises FolderNotSeenError: nothing is found in the folder.
        :raises vod.media.DestinationError: the folder cannot be read.
        :raises StorageError: the store does not say.
        """
        if self.size(name) is not None:
            return False
        prefix, found = name, self.names(name)
        while not found and not self._seen:
            if not prefix:
                raise FolderNotSeenError("The folder is absent or empty.", asset=self._location.shown)
            prefix = prefix[: len(prefix) // 2]  # the whole list may be long
            found = self.names(prefix)
        self._seen = True
        return name not in found

    def remove(self, name: str) -> None:
        """Remove the file of that name, if there is one.

        :raises StorageError: the store refuses.
        """
        if self.size(name) is None:
            return
        if self._remote is None:
            path = self._require_folder() / name
            with _local_errors(path, "removed"):
                path.unlink(missing_ok=True)
            return
        with store_errors(public_name(self.uri(name)), writing=True):
            remote = self._remote / name
            remote.fs.rm_file(remote.path)

    def _asked(self, name: str, ask: Callable[[Any], T]) -> T | None:
        try:
            if self._remote is None:
                path = self._require_folder() / name
                with _local_errors(path, "read"):
                    return ask(path)
            with store_errors(public_name(self.uri(name))):
                return ask(self._remote / name)
        except FileNotFoundError:
            return None

    def _sweep_once(self) -> None:
        if not self._swept:
            self._swept = True
            if swept := self.sweep():
                log.info("Removed %d files that a killed run had left unfinished.", swept)

    def _upload(self, file: Path) -> None:
        assert self._remote is not None
        shown = public_name(self.uri(file.name))
        with store_errors(shown, writing=True):
            path = self._remote / file.name
            fs, final = path.fs, path.path
            whole = self._location.scheme in _APPEARS_WHOLE
            part = final if whole else f"{path.parent.path}/.vod-{secrets.token_hex(8)}.part"
            try:
                fs.put_file(str(file), part, **_understood(fs, _UPLOAD_OPTIONS))
                arrived, size = fs.info(part)["size"], file.stat().st_size
                if arrived != size:
                    _remove(fs, part)
                    raise StorageError(f"Of {shown} {arrived} of {size} bytes arrived; they were removed.")
                if not whole:
                    fs.mv(part, final)
            finally:
                if not whole:
                    _remove(fs, part)

    def _is_anonymous(self) -> bool:
        assert self._remote is not None
        with suppress(Exception):
            return bool(getattr(self._remote.fs, "anon", False))
        return False

    def _how_to_log_in(self) -> str:
        where = self._location
        if where.connection:
            return f"Give the connection {where.connection} keys, or the worker credentials."
        example = f"{where.scheme}://aws_default@{where.host}{where.name}"
        return f"Name a connection in the URL, such as {example}, or give the worker credentials."

    def _require_folder(self) -> Path:
        assert self._folder is not None
        return self._folder


def _understood(fs: AbstractFileSystem, options: dict[str, Any]) -> dict[str, Any]:
    """Those options that a file system's upload has by name."""
    known = inspect.signature(getattr(fs, "_put_file", fs.put_file)).parameters
    return {name: value for name, value in options.items() if name in known}


def _remove(fs: AbstractFileSystem, path: str) -> None:
    with suppress(Exception):  # usually it is not there
        fs.rm_file(path)


@contextmanager
def _local_errors(path: Path, what: str) -> Iterator[None]:
    """Put what the system says about a local file into our own terms; a read passes on what is missing."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        if what == "read":
            raise FileNotFoundError(error.errno, error.strerror) from error
        raise media.not_done(path, what, error) from error
    except OSError as error:
        raise media.not_done(path, what, error) from error


def not_written(uri: str, error: OSError) -> media.MediaError:
    """The failure to write a file, in our own terms."""
    return media.not_done(uri, "written", error)
