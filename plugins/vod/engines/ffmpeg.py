"""Extraction on this worker with ffmpeg."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from vod import media
from vod.batch.ledger import KillsItsProcessError, Ledger
from vod.cores import cores
from vod.engines import Outcomes
from vod.engines.claims import EngineClaims
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.errors import VodError
from vod.locations import AllowedLocations, file_stem, is_asset_id, local_path, public_name
from vod.logs import get_logger
from vod.media.sparse import Fetched
from vod.records import (
    MAX_GAPS,
    MAX_WARNINGS,
    AssetFailure,
    ExtractedAudio,
    PostponedExtraction,
    Record,
    parse_record,
    shortened,
)
from vod.storage.files import Destination, check_source, local_copy, version

if TYPE_CHECKING:
    from vod.hooks import VodHook
    from vod.library.register import Register

log = get_logger(__name__)

SPEECH_SUFFIX = ".16k.wav"
"""Ends the name of what is written for speech recognition."""

_PROGRESS_EVERY = 10.0
"""Seconds between two lines about the same asset."""
_SIGN_EVERY = 20.0
_LONGEST = 6 * 3600.0
"""Seconds for looking for earlier audio and fetching the source, when no timeout is given."""
_VOD_ROUNDS = 1.0
"""Seconds by which VOD's durations, whole seconds in its samples, may be too long."""


class UnexpectedError(VodError):
    """The extraction of one asset failed in a way that nobody has foreseen."""

    retryable = True
    remedy = "Try again. If it stays, the log of this try has the details for whoever maintains this."


