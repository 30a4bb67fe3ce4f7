"""What is counted, for Airflow's own metrics: StatsD, OpenTelemetry or Datadog, as ``[metrics]`` says.

Nothing is sent, and nothing is lost but figures, where Airflow's metrics are off. Each name is in
:data:`METRICS`, with what docs/metrics.md says of it. Tags have few values: no ids, no titles.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Metric:
    """One figure.

    :param kind: ``counter``: only grows. ``gauge``: how it is now. ``timer``: a distribution, which
        Airflow sends in milliseconds.
    :param tags: Names of its tags.
    :param meaning: What it counts, in words.
    """

    kind: Literal["counter", "gauge", "timer"]
    tags: tuple[str, ...]
    meaning: str


METRICS = {
    "vod.extractions.submitted": Metric("counter", (), "extractions that VOD has accepted"),
    "vod.extractions.postponed": Metric(
        "counter",
        ("outcome",),
        "extractions left for later, by reason",
    ),
    "vod.extractions.finished": Metric("counter", ("engine",), "audio files extracted"),
    "vod.extractions.duration": Metric(
        "timer", ("engine",), "time that one extraction took; with VOD, its queue included"
    ),
    "vod.extractions.audio_seconds": Metric("counter", ("engine",), "seconds of audio extracted"),
    "vod.extractions.fetched_bytes": Metric("counter", (), "bytes that ffmpeg's engine fetched of videos"),
    "vod.transcriptions.finished": Metric(
        "counter", ("engine", "model", "outcome"), "transcripts made: transcribed or doubtful"
    ),
    "vod.transcriptions.audio_seconds": Metric(
        "counter", ("engine", "model"), "seconds of audio in these transcripts"
    ),
    "vod.transcriptions.speed": Metric(
        "gauge", ("engine", "model"), "seconds of audio transcribed a second of work, of the last audio"
    ),
    "vod.assets.failed": Metric(
        "counter", ("task", "outcome"), "assets that failed, by outcome; each try of a task counts"
    ),
    "vod.calls.made": Metric(
        "counter",
        ("service", "call", "answer"),
        "calls of VOD and SIS, by how they were answered",
    ),
    "vod.calls.quota_wait": Metric("timer", ("service", "call"), "time that a call waited for its quota"),
    "vod.waiting.assets": Metric(
        "gauge", ("hostname", "process"), "assets that a triggerer waits for, or a task that is not deferred"
    ),
    "vod.waiting.oldest": Metric(
        "gauge", ("hostname", "process"), "seconds since the first of these was accepted; 0 without any"
    ),
}
"""All metrics by name, without the prefix of Airflow's configuration."""


_NOT_IN_TAGS = re.compile(r"[^A-Za-z0-9_.-]")
"""With any of these in a tag, Airflow's StatsD client logs an exception instead of sending."""

_started_in: int | None = None
"""The process in which triggers have set them up."""


def start_in_triggerer() -> None:
    """Set up Airflow's metrics for triggers: Airflow 3.3 does so for tasks, and for the triggerer itself."""
    from airflow.sdk.configuration import conf
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics import stats_utils

    global _started_in
    if _started_in != os.getpid():
        _started_in = os.getpid()
        legacy_names = conf.getboolean("metrics", "legacy_names_on", fallback=True)
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=legacy_names)


def count(name: str, number: float = 1, /, **tags: str) -> None:
    """Add to a counter. Parts of one are lost."""
    if int(number) > 0:
        _send("counter", "incr", name, int(number), tags)


def gauge(name: str, value: float, /, **tags: str) -> None:
    """Say how something is now."""
    _send("gauge", "gauge", name, round(value, 3), tags)


def timing(name: str, seconds: float, /, **tags: str) -> None:
    """Say how long something took."""
    _send("timer", "timing", name, round(seconds * 1000, 3), tags)


def _send(kind: str, function: str, name: str, value: Any, tags: dict[str, str]) -> None:
    metric = METRICS[name]
    assert (metric.kind, set(metric.tags)) == (kind, set(tags)), name
    if sys.modules.get("airflow"):  # the commands run without it
        from airflow.sdk.observability import stats

        taken = {tag: _NOT_IN_TAGS.sub("_", text) for tag, text in tags.items()}
        getattr(stats, function)(name, value, tags=taken)
