"""The records that travel in XCom: plain JSON, the same from both engines."""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from vod.errors import VodError
from vod.text import printable

Engine = Literal["vod", "ffmpeg"]
AudioFormat = Literal["MP3", "AAC"]

ENGINES: tuple[str, ...] = get_args(Engine)
AUDIO_FORMATS: tuple[str, ...] = get_args(AudioFormat)
"""What both engines make."""
LOCAL_AUDIO_FORMATS = (*AUDIO_FORMATS, "WAV", "FLAC", "OPUS")
"""What the ffmpeg engine makes."""


MAX_LENGTH_TEXT = 500
"""Characters of one text in a record: it travels through the database."""
MAX_WARNINGS = 50
MAX_GAPS = 20


def shortened(text: str) -> str:
    """*text*, cut at :data:`MAX_LENGTH_TEXT`."""
    return text if len(text) <= MAX_LENGTH_TEXT else f"{text[: MAX_LENGTH_TEXT - 1]}…"


@dataclass(frozen=True, kw_only=True)
class _Record:
    def to_json(self) -> dict[str, Any]:
        """The record as JSON-native values, as it travels in XCom: what is at its default is left out."""
        usual = {
            entry.name: entry.default if entry.default_factory is MISSING else entry.default_factory()
            for entry in fields(self)
        }
        return {
            name: value for name, value in asdict(self).items() if name == "outcome" or value != usual[name]
        }


@dataclass(frozen=True, kw_only=True)
class ExtractedAudio(_Record):
    """Audio that exists and was checked.

    :param asset: The source as the caller named it: a VOD asset id, a path or a URL.
    :param uri: Where the audio is: ``file:///…``, ``s3://…``, ``vod://<connection>/<asset>``. Never signed.
    :param audio_format: Format asked for: MP3, AAC, WAV, FLAC or OPUS.
    :param codec: Codec found in the file, for example ``mp3`` or ``aac``; ``None`` when VOD did not say.
    :param duration: Seconds; ``None`` when VOD did not say.
    :param size: Bytes; 0 when VOD did not say.
    :param sample_rate: Hz.
    :param channels: How many it has; ``None`` when nobody said.
    :param title: What the source is called in VOD; of a file or URL its name.
    :param engine: Which engine made it, ``vod`` or ``ffmpeg``.
    :param audio_asset_id: The VOD asset that holds the audio, with the ``vod`` engine.
    :param seconds: What the extraction took: by the worker's clock, or from creation to last change by VOD's,
        which counts whole seconds and includes the queue.
    :param speech_uri: Where a 16 kHz mono WAV of the same sound is, when one was asked for.
    :param track: Which audio track of the source this is, from 0.
    :param language: ISO 639-2 code of the track, when the source has one.
    :param alternatives: The source's other audio tracks, in words.
    :param others: Tracks extracted besides, when all were asked for: ``track``, ``language``, ``uri``,
        ``duration``, ``size`` and ``offset`` of each.
    :param offset: Seconds after the start of the video at which this audio starts: add it to a time in the
        audio to get the time in the video. Negative when the audio starts first.
    :param silent: There is nothing to be heard in it.
    :param corrupt_frames: Frames of the source that could not be decoded and are missing here.
    :param gaps: Where the source has no sound in between: ``start`` and ``duration`` of each in seconds of
        this audio, of the first twenty. There is silence, or it was left out, as was asked for.
    :param missing: Seconds of audio that are missing because the source was cut off, as far as is known;
        ``None`` when it is whole.
    :param fetched: Bytes of the source that were fetched; ``None`` for a local file.
    :param source_size: Bytes of the source, if it was fetched.
    :param copied: The track was taken over as it was, not encoded again.
    :param reused: An earlier run's file, made from the same source in the same way, was at the destination.
    :param warnings: What was odd and no reason to fail, one sentence each.
    :param entry: Its key in the register (:mod:`vod.library.register`); empty when it is in none.
    :param outcome: ``extracted``.
    """

    asset: str
    uri: str
    audio_format: str
    codec: str | None
    duration: float | None
    size: int
    engine: str
    sample_rate: int | None = None
    channels: int | None = None
    audio_asset_id: str | None = None
    title: str | None = None
    seconds: float | None = None
    speech_uri: str | None = None
    track: int = 0
    language: str | None = None
    alternatives: list[str] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)
    offset: float = 0.0
    silent: bool = False
    corrupt_frames: int = 0
    gaps: list[dict[str, float]] = field(default_factory=list)
    missing: float | None = None
    fetched: int | None = None
    source_size: int | None = None
    copied: bool = False
    reused: bool = False
    warnings: list[str] = field(default_factory=list)
    entry: str = ""
    outcome: Literal["extracted"] = "extracted"


@dataclass(frozen=True, kw_only=True)
class SubmittedExtraction(_Record):
    """An extraction that VOD has accepted and not finished: what ``AudioAssetSensor`` takes.

    :param asset: The source, by its VOD asset id.
    :param audio_asset_id: The VOD asset that will hold the audio.
    :param audio_format: Format asked for.
    :param accepted: When VOD accepted it, seconds since the epoch.
    :param status: State of the audio asset when VOD was last asked.
    :param gone_since: Since when VOD says that there is no such audio asset, seconds since the epoch; one
        answer is no proof.
    :param submitted_by: The other task that has submitted it, if there is one: this task waits for the same
        audio, and cancels nothing.
    :param outcome: ``submitted``.
    """

    asset: str
    audio_asset_id: str
    audio_format: str
    accepted: float
    status: str | None = None
    gone_since: float | None = None
    submitted_by: str = ""
    outcome: Literal["submitted"] = "submitted"


