"""The failures of this package, and their root: one classification for hook, operators, sensor and triggers.

Each class lives beside what raises it; messages say what failed, for which asset, and what to do::

    VodError
      InvalidInputError                the input cannot work as written; nothing was submitted
        InvalidConnectionError
          InsecureEndpointError        plain http://, not to this machine
        InvalidLocationError           no asset id, path or URL
        LocationNotAllowedError        [vod] allowed_locations
        SignedUrlError                 a secret in a form
        InvalidManifestError           a list of assets
        ResultsNotWritableError        the place of a list, for its results
        FolderNotSharedError           a local destination, several machines
        TooManyAssetsError
        OverLimitError                 [vod] run_limits
      NoAudioTrackError                readable, but without sound
      CloudError                       VOD or the gateway before it
        InvalidRequestError
        AuthenticationError
        ForbiddenError
        AccountError
        AssetNotFoundError
        AssetNotSupportedError
        SourceNotReadyError            retryable
        ThrottledError                 retryable
        ServiceError                   retryable
        NotSentError                   retryable
        AnswerLostError                retryable
        IncompleteListError            may be retryable
        TransferError                  retryable
        ExtractionFailedError
        AmbiguousExtractionError
      MediaError                       a source, its audio, or ffmpeg
        UnreadableMediaError
          CrashedReaderError           a decoder crashed
        ReaderNotStartedError          retryable
        EmptyTrackError
        UnsupportedTrackError
          UndecodableTrackError
        EncryptedTrackError
        ChannelNotFoundError
        LanguageNotFoundError
        TrackNotFoundError
        CorruptFramesError
        TruncatedMediaError
        TooLargeError
        DownloadError                  mostly retryable
          AddressNotAllowedError       a private network
          SlowDownloadError            retryable
        ExtractionTimeoutError
        ExtractionCancelledError       retryable
        NoSpaceError                   retryable
        DestinationError               retryable if its file system is out of order
        FfmpegError
        FfmpegNotFoundError
      StorageError                     retryable; object storage, or the way to it
        StorageRefusedError            no keys, wrong ones, no permission, no such bucket
        FolderNotSeenError             absent or empty: perhaps not mounted here
      SpeechError                      recognition
        SpeechNotInstalledError
        ModelNotFoundError
          ModelDownloadError           retryable
        UnusableModelError
        UnsupportedLanguageError
        UnreadableAudioError
        LanguageMismatchError
        RecogniserCrashedError         retryable once
        OutOfMemoryError
        RecognitionTimeoutError
        CancelledError                 retryable
        RecognitionFailedError         retryable
        UnreachableServerError         retryable; a server that recognises speech
        ServerBusyError                retryable
        ServerRefusedError
        ServerAnswerError
        UnreachableAudioError          a service that fetches the audio itself
        UnsuitableAudioError
        OrderLostError
        OrderFailedError
      TranscriptionError               retryable
      UnexpectedError                  retryable; in an extraction by ffmpeg
      CopyFailedError                  retryable; from VOD to the destination
      KillsItsProcessError             the worker process died of it
      AudioNotReadyError               retryable; the time was up
      QuotaUsedUpError                 retryable; its turn had not come when the time was up
      ClaimedElsewhereError            retryable; another task was still extracting it
      SubmissionStoppedError           retryable; the task was ended
      AssetsFailedError                a batch; retryable if one of its failures is
      NoDatabaseError                  the command `cleanup`
      LibraryInUseError                the stand-in
"""

from __future__ import annotations

from vod.text import printable


class VodError(Exception):
    """A failure in words: what failed, for which asset, and what to do next.

    Each is on one line, whatever a file or a service has put into it (:func:`vod.text.printable`).

    :param message: One sentence that says what failed. Never contains a secret or a signed URL.
    :param asset: The asset (VOD id, path or URL) that the failure belongs to, if it belongs to one.
    :param remedy: One sentence that says what to do; the class's :attr:`remedy` when omitted.
    """

    outcome: str = "error"
    """Stable, machine-readable name of the failure; it becomes ``AssetFailure.outcome``."""

    retryable: bool = False
    """Whether the same call, unchanged, may succeed later."""

    other_engine: bool = False
    """Whether another engine may still do it: extract the audio, or recognise the speech."""

    remedy: str = ""

    def __init__(self, message: str, *, asset: str | None = None, remedy: str | None = None) -> None:
        message = printable(message)
        super().__init__(message)
        self.message = f"{message}." if message[-1:].isalnum() else message
        self.asset = asset
        if remedy is not None:
            self.remedy = printable(remedy)

    @property
    def asset(self) -> str | None:
        """The asset that the failure belongs to."""
        return self._asset

    @asset.setter
    def asset(self, asset: str | None) -> None:
        self._asset = None if asset is None else printable(asset)

    def __str__(self) -> str:
        subject = f"{self.asset}: " if self.asset else ""
        return f"{subject}{self.message}{' ' + self.remedy if self.remedy else ''}"


class InvalidInputError(VodError):
    """What the caller asked for cannot be done as written; nothing was submitted."""

    outcome = "invalid_input"


class NoAudioTrackError(VodError):
    """The file is readable, and holds no audio track."""

    outcome = "no_audio_track"
    remedy = "Leave this asset out, or name a version of it that has sound."
