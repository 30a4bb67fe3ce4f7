"""Files and folders that exist only while a process works on them.

Each is locked by its process. The kernel drops the lock when the process ends, however it ends: what another
process of the same machine can lock was left behind, and is removed. Some network file systems keep locks to
one machine or know none, so a file of another machine counts as left behind only when besides nobody has
written to it for a day.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import secrets
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # no such locks on this system; nothing is swept there
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

SAFE_AGE = 24 * 3600.0
"""Seconds without a write after which a partial file of another machine counts as left behind.

What writes one goes on all the time. The longest silence, a source that is fetched meanwhile, ends after six
hours; the rest is for clocks that differ.
"""

_PARTIAL = ".vod-*.part"
_SCRATCH = "vod-scratch-"


@contextlib.contextmanager
def partial_beside(target: Path) -> Iterator[Path]:
    """Give a new hidden file in *target*'s folder; what was not renamed by the end is removed.

    :raises OSError: it cannot be created.
    """
    while True:
        # The target's own name could be too long to be prefixed. The name says whose locks count for it.
        path = target.with_name(f".vod-{_kernel()}-{secrets.token_hex(8)}.part")
        # No wider permissions than the folder gives.
        mode = target.parent.stat().st_mode & 0o666
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        if _lock(descriptor) is not False and _is_still(descriptor, path):
            break
        os.close(descriptor)  # a sweep was quicker than the lock
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a new folder for temporary files; it is removed with all that is in it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_SCRATCH))
        descriptor = _open_folder(path)
        if descriptor is not None:
            if _lock(descriptor) is not False and _is_still(descriptor, path):
                break
            os.close(descriptor)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def sweep(folder: Path | None = None) -> int:
    """Remove what killed processes left in *folder*, and of their temporary folders.

    :returns: How many files and folders.
    """
    if fcntl is None:
        return 0
    left = [*(folder.glob(_PARTIAL) if folder else ()), *Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*")]
    return sum(_remove_if_left(path) for path in left)


@functools.cache
def _kernel() -> str:
    """A name for all processes that see each other's locks: those of one kernel, whatever their container."""
    try:
        identity = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        identity = f"{platform.node()} {uuid.getnode()}"
    return hashlib.sha256(identity.encode()).hexdigest()[:8]


def _may_be_left(path: Path, status: os.stat_result, *, locked: bool | None) -> bool:
    """Whether nobody works on it.

    :param locked: What :func:`_lock` said.
    """
    if locked is False:
        return False
    if locked and (path.name.startswith(_SCRATCH) or path.name.startswith(f".vod-{_kernel()}-")):
        return True
    return path.name.startswith(".vod-") and time.time() - status.st_mtime > SAFE_AGE


def _remove_if_left(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        locked = _lock(descriptor)
        if not _may_be_left(path, os.fstat(descriptor), locked=locked) or not _is_still(descriptor, path):
            return False
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
        return not path.exists()
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether the lock is ours now; ``None`` where the file system knows no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _open_folder(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
