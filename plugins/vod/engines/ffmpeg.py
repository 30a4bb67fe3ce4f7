"""Extraction on this worker with ffmpeg: one of the two engines behind ExtractAudioOperator."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from vod import media
from vod.errors import InvalidInputError, VodError
from vod.locations import file_stem, is_asset_id, local_path, public_name
from vod.records import AssetFailure, ExtractedAudio, Record, parse_record
from vod.storage.files import DOWNLOAD_LIMIT, Destination, local_copy, version

if TYPE_CHECKING:
    from vod.hooks import VodHook

log = logging.getLogger(__name__)

SPEECH_SUFFIX = ".16k.wav"
"""Ends the name of what is written for speech recognition."""

_PROGRESS_EVERY = 10.0
"""Seconds between two lines about the same asset."""
_VOD_ROUNDS = 1.0
"""Seconds by which VOD's durations, whole seconds in its samples, may be too long."""


class Finished(Protocol):
    """What an earlier try of the same task did: :class:`vod.batch.ledger.Ledger`."""

    def get(self, asset: str) -> dict[str, Any] | None: ...

    def finish(self, asset: str, record: dict[str, Any]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What is asked of every asset of a batch, besides the format.

    :param language: ISO 639 code of the audio track; the default track when omitted.
    :param track: As in :class:`vod.media.Selection`, and so are *start* and *duration*.
    :param bit_rate: As in :class:`vod.media.Output`, and so are the next four.
    :param speech: Write also a 16 kHz mono WAV for speech recognition, from the same decoding.
    :param strict: Fail when frames of a source cannot be decoded.
    :param keep_tags: Take over all tags of the source.
    :param force: Do again what an earlier run has left at the destination. What a ledger says is done,
        is done.
    :param timeout: Seconds for one asset; its own duration and ten minutes when omitted.
    :param most_bytes: Of a source that is fetched.
    :param processes: ffmpeg processes at a time; one a core when omitted.
    """

    language: str | None = None
    track: int | str | None = None
    start: float = 0.0
    duration: float | None = None
    bit_rate: int | None = None
    sample_rate: int | None = None
    channels: int | str | None = None
    loudness: float | None = None
    reencode: bool = False
    speech: bool = False
    strict: bool = False
    keep_tags: bool = False
    force: bool = False
    timeout: float | None = None
    most_bytes: int = DOWNLOAD_LIMIT
    processes: int | None = None

    @classmethod
    def of(cls, asked: Mapping[str, Any]) -> Wishes:
        """Read wishes by name; a template may have made text of the values.

        :raises InvalidInputError: there is no such wish, or its value is of the wrong kind.
        """
        kinds = {entry.name: str(entry.type) for entry in fields(cls)}
        if unknown := sorted(set(asked) - set(kinds)):
            raise InvalidInputError(
                f"The ffmpeg engine has no option {unknown[0]!r}.", remedy=f"Use one of {', '.join(kinds)}."
            )
        said = {name: value for name, value in asked.items() if value not in (None, "", "None")}
        return cls(**{name: _read(name, value, kinds[name]) for name, value in said.items()})


def _read(name: str, value: Any, kind: str) -> Any:
    """*value* as the *kind* of a field of :class:`Wishes`, which is its annotation."""
    try:
        if kind == "bool":
            return {"true": True, "false": False}[str(value).lower()]
        if "str" in kind:
            return int(value) if "int" in kind and str(value).isdigit() else str(value)
        return int(value) if kind.startswith("int") else float(value)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"The option {name!r} cannot be {value!r}.", remedy=f"Give {kind}."
        ) from error


class LocalEngine:
    """Extraction on this worker with ffmpeg.

    :param hook: For assets of VOD only.
    :param ledger: What an earlier try finished is not done again.
    :param language: Short for ``Wishes(language=…)``.
    :param force: Short for ``Wishes(force=True)``.
    :param ffmpeg: Path of the program, where the connection names one.
    :param on_record: Told each outcome as it comes, in the calling thread.
    :param on_progress: Told how far an asset is, in any thread.
    :param stopping: What :meth:`cancel` sets, if somebody else is to set it.
    :raises InvalidInputError: what is asked for cannot be.
    """

    def __init__(
        self,
        hook: VodHook | None,
        ledger: Finished,
        audio_format: str,
        destination: Destination,
        *,
        language: str | None = None,
        force: bool = False,
        wishes: Wishes | None = None,
        ffmpeg: str | None = None,
        on_record: Callable[[Record], None] | None = None,
        on_progress: Callable[[str, media.Progress], None] | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._destination = destination
        self._wishes = wishes = wishes or Wishes(language=language, force=force)
        self._output = media.Output(
            audio_format=audio_format,
            bit_rate=wishes.bit_rate,
            sample_rate=wishes.sample_rate,
            channels=wishes.channels,
            loudness=wishes.loudness,
            reencode=wishes.reencode,
        )
        self._selection = media.Selection(
            language=wishes.language, track=wishes.track, start=wishes.start, duration=wishes.duration
        )
        self._ffmpeg = ffmpeg
        self._program = ""
        self._on_record = on_record
        self._on_progress = on_progress
        self._stopping = stopping or threading.Event()

    def extract(self, assets: Iterable[str]) -> dict[str, Record]:
        """Extract each asset that an earlier try did not finish, the smallest first."""
        began = time.monotonic()
        outcomes: dict[str, Record] = {}
        todo = []
        for asset in assets:
            finished = self._finished(asset)
            if finished:
                outcomes[asset] = finished
                if self._on_record:
                    self._on_record(finished)
            else:
                todo.append(asset)
        if not todo:
            return outcomes
        try:
            self._program = media.find_ffmpeg(self._ffmpeg)
        except media.FfmpegNotFoundError as error:
            return outcomes | {asset: self._failed(asset, error) for asset in todo}
        # Beside the first extraction: it takes as long as a short copy.
        looking = threading.Thread(target=self._look_at)
        looking.start()
        if swept := self._destination.sweep():
            log.info("Removed %d files that a killed run had left unfinished.", swept)
        processes = min(self._wishes.processes or _cores(), len(todo))
        log.info("Extracting %d assets with ffmpeg, %d at a time.", len(todo), processes)
        with ThreadPoolExecutor(max_workers=processes, thread_name_prefix="extract") as pool:
            futures = {pool.submit(self._extract_one, asset): asset for asset in sorted(todo, key=_bytes)}
            try:
                for done, future in enumerate(as_completed(futures), 1):
                    asset = futures[future]
                    try:
                        record: Record = future.result()
                    except VodError as error:
                        record = self._failed(asset, error)
                    except Exception as error:
                        # The trouble of one asset must not be that of the others.
                        log.exception("%s: the extraction itself failed.", public_name(asset))
                        record = self._failed(asset, VodError(f"{type(error).__name__} in the extraction."))
                    else:
                        self._ledger.finish(asset, record.to_json())
                        if self._on_record:
                            self._on_record(record)
                    outcomes[asset] = record
                    log.info("%s: %s (%d/%d).", public_name(asset), record.outcome, done, len(todo))
            except BaseException:
                self.cancel()
                raise
        looking.join()
        log.info("%s", _summary([outcomes[asset] for asset in todo], time.monotonic() - began))
        return outcomes

    def cancel(self) -> None:
        """End the running ffmpeg processes; what they wrote is removed."""
        self._stopping.set()

    def _look_at(self) -> None:
        try:
            ffmpeg = media.inspect(self._program)
            log.info("ffmpeg %s (%s)", ffmpeg.version, ffmpeg.path)
            ffmpeg.require(self._output.form.encoder)
        except media.FfmpegNotFoundError as error:
            log.warning("%s Only what can be copied will be extracted.", error)

    def _failed(self, asset: str, error: VodError) -> AssetFailure:
        failure = AssetFailure.of(public_name(asset), error)
        log.warning("%s", failure)
        if self._on_record:
            self._on_record(failure)
        return failure

    def _finished(self, asset: str) -> ExtractedAudio | None:
        entry = self._ledger.get(asset)
        if not entry or "record" not in entry:
            return None
        record = parse_record(entry["record"])
        assert isinstance(record, ExtractedAudio)
        sizes = {self._name(asset): record.size}
        sizes |= {unquote(other["uri"].rpartition("/")[2]): other["size"] for other in record.others}
        whole = all(self._destination.size(name) == size for name, size in sizes.items())
        if record.speech_uri:
            whole = whole and bool(self._destination.size(file_stem(asset) + SPEECH_SUFFIX))
        return record if whole else None

    def _name(self, asset: str) -> str:
        return file_stem(asset) + self._output.form.extension

    def _extract_one(self, asset: str) -> ExtractedAudio:
        began = time.monotonic()
        limits = media.Limits(self._wishes.timeout or float("inf"), self._stopping)
        limits.check()
        source = _Source.of(asset, self._hook)
        source.fingerprint = self._fingerprint(asset, limits)
        if source.fingerprint and not self._wishes.force and (earlier := self._reusable(source, limits)):
            return replace(earlier, seconds=round(time.monotonic() - began, 3))
        outputs = {self._name(asset): self._output}
        if self._wishes.speech:
            outputs[file_stem(asset) + SPEECH_SUFFIX] = media.SPEECH
        with (
            local_copy(asset, self._hook, most=self._wishes.most_bytes, limits=limits) as path,
            self._destination.folder() as folder,
        ):
            extractions = media.extract_all(
                path,
                {folder / name: output for name, output in outputs.items()},
                self._selection,
                tags=media.Tags(
                    title=source.title,
                    source=source.name,
                    fingerprint=source.fingerprint,
                    keep=self._wishes.keep_tags,
                ),
                strict=self._wishes.strict,
                program=self._program,
                timeout=self._wishes.timeout,
                expected_duration=source.duration,
                on_progress=self._progress_of(asset),
                cancelled=self._stopping,
            )
        return self._record(source, extractions, time.monotonic() - began)

    def _record(self, source: _Source, extractions: list[media.Extraction], seconds: float) -> ExtractedAudio:
        outputs = 2 if self._wishes.speech else 1
        first, others = extractions[0], extractions[outputs::outputs]
        return ExtractedAudio(
            asset=public_name(source.asset),
            uri=self._destination.uri(first.path.name),
            audio_format=first.audio_format,
            codec=first.codec,
            duration=first.duration,
            size=first.size,
            sample_rate=first.sample_rate,
            channels=first.channels,
            title=source.shown_title,
            engine="ffmpeg",
            seconds=round(seconds, 3),
            speech_uri=self._destination.uri(extractions[1].path.name) if self._wishes.speech else None,
            track=first.track.index,
            language=first.track.language,
            alternatives=[str(track) for track in first.alternatives],
            others=[
                {
                    "track": other.track.index,
                    "language": other.track.language,
                    "uri": self._destination.uri(other.path.name),
                    "duration": other.duration,
                    "size": other.size,
                }
                for other in others
            ],
            offset=first.offset,
            silent=first.silent,
            corrupt_frames=first.corrupt_frames,
            copied=first.copied,
            warnings=[*first.warnings],
        )

    def _reusable(self, source: _Source, limits: media.Limits) -> ExtractedAudio | None:
        """What an earlier run made of the same source in the same way and left at the destination."""
        assert source.fingerprint is not None
        found: list[media.Written] = []
        names = {self._name(source.asset): self._output.form}
        if self._wishes.speech:
            names[file_stem(source.asset) + SPEECH_SUFFIX] = media.SPEECH.form
        for name, form in names.items():
            with self._destination.reading(name) as path:
                written = path and media.recognise(
                    self._program, path, form, source.fingerprint, limits=limits
                )
            if not written:
                return None
            found.append(written)
        audio, uris = found[0], [self._destination.uri(name) for name in names]
        return ExtractedAudio(
            asset=public_name(source.asset),
            uri=uris[0],
            audio_format=self._output.audio_format,
            codec=audio.codec,
            duration=audio.duration,
            size=audio.size,
            sample_rate=audio.sample_rate,
            channels=audio.channels,
            title=source.shown_title,
            engine="ffmpeg",
            speech_uri=uris[1] if self._wishes.speech else None,
            track=audio.provenance.track,
            language=audio.provenance.language,
            offset=audio.provenance.offset,
            silent=audio.silent,
            reused=True,
        )

    def _fingerprint(self, asset: str, limits: media.Limits) -> str | None:
        """A digest of the source and of all that shapes its audio; ``None`` when the source may have changed.

        With all tracks there is none, because only the source can say which files there would be.
        """
        of_source = version(asset, limits=limits)
        if of_source is None or self._selection.track == media.ALL:
            return None
        wishes = self._wishes
        shape: list[object] = [asset, of_source, asdict(self._output), asdict(self._selection)]
        shape += [wishes.speech, wishes.strict, wishes.keep_tags]
        return hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:16]

    def _progress_of(self, asset: str) -> Callable[[media.Progress], None]:
        said = time.monotonic()

        def report(progress: media.Progress) -> None:
            nonlocal said
            if self._on_progress:
                self._on_progress(asset, progress)
            if progress.left and time.monotonic() - said >= _PROGRESS_EVERY:
                said = time.monotonic()
                percent, speed, left = progress.fraction * 100, progress.speed, progress.left
                log.info("%s: %.0f %%, %.0fx, %.0f s left", public_name(asset), percent, speed, left)

        return report


@dataclass(kw_only=True)
class _Source:
    """What is known about an asset before it is opened.

    :param name: For the audio's tags.
    :param title: By VOD.
    :param duration: Seconds at least, by VOD.
    """

    asset: str
    name: str
    title: str | None = None
    duration: float | None = None
    fingerprint: str | None = field(default=None)

    @classmethod
    def of(cls, asset: str, hook: VodHook | None) -> _Source:
        if is_asset_id(asset):
            assert hook is not None
            details = hook.client.asset_details(asset)
            duration = details.metadata.duration
            return cls(
                asset=asset,
                name=asset,
                title=details.title,
                duration=duration - _VOD_ROUNDS if duration else None,
            )
        path = local_path(asset)
        # A folder may say more than the listener is meant to know, a query more than anybody.
        name = path.name if path else Path(unquote(urlsplit(asset).path)).name
        return cls(asset=asset, name=name.encode("utf-8", "backslashreplace").decode())

    @property
    def shown_title(self) -> str | None:
        return self.title or Path(self.name).stem or None


def _cores() -> int:
    """Cores that this process may use; a container or `taskset` may leave it fewer than there are."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def _bytes(asset: str) -> float:
    """Size of a local file. Sources whose size is not known come last."""
    path = None if is_asset_id(asset) else local_path(asset)
    try:
        return path.stat().st_size if path else float("inf")
    except (OSError, ValueError):
        return 0  # it fails at once


def _summary(records: list[Record], seconds: float) -> str:
    audio = [record for record in records if isinstance(record, ExtractedAudio)]
    hours = sum(record.duration or 0 for record in audio) / 3600
    megabytes = sum(record.size for record in audio) / 1e6
    rest = f", {len(records) - len(audio)} failed" if len(records) > len(audio) else ""
    reused = sum(record.reused for record in audio)
    return (
        f"Extracted {len(audio)} of {len(records)} assets in {seconds:.1f} s{rest}"
        f"{f', {reused} were there already' if reused else ''}: {hours:.2f} h of audio, {megabytes:.1f} MB."
    )
