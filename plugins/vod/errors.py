"""The root of every failure this package raises: one classification for hook, operator and trigger."""

from __future__ import annotations


class VodError(Exception):
    """A failure told to a person: what failed, for which asset, and what to do next.

    :param message: One sentence that says what failed. Never contains a secret or a signed URL.
    :param asset: The asset (VOD id, path or URL) that the failure belongs to, if it belongs to one.
    :param remedy: One sentence that says what to do; the class's :attr:`remedy` when omitted.
    """

    outcome: str = "error"
    """Stable, machine-readable name of the failure; it becomes ``AssetFailure.outcome``."""

    retryable: bool = False
    """Whether the same call, unchanged, may succeed later."""

    other_engine: bool = False
    """Whether another engine may still extract the audio, from the original."""

    remedy: str = ""

    def __init__(self, message: str, *, asset: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.asset = asset
        if remedy is not None:
            self.remedy = remedy

    def __str__(self) -> str:
        subject = f"{self.asset}: " if self.asset else ""
        return f"{subject}{self.message}{' ' + self.remedy if self.remedy else ''}"


class InvalidInputError(VodError):
    """What the caller asked for cannot be done as written; nothing was submitted."""

    outcome = "invalid_input"
