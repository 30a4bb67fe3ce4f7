"""Finding ffmpeg and running it: bounded in time and memory, and ended whatever happens here."""

from __future__ import annotations

import codecs
import contextlib
import functools
import os
import re
import selectors
import shutil
import signal
import subprocess
from collections import deque
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

try:
    import resource
except ImportError:  # no such limits on this system
    resource = None  # type: ignore[assignment]

from vod.media.errors import FfmpegNotFoundError, TooLargeError
from vod.sandbox import kept_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vod.media.limits import Limits

FFMPEG_VARIABLE = "VOD_FFMPEG"

QUIET = ("-nostdin", "-hide_banner", "-nostats")
"""Options for running ffmpeg without a terminal."""

_TICK = 0.1
"""Seconds between two looks at the clock and at the cancel event."""
_GRACE = 1.0
"""Seconds that ffmpeg gets between SIGTERM and SIGKILL; it is deaf while it searches a damaged file."""
_MAX_LENGTH_LINE = 4096
_SENDER = re.compile(r"^((\[[^\]]*\] )+)")
"""What ffmpeg puts before a line: ``[mov,mp4 @ 0x55d0] [error] ``."""
_CORRUPT = ("Error while decoding stream", "Error submitting packet to decoder", "CRC mismatch!")
"""Said once for each packet that was lost: by ffmpeg 5, by newer ones, and for Ogg."""
_NOT_READ = "not on whitelist"
"""Said of each picture track: its decoder is not allowed, and not needed."""
_NO_MEMORY = ("Cannot allocate memory", "Failed to allocate")


@dataclass
class Complaints:
    """What ffmpeg wrote to stderr, with ``-v repeat+level+…``.

    :param count: Lines that are errors.
    :param corrupt: Frames that could not be decoded.
    :param last: The last errors.
    :param notes: The last lines of lesser weight.
    """

    count: int = 0
    corrupt: int = 0
    last: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=40))

    def add(self, line: str) -> None:
        """Take one line of stderr."""
        sender = _SENDER.match(line)
        text = "".join(c if c.isprintable() else "?" for c in _SENDER.sub("", line)).strip()[:300]
        if not text or _NOT_READ in text:
            return
        if sender and sender[1].endswith(("[warning] ", "[info] ")):
            self.notes.append(text)
            return
        self.count += 1
        self.corrupt += text.startswith(_CORRUPT)
        self.last.append(text)

    def mention(self, *phrases: str) -> bool:
        """Whether one of the last errors contains one of the *phrases*."""
        return any(phrase in line for line in self.last for phrase in phrases)


