"""Finding ffmpeg and running it: bounded in time and memory, and ended whatever happens here."""

from __future__ import annotations

import codecs
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

from vod.media.errors import FfmpegNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vod.media.limits import Limits

FFMPEG_VARIABLE = "VOD_FFMPEG"

_TICK = 0.1
"""Seconds between two looks at the clock and at the cancel event."""
_GRACE = 1.0
"""Seconds that ffmpeg gets between SIGTERM and SIGKILL; it is deaf while it searches a damaged file."""
_LONGEST_LINE = 4096
_SENDER = re.compile(r"^(\[[^\]]*\] )+")
"""What ffmpeg puts before a line: ``[mov,mp4 @ 0x55d0] ``."""


@dataclass
class Complaints:
    """What ffmpeg wrote to stderr: how many lines, and the last ones."""

    count: int = 0
    last: deque[str] = field(default_factory=lambda: deque(maxlen=20))

    def add(self, line: str) -> None:
        text = "".join(c if c.isprintable() else "?" for c in _SENDER.sub("", line)).strip()
        if text:
            self.count += 1
            self.last.append(text[:300])

    def mention(self, *phrases: str) -> bool:
        """Whether one of the last lines contains one of the *phrases*."""
        return any(phrase in line for line in self.last for phrase in phrases)


def find_ffmpeg() -> str:
    """The ffmpeg to run: the environment variable ``VOD_FFMPEG``, else ``PATH``, else imageio-ffmpeg's own.

    :raises FfmpegNotFoundError: there is none, or ``VOD_FFMPEG`` names something that cannot be executed.
    """
    wanted = os.environ.get(FFMPEG_VARIABLE)
    if wanted:
        found = shutil.which(wanted)
        if found is None:
            raise FfmpegNotFoundError(f"{FFMPEG_VARIABLE} names {wanted}, which cannot be run.")
        return found
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise FfmpegNotFoundError("There is no ffmpeg on this machine.") from error


def run(
    command: Sequence[str], *, limits: Limits, on_position: Callable[[float], None] | None = None
) -> tuple[int, Complaints]:
    """Run one ffmpeg to its end. However this function is left, the process group is gone.

    :param on_position: Called with the seconds of output written so far.
    :returns: Exit code, and what was said on stderr.
    :raises ExtractionTimeoutError, ExtractionCancelledError: as *limits* say.
    :raises FfmpegNotFoundError: the program could not be started.
    """
    environment = {key: value for key, value in os.environ.items() if key != "FFREPORT"}
    complaints = Complaints()

    def read_progress(line: str) -> None:
        key, _, value = line.partition("=")
        if on_position is not None and key == "out_time_us" and value.strip().isdigit():
            on_position(int(value) / 1_000_000)

    try:
        process = subprocess.Popen(  # noqa: S603  (a list, no shell; names carry the file: prefix)
            [*_mortal(), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment | {"AV_LOG_FORCE_NOCOLOR": "1"},
            start_new_session=True,
        )
    except OSError as error:
        raise FfmpegNotFoundError(f"{command[0]} cannot be run: {error.strerror}.") from error
    try:
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
        return code, complaints
    finally:
        _end(process)


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
        self._rest = rest[:_LONGEST_LINE]
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