class FfmpegEngine:
    """Extraction on this worker with ffmpeg. It is done when :meth:`start` returns, but for what another task
    is extracting at the same time.

    :param hook: For assets of VOD only.
    :param ledger: What an earlier try finished is not done again.
    :param register: What all tasks know together: what another task is extracting is waited for.
    :param options: What is asked of every asset, besides the format.
    :param force: Do again what an earlier run has left at the destination. What the ledger says is done, is
        done.
    :param ffmpeg: Path of the program, if the connection names one.
    :param allowed: What may be read; Airflow's configuration says it when omitted.
    :param on_record: Called with each outcome as it comes, in the calling thread.
    :param on_progress: Called with how far an asset is, in any thread.
    :raises InvalidInputError: what is asked for cannot be done.
    """

    def __init__(
        self,
        hook: VodHook | None,
        ledger: Ledger,
        audio_format: str,
        destination: Destination,
        *,
        register: Register | None = None,
        options: FfmpegOptions | None = None,
        force: bool = False,
        ffmpeg: str | None = None,
        allowed: AllowedLocations | None = None,
        on_record: Callable[[Record], None] | None = None,
        on_progress: Callable[[str, media.Progress], None] | None = None,
    ) -> None:
        self._hook = hook
        self._ledger = ledger
        self._destination = destination
        self._register = register
        self._claims = EngineClaims(register) if register else None
        self._options = options = options or FfmpegOptions()
        self._force = force
        self._output = media.Output(
            audio_format=audio_format,
            bit_rate=options.bit_rate,
            sample_rate=options.sample_rate,
            channels=options.channels,
            loudness=options.loudness,
            reencode=options.reencode,
        )
        self._selection = media.Selection(
            language=options.language, track=options.track, start=options.start, duration=options.duration
        )
        one = options.channels if isinstance(options.channels, str) else 1
        self._speech = replace(media.SPEECH, channels=one)
        self._ffmpeg = ffmpeg
        self._allowed = allowed
        self._on_record = on_record
        self._on_progress = on_progress
        self._stopping = threading.Event()

    def start(self, assets: Sequence[str]) -> Outcomes:
        """Extract each asset that no earlier try finished or found impossible, the smallest first.

        :raises InvalidInputError: one of them cannot be a source, found before anything is extracted.
        """
        for asset in assets:
            check_source(asset, self._allowed)
        outcomes: Outcomes = {}
        for asset in assets:
            try:
                earlier = self._earlier_outcome(asset)
            except VodError as error:  # the destination does not say whether its audio is there
                outcomes[asset] = self._failed(asset, error)
                continue
            if earlier:
                outcomes[asset] = earlier
                if self._on_record:
                    self._on_record(earlier)
        outcomes |= self._begin([asset for asset in assets if asset not in outcomes], {})
        return {asset: outcomes[asset] for asset in assets}

    def advance(self, outcomes: Mapping[str, Record], *, time_is_up: bool) -> Outcomes:
        """Extract what another task was working on, unless it has its audio by now."""
        waiting = {
            asset: outcome for asset, outcome in outcomes.items() if isinstance(outcome, PostponedExtraction)
        }
        if time_is_up:
            return {asset: parse_record(outcome.failure) for asset, outcome in waiting.items()}
        now = time.time()
        due = [asset for asset, outcome in waiting.items() if outcome.again <= now]
        return {**waiting, **self._begin(due, waiting)}

    def release(self, assets: Sequence[str]) -> None:
        """Let other tasks go on with assets that this one has given up."""
        if self._register:
            self._register.release(assets)

    def cancel(self) -> None:
        """End the running ffmpeg processes; what they wrote is removed."""
        self._stopping.set()

    def _begin(self, assets: list[str], waiting: Mapping[str, PostponedExtraction]) -> Outcomes:
        """Extract those that no other task is extracting."""
        if self._claims is None or not assets:
            return self._noted(self._extract(assets))
        claims = self._claims.ask(assets, waiting)
        return {
            **self._claims.taken_by_others(claims, waiting),
            **self._noted(self._extract([*claims.granted, *claims.known])),
        }

    def _noted(self, outcomes: Outcomes) -> Outcomes:
        for asset, outcome in outcomes.items():
            if not isinstance(outcome, AssetFailure):
                continue
            if not outcome.retryable:
                self._ledger.fail(asset, outcome.to_json())
                if self._register:
                    self._register.fail(asset, outcome.to_json())
            elif self._register:
                self._register.release([asset])
        self._ledger.save()
        return outcomes

    def _extract(self, assets: list[str]) -> Outcomes:
        if not assets:
            return {}
        began = time.monotonic()
        try:
            program = media.find_ffmpeg(self._ffmpeg)
        except media.FfmpegNotFoundError as error:
            return {asset: self._failed(asset, error) for asset in assets}
        # Beside the first extraction: it takes as long as a short copy.
        inspection = threading.Thread(target=self._inspect, args=(program,))
        inspection.start()
        processes = min(self._options.processes or cores(), len(assets))
        log.info("Extracting %d assets with ffmpeg, %d at a time.", len(assets), processes)
        outcomes: Outcomes = {}
        # What may have killed an earlier try is begun alone, when the rest is done.
        suspects = [asset for asset in assets if self._ledger.begun(asset)]
        rest = [asset for asset in assets if asset not in set(suspects)]
        for group, at_a_time in ((rest, processes), (suspects, 1)):
            self._extract_group(program, sorted(group, key=_bytes), at_a_time, outcomes, len(assets))
        inspection.join()
        log.info("%s", _summary([*outcomes.values()], time.monotonic() - began))
        return outcomes

    def _extract_group(
        self, program: str, assets: list[str], at_a_time: int, outcomes: Outcomes, total: int
    ) -> None:
        """Extract so many at a time into *outcomes*; each is noted as begun before it is."""
        waiting, running = deque(assets), dict[Future[ExtractedAudio], str]()
        # One more than there are threads is ready, so that none waits for the ledger.
        ready = at_a_time + 1 if at_a_time > 1 else 1
        try:
            with ThreadPoolExecutor(max_workers=at_a_time, thread_name_prefix="extract") as pool:
                try:
                    while waiting or running:
                        begun: list[str] = []
                        while waiting and len(running) + len(begun) < ready:
                            asset = waiting.popleft()
                            try:
                                self._ledger.check(asset)
                                begun.append(asset)
                            except KillsItsProcessError as error:
                                outcomes[asset] = self._failed(asset, error)
                        if begun:
                            self._ledger.begin(begun)
                        running |= {pool.submit(self._extract_one, program, asset): asset for asset in begun}
                        done = wait(running, timeout=_SIGN_EVERY, return_when=FIRST_COMPLETED).done
                        if self._register:
                            self._register.sign()
                        for future in done:
                            asset = running.pop(future)
                            outcomes[asset] = record = self._outcome(asset, future)
                            name, count = public_name(asset), len(outcomes)
                            log.info("%s: %s (%d/%d).", name, record.outcome, count, total)
                except BaseException:
                    self.cancel()
                    raise
        finally:
            for asset in running.values():  # the task is ended, and not by these
                self._ledger.forget(asset)
            self._ledger.save()

    def _outcome(self, asset: str, future: Future[ExtractedAudio]) -> Record:
        try:
            record = future.result()
        except VodError as error:
            self._ledger.forget(asset)
            return self._failed(asset, error)
        except Exception as error:
            # The trouble of one asset must not be that of the others.
            log.exception("%s: the extraction itself failed.", public_name(asset))
            self._ledger.forget(asset)
            return self._failed(asset, UnexpectedError(f"{type(error).__name__} in the extraction."))
        self._ledger.finish(asset, record.to_json(), save=False)  # with the next that is begun, or at the end
        if self._register:
            self._register.finish({asset: record.to_json()}, {})
        if self._on_record:
            self._on_record(record)
        return record

    def _inspect(self, program: str) -> None:
        try:
            ffmpeg = media.inspect(program)
            log.info("ffmpeg %s (%s)", ffmpeg.version, ffmpeg.path)
            ffmpeg.require(self._output.form.encoder)
        except media.FfmpegNotFoundError as error:
            log.warning("%s Only what can be copied will be extracted.", error)

    def _failed(self, asset: str, error: VodError) -> AssetFailure:
        failure = AssetFailure.from_error(public_name(asset), error)
        log.warning("%s", failure)
        if self._on_record:
            self._on_record(failure)
        return failure

    def _earlier_outcome(self, asset: str) -> Record | None:
        """What an earlier try has made of an asset, if that still holds."""
        entry = self._ledger.get(asset) or {}
        if "failure" in entry:
            return parse_record(entry["failure"])
        if "record" not in entry:
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

    def _extract_one(self, program: str, asset: str) -> ExtractedAudio:
        began = time.monotonic()
        timeout = self._options.timeout
        limits = media.Limits(_LONGEST if timeout is None else timeout, self._stopping)
        limits.check()
        source = _Source.describe(asset, self._hook)
        source.fingerprint = self._fingerprint(asset, limits)
        if source.fingerprint and not self._force and (earlier := self._reusable(program, source, limits)):
            return replace(earlier, seconds=round(time.monotonic() - began, 3))
        outputs = {self._name(asset): self._output}
        if self._options.speech:
            outputs[file_stem(asset) + SPEECH_SUFFIX] = self._speech
        for sound_only in (True, False):
            fetched = Fetched()
            with (
                local_copy(
                    asset,
                    self._hook,
                    max_bytes=self._options.max_bytes,
                    limits=limits,
                    allowed=self._allowed,
                    sound_of=self._selection if sound_only else None,
                    fetched=fetched,
                ) as path,
                self._destination.folder() as folder,
            ):
                try:
                    extractions = media.extract_all(
                        path,
                        {folder / name: output for name, output in outputs.items()},
                        self._selection,
                        tags=media.Tags(
                            title=source.title,
                            source=source.name,
                            fingerprint=source.fingerprint,
                            keep=self._options.keep_tags,
                        ),
                        gaps="close" if self._options.gaps == "close" else "silence",
                        truncated="keep" if self._options.truncated == "keep" else "fail",
                        strict=self._options.strict,
                        program=program,
                        # What fetching it took is part of its time.
                        timeout=None
                        if timeout is None
                        else round(max(timeout - (time.monotonic() - began), 0.0), 1),
                        expected_duration=source.duration,
                        on_progress=self._progress_of(asset),
                        cancelled=self._stopping,
                    )
                except media.MediaError:
                    if fetched.is_whole or self._stopping.is_set():
                        raise
                    continue
                if fetched.is_whole or not any(map(_may_lack_sound, extractions)):
                    break
                for extraction in extractions:
                    extraction.path.unlink()
            log.info("%s is fetched whole: its sound is odd without the rest.", public_name(asset))
        record = self._record(source, extractions, time.monotonic() - began)
        return replace(record, fetched=fetched.bytes or None, source_size=fetched.size or None)

    def _record(self, source: _Source, extractions: list[media.Extraction], seconds: float) -> ExtractedAudio:
        outputs = 2 if self._options.speech else 1
        first, others = extractions[0], extractions[outputs::outputs]
        warnings = list(first.warnings)
        if self._options.speech:
            speech = extractions[1]
            warnings += [warning for warning in speech.warnings if warning not in warnings]
            if speech.silent and not first.silent:
                warnings.append("The audio for speech recognition is silent.")
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
            speech_uri=self._destination.uri(extractions[1].path.name) if self._options.speech else None,
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
                    "offset": other.offset,
                }
                for other in others
            ],
            offset=first.offset,
            silent=first.silent,
            corrupt_frames=first.corrupt_frames,
            gaps=[asdict(gap) for gap in first.gaps[:MAX_GAPS]],
            missing=first.missing,
            copied=first.copied,
            warnings=[shortened(warning) for warning in warnings[:MAX_WARNINGS]],
        )

    def _reusable(self, program: str, source: _Source, limits: media.Limits) -> ExtractedAudio | None:
        """What an earlier run made of the same source in the same way and left at the destination."""
        assert source.fingerprint is not None
        found: list[media.Written] = []
        names = {self._name(source.asset): self._output.form}
        if self._options.speech:
            names[file_stem(source.asset) + SPEECH_SUFFIX] = media.SPEECH.form
        for name, form in names.items():
            with self._destination.reading(name) as path:
                written = path and media.recognise(program, path, form, source.fingerprint, limits=limits)
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
            speech_uri=uris[1] if self._options.speech else None,
            track=audio.provenance.track,
            language=audio.provenance.language,
            offset=audio.provenance.offset,
            silent=audio.silent,
            reused=True,
        )

    def _fingerprint(self, asset: str, limits: media.Limits) -> str | None:
        """A digest of the source and of all that shapes its audio; ``None`` when the source may have changed.

        With all tracks there is no digest, because only the source can say which files there would be; nor
        where a cut source may be kept, because only the source can say what is missing.
        """
        of_source = version(asset, limits=limits, allowed=self._allowed)
        if of_source is None or self._selection.track == media.ALL or self._options.truncated == "keep":
            return None
        options = self._options
        shape: list[object] = [asset, of_source, asdict(self._output), asdict(self._selection)]
        shape += [options.speech, options.strict, options.keep_tags, options.gaps]
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

    :param asset: As it was given; a URL may be signed.
    :param name: For the audio's tags.
    :param title: By VOD.
    :param duration: Seconds at least, by VOD.
    """

    asset: str = field(repr=False)
    name: str
    title: str | None = None
    duration: float | None = None
    fingerprint: str | None = None

    @classmethod
    def describe(cls, asset: str, hook: VodHook | None) -> _Source:
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
        title = self.title or Path(self.name).stem
        return shortened(title) if title else None


def _may_lack_sound(extraction: media.Extraction) -> bool:
    """Whether what is odd may come of bytes that were not fetched, though they are no sound by the index."""
    return bool(extraction.silent or extraction.gaps or extraction.corrupt_frames or extraction.missing)


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