@dataclass(frozen=True)
class Progress:
    """How far an extraction is.

    :param fraction: Part that is done, 0 to 1.
    :param speed: Seconds of sound that are done in one second.
    :param left: Seconds that it will still take at this speed.
    """

    fraction: float
    speed: float | None = None
    left: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What one ffmpeg may use at most, as far as the system can hold it to that.

    :param memory: Bytes of address space.
    :param file: Bytes of one file that it writes.
    """

    memory: int = 4 << 30
    file: int = 16 << 30


def find_ffmpeg(configured: str | None = None) -> str:
    """The ffmpeg to run: the environment variable ``VOD_FFMPEG``, else *configured*, else the one on the
    ``PATH``, else imageio-ffmpeg's own.

    :raises FfmpegNotFoundError: there is none, or one that is named cannot be executed.
    """
    for wanted, who in ((os.environ.get(FFMPEG_VARIABLE), FFMPEG_VARIABLE), (configured, "The connection")):
        if wanted:
            found = shutil.which(wanted)
            if found is None:
                raise FfmpegNotFoundError(f"{who} names {wanted}, which cannot be run.")
            return found
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise FfmpegNotFoundError("There is no ffmpeg on this machine.") from error


@dataclass(frozen=True, kw_only=True)
class Ffmpeg:
    """An ffmpeg that was asked what it can.

    :param version: As it says itself, for example ``5.1.9-0+deb12u1``.
    """

    path: str
    version: str
    encoders: frozenset[str]

    def require(self, encoder: str) -> None:
        """:raises FfmpegNotFoundError: it has no such encoder."""
        if encoder not in self.encoders:
            raise FfmpegNotFoundError(
                f"ffmpeg {self.version} ({self.path}) has no encoder {encoder}.",
                remedy="Install an ffmpeg that has it; the one of `pip install imageio-ffmpeg` does.",
            )


@functools.cache
def inspect(path: str) -> Ffmpeg:
    """Ask the ffmpeg at *path* for its version and encoders, once.

    :raises FfmpegNotFoundError: it cannot be run.
    """
    try:
        answer = subprocess.run(  # noqa: S603
            [path, "-nostdin", "-encoders"],
            env=kept_environment() | {"AV_LOG_FORCE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or "it does not answer"
        raise FfmpegNotFoundError(f"{path} cannot be run: {reason}.") from error
    version = re.search(r"^ffmpeg version (\S+)", answer.stderr, re.MULTILINE)
    encoders = frozenset(re.findall(r"^ [VAS][A-Z.]{5} (\S+)", answer.stdout, re.MULTILINE))
    if answer.returncode != 0 or not encoders:
        raise FfmpegNotFoundError(f"{path} cannot be run, or is no ffmpeg.")
    return Ffmpeg(path=path, version=version[1] if version else "of unknown version", encoders=encoders)


def run(
    command: Sequence[str],
    *,
    limits: Limits,
    on_position: Callable[[float], None] | None = None,
    ceiling: Ceiling | None = None,
    stdin: int = subprocess.DEVNULL,
) -> tuple[int, Complaints]:
    """Run one ffmpeg to its end. However this function is left, the process group is gone.

    :param on_position: Called with the seconds of output written so far.
    :param ceiling: What it may use; the default of :class:`Ceiling` when omitted.
    :param stdin: A file descriptor to read from.
    :returns: Exit code, and what was said on stderr.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    :raises TooLargeError: it ran into the *ceiling*.
    :raises FfmpegNotFoundError: the program could not be started.
    """
    ceiling = ceiling or Ceiling()
    complaints = Complaints()

    def read_progress(line: str) -> None:
        key, _, value = line.partition("=")
        if on_position is not None and key == "out_time_us" and value.strip().isdigit():
            on_position(int(value) / 1_000_000)

    try:
        process = subprocess.Popen(  # noqa: S603  (a list, no shell; names carry the file: prefix)
            [*_mortal(), *command],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=kept_environment() | {"AV_LOG_FORCE_NOCOLOR": "1"},
            start_new_session=True,
        )
    except OSError as error:
        raise FfmpegNotFoundError(f"{command[0]} cannot be run: {error.strerror}.") from error
    try:
        _limit(process.pid, ceiling)
        assert process.stdout is not None
        assert process.stderr is not None
        _drain({process.stdout: read_progress, process.stderr: complaints.add}, limits)
        while True:
            limits.check()
            try:
                code = process.wait(_TICK)
                break
            except subprocess.TimeoutExpired:
                continue
        if code in {126, 127}:  # not ffmpeg's, but those of what should have started it
            raise FfmpegNotFoundError(f"{command[0]} cannot be run.")
        if code == -signal.SIGXFSZ:
            raise TooLargeError(f"The audio would be larger than {ceiling.file / 1e9:.3g} GB.")
        if code != 0 and complaints.mention(*_NO_MEMORY):
            raise TooLargeError(f"ffmpeg needed more than {ceiling.memory / 1e9:.3g} GB of memory.")
        return code, complaints
    finally:
        _end(process)


def _limit(pid: int, ceiling: Ceiling) -> None:
    if resource is None or not hasattr(resource, "prlimit"):
        return
    # The process may be gone, or have been given less already.
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (ceiling.file, ceiling.file))
        resource.prlimit(pid, resource.RLIMIT_AS, (ceiling.memory, ceiling.memory))


@functools.cache
def _mortal() -> tuple[str, ...]:
    """What makes the kernel end a program together with this process, even when that is killed itself.

    Empty where util-linux's setpriv is not at hand.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    prefix = (setpriv, "--pdeathsig", "KILL", "--")
    tried = subprocess.run([*prefix, setpriv, "--version"], capture_output=True, check=False)  # noqa: S603
    return prefix if tried.returncode == 0 else ()


def _drain(pipes: dict[IO[bytes], Callable[[str], None]], limits: Limits) -> None:
    """Hand every line of the *pipes* to its reader until all are closed."""
    with selectors.DefaultSelector() as selector:
        for pipe, reader in pipes.items():
            selector.register(pipe, selectors.EVENT_READ, _Lines(reader))
        while selector.get_map():
            limits.check()
            for key, _ in selector.select(_TICK):
                data = os.read(key.fd, 65536)
                key.data.feed(data)
                if not data:
                    selector.unregister(key.fileobj)


class _Lines:
    """Cuts bytes into lines, with a bound: what ffmpeg prints may come from a hostile file."""

    def __init__(self, reader: Callable[[str], None]) -> None:
        self._reader = reader
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, data: bytes) -> None:
        *lines, rest = re.split(r"[\r\n]", self._rest + self._decoder.decode(data, final=not data))
        for line in lines:
            self._reader(line)
        self._rest = rest[:_MAX_LENGTH_LINE]
        if not data and self._rest:
            self._reader(self._rest)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is not None:
                return
            # The process leads its own session, so its id is the group's as long as it was not waited for.
            os.killpg(process.pid, sign)
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                continue
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