@dataclass(frozen=True, kw_only=True)
class PostponedExtraction(_Record):
    """An extraction that VOD does not take yet, or that another task is working on; only the operator and
    its trigger see this record.

    :param again: When to ask again at the latest, seconds since the epoch.
    :param tries: How often it was postponed.
    :param watch: Whether it is worth asking as soon as the source is no longer being processed.
    :param failure: What becomes of it when time runs out: an :class:`AssetFailure` as JSON.
    :param refused: Whether VOD refused the credential: it is asked again once VOD accepts one.
    :param holder: The task that works on it, if that is what is waited for.
    :param key: Key of its entry in the register, if another task works on it.
    """

    asset: str
    again: float
    tries: int
    watch: bool
    failure: dict[str, Any]
    refused: bool = False
    holder: str = ""
    key: str = ""
    outcome: Literal["postponed"] = "postponed"

    @property
    def given_up(self) -> AssetFailure:
        """What becomes of it when time runs out."""
        failure = parse_record(self.failure)
        assert isinstance(failure, AssetFailure)
        return failure


@dataclass(frozen=True, kw_only=True)
class Transcript(_Record):
    """What was said in one audio.

    :param asset: The source as the record of its audio names it: by it both are found.
    :param audio: URI of the audio, as the record of the audio has it.
    :param text: How it begins: at most 500 characters, without time stamps. The whole
        text is in the files.
    :param language: Language code recognised or given, for example ``en``.
    :param duration: Seconds of audio.
    :param model: Name of the speech model.
    :param uris: Files written, by caption format: ``{"txt": "file:///…", "srt": "file:///…"}``.
    :param seconds: What the transcription took.
    :param engine: What recognised it.
    :param confidence: Mean probability of the words, from 0 to 1; ``None`` without words that have one.
    :param language_probability: How sure the model is of the language, from 0 to 1; ``None``: not told.
    :param speech_seconds: Seconds in which somebody speaks.
    :param dropped: What was recognised and nobody said: ``loops`` cut, ``improbable`` pieces left out.
    :param offset: Seconds after the start of the video at which the audio starts: already in all times.
        ``None``: nobody knows, so the times are those of the audio.
    :param reused: The transcript was there, of the same audio, made in the same way.
    :param track: Which audio track of the source it is, from 0.
    :param others: The transcripts of the other tracks: ``track``, ``language``, ``outcome`` of each, with
        ``uris`` and ``confidence``, or with the ``message`` that says why there is none.
    :param fell_back: Why the fallback made it: what the engine asked for had failed with.
    :param warnings: Why the outcome is ``doubtful``, one sentence each.
    :param entry: Key of the audio in the register; empty when it is in none.
    :param outcome: ``transcribed`` or ``doubtful``.
    """

    asset: str
    audio: str
    text: str
    language: str
    duration: float
    model: str
    uris: dict[str, str]
    seconds: float | None = None
    engine: str = "whisper"
    confidence: float | None = None
    language_probability: float | None = None
    speech_seconds: float | None = None
    dropped: dict[str, int] = field(default_factory=dict)
    offset: float | None = 0.0
    reused: bool = False
    track: int = 0
    others: list[dict[str, Any]] = field(default_factory=list)
    fell_back: str = ""
    warnings: list[str] = field(default_factory=list)
    entry: str = ""
    outcome: Literal["transcribed", "doubtful"] = "transcribed"


@dataclass(frozen=True, kw_only=True)
class AssetFailure(_Record):
    """Why one asset has no result.

    :param asset: The source as the caller named it.
    :param outcome: The failure's stable name: a VOD error code or an outcome such as ``no_audio_track``.
    :param message: What failed, in one sentence.
    :param remedy: What to do, in one sentence.
    :param retryable: Whether the same call may succeed later.
    :param other_engine: Whether another engine may still extract the audio, or recognise the speech.
    """

    asset: str
    outcome: str
    message: str
    remedy: str = ""
    retryable: bool = False
    other_engine: bool = False

    @classmethod
    def from_error(cls, asset: str, error: VodError) -> AssetFailure:
        """The failure of an asset, as an error tells it."""
        return cls(
            asset=asset,
            outcome=error.outcome,
            message=shortened(error.message),
            remedy=shortened(error.remedy),
            retryable=error.retryable,
            other_engine=error.other_engine,
        )

    def __str__(self) -> str:
        subject = f"{self.asset}: " if self.asset else ""
        text = f"{subject}{self.message}{' ' + self.remedy if self.remedy else ''} [{self.outcome}]"
        return printable(text)  # a record that was read back may be anybody's


Record = ExtractedAudio | SubmittedExtraction | PostponedExtraction | Transcript | AssetFailure

_BY_OUTCOME: dict[str, type[Record]] = {
    "extracted": ExtractedAudio,
    "submitted": SubmittedExtraction,
    "postponed": PostponedExtraction,
    "transcribed": Transcript,
    "doubtful": Transcript,
}


def parse_record(record: dict[str, Any]) -> Record:
    """Read a record back from XCom. Unknown keys, written by a newer version, are ignored.

    :raises KeyError: the record names no outcome: it is not one of ours.
    :raises TypeError: a field is missing.
    """
    kind = _BY_OUTCOME.get(record["outcome"], AssetFailure)
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in record.items() if key in known})
