"""The failures between a video and its audio."""

from __future__ import annotations

import errno

from vod.errors import VodError
from vod.text import printable


class MediaError(VodError):
    """A source that cannot become audio, or audio that could not be written."""

    outcome = "media_error"


class UnreadableMediaError(MediaError):
    """The source is missing, not a regular file, not permitted, or no media that is read here."""

    outcome = "unreadable"
    remedy = "Check that the file plays in a media player, or name another file."


class CrashedReaderError(UnreadableMediaError):
    """What reads the source crashed: a bug in a decoder, or an attempt to use one. Nothing else was hit."""

    outcome = "reader_crashed"
    remedy = "Do not open the file elsewhere before you know where it comes from; convert it in a safe place."


class ReaderNotStartedError(MediaError):
    """The process that reads sources cannot be started."""

    outcome = "reader_not_started"
    retryable = True
    remedy = (
        "See that PyAV is installed (`python -m vod check`) and that this machine is not out of processes."
    )


class EmptyTrackError(MediaError):
    """The source announces audio and then delivers none."""

    outcome = "empty_track"
    remedy = "The recording has no sound in it; export it again from where it came."


class UnsupportedTrackError(MediaError):
    """The audio track's codec is damaged or unknown."""

    outcome = "unsupported"
    remedy = "Convert the file with the tool that made it, or choose another track by its language."


class UndecodableTrackError(UnsupportedTrackError):
    """Most of the audio track does not decode, or nothing of it."""


class EncryptedTrackError(MediaError):
    """The audio is encrypted (DRM)."""

    outcome = "encrypted"
    remedy = "Get a copy without encryption from whoever made the file."


class ChannelNotFoundError(MediaError):
    """The track does not have the channel that was asked for."""

    outcome = "channel_not_found"
    remedy = "Choose one of the channels that it has, or leave the channels out."


class LanguageNotFoundError(MediaError):
    """No audio track has the language asked for."""

    outcome = "language_not_found"
    remedy = "Choose one of these languages, or leave the language out to take the default track."


class TrackNotFoundError(MediaError):
    """No audio track has the number or mark asked for."""

    outcome = "track_not_found"
    remedy = "Choose one of these tracks, or leave the track out to take the default one."


class CorruptFramesError(MediaError):
    """Frames of the source cannot be decoded, and the caller asked for all or nothing.

    :param frames: How many.
    """

    outcome = "corrupt"
    remedy = "Export or upload the file again, or extract it without `strict` and do without these frames."

    def __init__(
        self, message: str, *, asset: str | None = None, remedy: str | None = None, frames: int = 0
    ) -> None:
        super().__init__(message, asset=asset, remedy=remedy)
        self.frames = frames


class TooLargeError(MediaError):
    """The source, the audio, or the memory that ffmpeg needs for it is larger than what was allowed."""

    outcome = "too_large"
    remedy = "Check the file; raise the limit if it is really this large."


class DownloadError(MediaError):
    """The source could not be fetched from where its URL says."""

    outcome = "download_failed"
    retryable = True
    remedy = "Check the URL, and that this machine reaches it."
    retry_after: str | None = None
    """What the server said of when to ask again."""

    def __init__(
        self, message: str, *, asset: str | None = None, remedy: str | None = None, retryable: bool = True
    ) -> None:
        super().__init__(message, asset=asset, remedy=remedy)
        self.retryable = retryable


class SlowDownloadError(DownloadError):
    """The source came in drops."""

    outcome = "download_too_slow"
    remedy = "Try again later, or copy the file to a faster server."


class TruncatedMediaError(MediaError):
    """The end of the source is missing.

    :param missing: Seconds of audio that are missing; an estimate when the source itself does not say,
        ``None`` when nothing could be read.
    """

    outcome = "truncated"
    remedy = "Copy or upload the file again, completely."

    def __init__(
        self,
        message: str,
        *,
        asset: str | None = None,
        remedy: str | None = None,
        missing: float | None = None,
    ) -> None:
        super().__init__(message, asset=asset, remedy=remedy)
        self.missing = missing


class ExtractionTimeoutError(MediaError):
    """The extraction took longer than it was given."""

    outcome = "timeout"
    remedy = "Raise the timeout, or check the file."


class ExtractionCancelledError(MediaError):
    """The extraction was asked to stop; nothing was left behind."""

    outcome = "cancelled"
    retryable = True
    remedy = "Start it again to go on."


class NoSpaceError(MediaError):
    """The destination's disk is full."""

    outcome = "no_space"
    retryable = True
    remedy = "Free space at the destination, or choose another one, and run it again."


class DestinationError(MediaError):
    """The destination cannot be written to.

    :param retryable: Whether that may pass, as the trouble of a network file system does.
    """

    outcome = "destination"
    remedy = "Choose a destination that this process may write to."

    def __init__(
        self, message: str, *, asset: str | None = None, remedy: str | None = None, retryable: bool = False
    ) -> None:
        super().__init__(message, asset=asset, remedy=remedy)
        self.retryable = retryable


_WILL_NOT_PASS = {
    *(errno.EACCES, errno.EEXIST, errno.EFBIG, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.ENODEV, errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EPERM, errno.EROFS),
}


def not_done(path: object, what: str, error: OSError) -> MediaError:
    """What the system says about a file or folder, in our own terms.

    :param what: What could not be done: ``written``, ``made`` and so on.
    """
    shown = printable(str(path))
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpaceError(f"There is no space left for {shown}.")
    message = f"{shown} cannot be {what}: {error.strerror}."
    if error.errno in _WILL_NOT_PASS:
        return DestinationError(message)
    return DestinationError(
        message, remedy="Try again once the file system that holds it is in order.", retryable=True
    )


class FfmpegError(MediaError):
    """ffmpeg failed, or wrote something that is not the audio it was asked for."""

    outcome = "ffmpeg_failed"
    remedy = "Check the file in a media player; a damaged file has to be exported again."


class FfmpegNotFoundError(MediaError):
    """No ffmpeg that can be run."""

    outcome = "ffmpeg_missing"
    remedy = "Install the program ffmpeg, or the package that contains it: pip install imageio-ffmpeg."
