"""Finds the audio assets of submissions whose answers were lost (contract, section 3).

An extracted audio asset carries the title of its source, and that is all that VOD says about where it comes
from. Titles are not unique, so a candidate is taken only if nothing else can be true. Whatever cannot be told
stays open, to be looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache

from vod.cloud.assets import Asset, AssetSummary, Metadata, Readiness
from vod.cloud.client import IDS_PER_CALL, VodClient
from vod.cloud.titles import same_title

RECOVERY_WINDOW = 180.0
"""Seconds over which looks are spread before it is believed that VOD has not accepted a submission: its list
may show a new asset a minute after its creation, or later; the contract has no number."""

MIN_LOOKS = 3
"""Looks that are needed to believe that."""

_BEFORE = 10.0
"""Seconds by which two clocks of VOD, that of its ``Date`` and that of its records, may differ."""
_AFTER = 120.0
"""Seconds that a request may be on its way, or be worked on, after whoever sent it has gone."""
_NEARBY = 1800.0
"""Seconds before and after the window in which a candidate still is a reason for doubt."""

_SAME_SOUND = 1.5
"""Seconds by which the durations of a video and of its audio may differ."""
_ROUNDING = 1.0
"""Seconds by which a duration in whole seconds may differ from the truth: rounded up or down, by edition."""

_OF_EXTRACTIONS = ("WAITING_TRANSCODE", "TRANSCODING", "TRANSCODE_SUCCEED")
"""States that only an extraction takes audio through: VOD does not transcode audio (sections 5.2 and 5.3)."""
_UNDER_WAY = ("WAITING_TRANSCODE", "TRANSCODING")
_WITHOUT_SOUND = ("FAILED", "DELETED")

_HOW_MANY = {True: "several may be it", False: "none was created when it was submitted"}


@dataclass(frozen=True, kw_only=True)
class LostAnswer:
    """A submission that VOD may or may not have accepted. Times are VOD's, seconds since the epoch.

    :param intended: When it was about to be sent.
    :param lost: When it was known that its answer would not come.
    :param seen: Audio assets that an earlier look showed to be extractions.
    """

    intended: float
    lost: float
    seen: Collection[str] = ()


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one look at VOD says about a lost answer.

    :param audio: The audio asset that the submission has made. ``None``: it cannot be told, or not yet.
    :param candidates: Audio assets that may be it. Without any, VOD lists nothing that might.
    :param doubts: Why none of the candidates is taken, in words.
    :param settled: The candidates will not look different later.
    :param ended_without_audio: VOD lists one that might be it and has failed.
    :param seen: Candidates that are extractions for certain.
    """

    audio: str | None = None
    candidates: tuple[str, ...] = ()
    doubts: str = ""
    settled: bool = True
    ended_without_audio: bool = False
    seen: tuple[str, ...] = ()

    @property
    def is_none(self) -> bool:
        """Whether VOD lists nothing that might be it."""
        return self.audio is None and not self.doubts


def find_audio_assets(
    client: VodClient,
    lost: Mapping[str, LostAnswer],
    sources: Mapping[str, Asset],
    *,
    audio_format: str,
    claimed: Collection[str],
    claimed_by_others: Callable[[str], bool] | None = None,
) -> dict[str, Finding]:
    """Look once for the audio assets of submissions that VOD may have accepted.

    A candidate has the title and the format, was created between intent and loss by VOD's own clock, is
    claimed by nobody and has not failed. It is taken if it is the only one, if its duration is that of the
    source, if no other video of that title in VOD might have it, and if it is no upload. VOD says of audio
    that it is an extraction only while it extracts it; besides, it describes all extractions in the same
    words, which are not documented: they are learnt from those that are extractions for certain.

    :param lost: The submissions, by source.
    :param sources: The sources as VOD describes them.
    :param claimed: Audio assets that are known to be of other submissions of this task.
    :param claimed_by_others: Tells whether an audio asset is known to be of a submission of any task.
    :returns: by source what was found.
    :raises CloudError: VOD could not be asked: nothing is known.
    """
    if not lost:
        return {}

    @cache
    def is_claimed(audio: str) -> bool:
        return audio in claimed or (claimed_by_others is not None and claimed_by_others(audio))

    error = client.clock.error
    since = _moment(min(answer.intended for answer in lost.values()) - _BEFORE - error)
    until = _moment(max(answer.lost for answer in lost.values()) + _AFTER + error)
    listed = {
        audio.asset_id: audio
        for audio in client.list_assets(since=since, until=until, containers=(audio_format,))
    }
    titles = {sources[source].title or "" for source in lost}
    of_title = {title: client.find_by_title(title) for title in titles if title}
    listed |= {asset.asset_id: asset for assets in of_title.values() for asset in assets}
    captions = {
        asset.description
        for asset in listed.values()
        if asset.is_audio and (asset.transcode_status in _OF_EXTRACTIONS or is_claimed(asset.asset_id))
    }
    if not captions:
        captions = {asset.caption for asset in client.asset_info([*claimed][:IDS_PER_CALL]).values()}
    unclaimed = [
        asset
        for asset in listed.values()
        if asset.container == audio_format and not is_claimed(asset.asset_id)
    ]
    videos = [asset for asset in sources.values() if asset.title is not None and not asset.is_audio]
    found = {}
    for source, answer in lost.items():
        title = sources[source].title or ""
        look = _Look(
            source=sources[source],
            answer=answer,
            candidates=[asset for asset in unclaimed if same_title(asset.title, title)],
            of_title=of_title.get(title, []),
            namesakes=[video for video in videos if same_title(video.title or "", title)],
            captions=captions,
            clock_error=error,
        )
        found[source] = look.judge()
    return found


