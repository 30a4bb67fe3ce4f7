"""Fields of the forms by which the sample DAGs are triggered. Each call gives a field of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from airflow.sdk import Param
from airflow.sdk.configuration import conf

from vod.errors import InvalidInputError
from vod.records import AUDIO_FORMATS
from vod.text import printable

ADVANCED = "Files and batches"
"""The section for what most people need not see; Airflow shows named sections collapsed."""

BATCH_SIZE = 100
"""Assets in a batch when the form says no other number."""

MAX_BATCH_SIZE = 150
"""Assets of a batch at most: their records, of some 400 bytes, stay below 64 kB."""

DEFAULT_ENGINE = "default"
"""The choice that leaves the engine to the connection: Airflow cannot show an empty one."""

_FORMATS = {"MP3": "MP3, plays anywhere", "AAC": "AAC, better sound at the same size"}

_LANGUAGES = {
    "zh": "Chinese",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "de": "German",
    "pt": "Portuguese",
    "ru": "Russian",
    "ar": "Arabic",
    "hi": "Hindi",
    "ja": "Japanese",
    "ko": "Korean",
}
"""Those that the form offers. Any other code may be typed."""

_MODELS = {
    "base": "many languages, quick",
    "small": "many languages, fewer errors, slower",
    "medium": "many languages, still fewer errors, slow without a GPU",
    "turbo": "many languages, for GPUs",
    "large-v3": "many languages, fewest errors, for GPUs",
    "tiny.en": "English only, quickest, rough",
}
"""Those that the form offers. Any other name or folder may be typed."""


def read(params: Mapping[str, Any], dag: Any) -> dict[str, Any]:
    """Read what a form or a run's configuration says; what is left to the connection becomes ``None``.

    :param dag: Whose form it is; its fields are not checked again when ``None``.

    Airflow takes any key in a run's configuration: a misspelt one would change nothing, and could cost a lot.

    :raises InvalidInputError: it names a field that the form of this DAG does not have.
    """
    if dag is not None and (unknown := params.keys() - dag.params.keys()):
        names = ", ".join(printable(name)[:100] for name in sorted(unknown))
        raise InvalidInputError(
            f"The form of {dag.dag_id} has no field {names}.",
            remedy=f"Its fields are {', '.join(dag.params)}.",
        )
    form = {name: None if value == "" else value for name, value in params.items()}
    if form.get("engine") == DEFAULT_ENGINE:
        form["engine"] = None
    return form


def assets() -> Param:
    """One asset a line; Airflow gives a list of strings, also empty ones."""
    return Param(
        type="array",
        items={"type": "string"},
        minItems=1,
        title="Videos",
        description="One a line: asset ids, or with the engine ffmpeg also absolute paths and URLs.",
    )


def audio() -> Param:
    """One audio file a line; none for a run that asset events start."""
    return Param(
        None,
        type=["array", "null"],
        items={"type": "string"},
        title="Audio",
        description="What to transcribe by hand, one a line: absolute paths or URLs of audio. Runs that "
        "start by themselves take what the other DAGs have extracted.",
    )


def engine() -> Param:
    """``vod``, ``ffmpeg``, or what the connection says."""
    names = {
        DEFAULT_ENGINE: "As the connection says",
        "vod": "Huawei Cloud VOD",
        "ffmpeg": "ffmpeg on the worker",
    }
    return Param(DEFAULT_ENGINE, enum=[*names], values_display=names, title="Engine")


def audio_format(**schema: Any) -> Param:
    """``MP3`` by default."""
    names = {name: _FORMATS.get(name, name) for name in AUDIO_FORMATS}
    return Param("MP3", enum=[*names], values_display=names, title="Audio format", **schema)


def language() -> Param:
    """A code, or none. The task that plans says in words what is wrong with one; a pattern would not."""
    return Param(
        None,
        type=["string", "null"],
        title="Language spoken",
        description="Code such as de. Empty: detected, with models that do not end in .en. With ffmpeg it "
        "also chooses the audio track.",
        examples=[*_LANGUAGES],
        values_display={code: f"{code}: {name}" for code, name in _LANGUAGES.items()},
    )


def model() -> Param:
    """What ``[vod] speech`` says, else the smallest that knows many languages; empty: the connection's."""
    try:
        site = json.loads(conf.get("vod", "speech", fallback="") or "{}")
    except ValueError:  # the task that plans says so
        site = {}
    return Param(
        site.get("model", "base") if isinstance(site, dict) else "base",
        type=["string", "null"],
        title="Speech model",
        description="Which model recognises the speech. Empty: the connection's.",
        examples=[*_MODELS],
        values_display={name: f"{name}: {text}" for name, text in _MODELS.items()},
    )


def destination() -> Param:
    """An absolute path or a URL, or none."""
    return Param(
        None,
        type=["string", "null"],
        title="Destination",
        description="Absolute path or URL for the files. Empty: the connection's.",
        section=ADVANCED,
    )


def force(description: str) -> Param:
    """A switch, off by default."""
    return Param(
        False, type="boolean", title="Redo finished videos", description=description, section=ADVANCED
    )


def batch_size() -> Param:
    """From 1 to :data:`MAX_BATCH_SIZE`."""
    return Param(
        BATCH_SIZE,
        type="integer",
        minimum=1,
        maximum=MAX_BATCH_SIZE,
        title="Batch size",
        description="Assets that one task processes.",
        section=ADVANCED,
    )


def manifest() -> Param:
    """A list of assets in a file (:mod:`vod.pipeline.manifests`)."""
    return Param(
        type="string",
        minLength=1,
        title="List",
        description="Absolute path or URL of a .csv, .jsonl or plain text file.",
    )


def first_day() -> datetime | None:
    """The first day of the schedule of new videos, in UTC, as ``[vod] first_day`` says.

    :raises InvalidInputError: it is not a date.
    """
    text = conf.get("vod", "first_day", fallback="").strip()
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc) if text else None
    except ValueError:
        raise InvalidInputError(
            f"[vod] first_day is {printable(text)!r}.", remedy="Write a date such as 2026-11-01."
        ) from None


def day(title: str) -> Param:
    """A date, or none."""
    return Param(None, type=["string", "null"], format="date", title=title)
