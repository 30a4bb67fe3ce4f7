"""The audio of one asset by ffmpeg: its source fetched, its record written."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from vod import media
from vod.cores import one_core
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.locations import BY_FFMPEG, AllowedLocations, audio_stem, is_asset_id, local_path, public_name
from vod.logs import get_logger
from vod.media.sparse import Fetched
from vod.records import MAX_GAPS, MAX_WARNINGS, ExtractedAudio, shortened
from vod.storage.destination import Destination
from vod.storage.sources import local_copy, version

if TYPE_CHECKING:
    import threading

    from vod.hooks import VodHook

log = get_logger(__name__)

_SPEECH_SUFFIX = ".16k.wav"
"""Ends the name of what is written for speech recognition."""

_PROGRESS_EVERY = 10.0
"""Seconds between two lines about the same asset."""
_LONGEST = 6 * 3600.0
"""Seconds for looking for earlier audio and fetching the source, when no timeout is given."""
_VOD_ROUNDS = 1.0
"""Seconds by which VOD's durations, whole seconds in its samples, may be too long."""


class AssetExtraction:
    """What is done with each asset of a batch; safe to use by several threads.

    The parameters are those of :class:`vod.engines.ffmpeg.FfmpegEngine`.

    :param stopping: Set when the extraction is to end.
    """

    def __init__(
        self,
        hook: VodHook | None,
        destination: Destination,
        audio_format: str,
        options: FfmpegOptions,
        *,
        force: bool,
        allowed: AllowedLocations | None,
        on_progress: Callable[[str, media.Progress], None] | None,
        stopping: threading.Event,
    ) -> None:
        self._hook = hook
        self._destination = destination
        self._options = options
        self._force = force
        self._allowed = allowed
        self._on_progress = on_progress
        self._stopping = stopping
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

    @property
    def encoder(self) -> str:
        """ffmpeg's name of the encoder that is needed where nothing can be copied."""
        return self._output.form.encoder

    def name(self, asset: str) -> str:
        """The file name of an asset's audio: of its own, unless it was made by the same wishes."""
        return self._stem(asset) + self._output.form.extension

    def speech_name(self, asset: str) -> str:
        """The file name of an asset's audio for speech recognition."""
        return self._stem(asset) + _SPEECH_SUFFIX

    def _stem(self, asset: str) -> str:
        return audio_stem(asset, self._options.variant or (BY_FFMPEG if is_asset_id(asset) else ""))

    def run(self, program: str, asset: str) -> ExtractedAudio:
        began = time.monotonic()
        timeout = self._options.timeout
        limits = media.Limits(_LONGEST if timeout is None else timeout, self._stopping)
        limits.check()
        source = _Source.describe(asset, self._hook)
        source.fingerprint = self._fingerprint(asset, limits)
        if source.fingerprint and not self._force and (earlier := self._reusable(program, source, limits)):
            return replace(earlier, seconds=round(time.monotonic() - began, 3))
        done = self._extracted(program, source, limits, sound_only=True)
        if done is None:
            log.info("%s is fetched whole: its sound is odd without the rest.", public_name(asset))
            done = self._extracted(program, source, limits, sound_only=False)
        assert done is not None
        extractions, fetched = done
        record = self._record(source, extractions, time.monotonic() - began)
        return replace(record, fetched=fetched.bytes or None, source_size=fetched.size or None)

    def _extracted(
        self, program: str, source: _Source, limits: media.Limits, *, sound_only: bool
    ) -> tuple[list[media.Extraction], Fetched] | None:
        """The audio that was written, and what was fetched for it.

        :param sound_only: Fetch only what holds sound, if that is quicker.
        :returns: ``None`` when that is not enough for this source.
        """
        fetched = Fetched()
        with self._destination.folder() as folder:
            outputs = {folder / self.name(source.asset): self._output}
            if self._options.speech:
                outputs[folder / self.speech_name(source.asset)] = self._speech
            wishes: dict[str, Any] = {
                "outputs": outputs,
                "selection": self._selection,
                "tags": media.Tags(
                    title=source.title,
                    source=source.name,
                    fingerprint=source.fingerprint,
                    keep=self._options.keep_tags,
                ),
                "gaps": self._options.gaps,
                "strict": self._options.strict,
                "program": program,
            }
            with (
                media.Ahead(**wishes, timeout=limits.timeout) as ahead,
                local_copy(
                    source.asset,
                    self._hook,
                    max_bytes=self._options.max_bytes,
                    limits=limits,
                    allowed=self._allowed,
                    sound_of=self._selection if sound_only else None,
                    fetched=fetched,
                    on_fetch=ahead.begin,
                ) as path,
            ):
                if not fetched.restarts:
                    ahead.end()
                try:
                    with one_core(self._check_cancelled, among=self._options.processes) as waited:
                        extractions = media.extract_all(
                            path,
                            **wishes,
                            truncated=self._options.truncated,
                            # What fetching it took is part of its time, and waiting for a core is not.
                            timeout=self._options.timeout and limits.left + waited,
                            expected_duration=source.duration,
                            on_progress=self._progress_of(source.asset),
                            cancelled=self._stopping,
                            ahead=ahead,
                        )
                except media.MediaError:
                    if fetched.is_whole or self._stopping.is_set():
                        raise
                    return None
            if fetched.is_whole or not any(map(_may_lack_sound, extractions)):
                return extractions, fetched
            for extraction in extractions:
                extraction.path.unlink()
            return None

    def _check_cancelled(self) -> None:
        media.Limits(_LONGEST, self._stopping).check()

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
        names = {self.name(source.asset): self._output.form}
        if self._options.speech:
            names[self.speech_name(source.asset)] = media.SPEECH.form
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
        shape += [options.strict, options.keep_tags, options.gaps]
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