def agree(one: Metadata, other: Metadata) -> bool:
    """Whether two durations are known and as near to each other as those of a video and its audio."""
    return _apart(one, other) <= _SAME_SOUND


def differ(one: Metadata, other: Metadata) -> bool:
    """Whether two durations are known and further apart than a video and its audio, and rounding, explain."""
    apart = _apart(one, other)
    return _SAME_SOUND + _ROUNDING * (one.rounded + other.rounded) < apart < math.inf


def _apart(one: Metadata, other: Metadata) -> float:
    if one.duration is None or other.duration is None:
        return math.inf
    return abs(one.duration - other.duration)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What VOD says about one lost answer.

    :param candidates: Audio of that title and format that nobody claims, whenever it was created.
    :param of_title: All assets of that title that VOD's search finds.
    :param namesakes: Videos of that title among those that are to be extracted.
    :param captions: How VOD describes extractions.
    """

    source: Asset
    answer: LostAnswer
    candidates: list[AssetSummary]
    of_title: list[AssetSummary]
    namesakes: list[Asset]
    captions: set[str]
    clock_error: float

    def judge(self) -> Finding:
        if self.source.title is None:
            if self.source.readiness is Readiness.GONE:
                return Finding()
            unread = self.source.readiness is Readiness.UNKNOWN
            return Finding(doubts="VOD does not say what the video is called", settled=not unread)
        nearby = [audio for audio in self.candidates if self._is_in_window(audio, margin=_NEARBY)]
        nearby = [audio for audio in nearby if not differ(audio.metadata, self.source.metadata)]
        possible = [audio for audio in nearby if not _has_failed(audio)]
        if not possible:
            return Finding(ended_without_audio=any(map(self._is_in_window, nearby)))
        seen = tuple(audio.asset_id for audio in possible if self._is_extraction(audio))
        in_time = [audio for audio in possible if self._is_in_window(audio)]
        doubts = self._doubts(in_time[0]) if len(in_time) == 1 else _HOW_MANY[bool(in_time)]
        if not doubts:
            return Finding(audio=in_time[0].asset_id, seen=seen)
        return Finding(
            candidates=tuple(audio.asset_id for audio in possible),
            doubts=doubts,
            settled=not any(map(_may_change, possible)),
            seen=seen,
        )

    def _is_in_window(self, audio: AssetSummary, margin: float = 0.0) -> bool:
        if audio.created is None:  # it cannot be read: a reason for doubt, no more
            return margin > 0
        margin += self.clock_error
        earliest = _moment(self.answer.intended - _BEFORE - margin)
        return earliest <= audio.created <= _moment(self.answer.lost + _AFTER + margin)

    def _is_extraction(self, audio: AssetSummary) -> bool:
        own = {asset.description for asset in self.of_title if asset.asset_id == self.source.asset_id}
        return (
            audio.transcode_status in _OF_EXTRACTIONS
            or audio.asset_id in self.answer.seen
            # Whoever uploads audio may describe it as the video is described, but not as VOD does.
            or audio.description in self.captions - own - {""}
        )

    def _doubts(self, audio: AssetSummary) -> str:
        """Why the only candidate may be another one, in words; nothing if it cannot."""
        if audio.metadata.duration is None or self.source.metadata.duration is None:
            return "VOD does not say how long the video and the audio are"
        if not agree(audio.metadata, self.source.metadata):
            return "its duration is not quite that of the video"
        if self.source.asset_id not in {asset.asset_id for asset in self.of_title}:
            return "VOD's search does not even find the video by its title"
        videos = {video.asset_id: video.metadata for video in self.namesakes} | {
            asset.asset_id: asset.metadata
            for asset in self.of_title
            if not asset.is_audio and asset.asset_status not in _WITHOUT_SOUND
        }
        for video, metadata in videos.items():
            if video != self.source.asset_id and not differ(metadata, audio.metadata):
                return f"it may be the audio of another video of that title, {video}"
        if not self._is_extraction(audio):
            return "it may have been uploaded"
        return ""


def _has_failed(audio: AssetSummary) -> bool:
    return audio.asset_status in _WITHOUT_SOUND or audio.transcode_status == "TRANSCODE_FAILED"


def _may_change(audio: AssetSummary) -> bool:
    return audio.transcode_status in _UNDER_WAY or audio.metadata.duration is None


def _moment(seconds: float) -> datetime:
    """A time of VOD's records, which count whole seconds."""
    return datetime.fromtimestamp(math.floor(seconds), timezone.utc)
