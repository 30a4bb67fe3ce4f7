"""What has become of the text of each audio: an entry beside the audio's own in the register.

The entry of an audio is its extraction's; another task that wrote to it could undo a claim. So the text has
an entry of its own, which is found by the key of the audio's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vod.library.register import Store, searchable
from vod.logs import get_logger
from vod.records import AssetFailure, ExtractedAudio, Transcript

log = get_logger(__name__)

STATES = ("transcribing", "done", "doubtful", "failed")
"""Of a text: being recognised, recognised, recognised with warnings, impossible."""

_AUDIO, _TEXT = "audio_", "text_"


def text_key(entry: str) -> str:
    """The key of the text's entry, by that of the audio's."""
    return _TEXT + entry.removeprefix(_AUDIO)


class Texts:
    """The entries of texts.

    :param store: That of the register.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, audio: ExtractedAudio) -> None:
        """Note that the audio is being transcribed."""
        self._write(audio, "transcribing", {})

    def end(self, audio: ExtractedAudio, outcome: Transcript | AssetFailure) -> None:
        """Note what became of it."""
        if isinstance(outcome, AssetFailure):
            self._write(audio, "failed", {"failure": outcome.to_json()})
        else:
            state = "doubtful" if outcome.outcome == "doubtful" else "done"
            self._write(audio, state, {"record": outcome.to_json()}, outcome.text, outcome.language)

    def _write(
        self, audio: ExtractedAudio, state: str, more: Mapping[str, Any], text: str = "", language: str = ""
    ) -> None:
        if audio.entry.startswith(_AUDIO):  # otherwise nobody has registered the audio
            head = searchable(state, "text", text, language=language)
            try:
                self._store.set(text_key(audio.entry), {**head, "audio": audio.uri, **more})
            except Exception as error:  # noqa: BLE001 - it is for people to read; the text itself is elsewhere
                log.info("The register cannot be changed here: %s", error)
