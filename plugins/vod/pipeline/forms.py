"""Fields of the forms by which the sample DAGs are triggered. Each call gives a field of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param

from vod.errors import InvalidInputError
from vod.pipeline.planning import BATCH
from vod.records import AUDIO_FORMATS

PATH_OR_URL = r"^(/|[a-z][a-z0-9+.-]*://).+$"
"""An absolute path, or a URL that Airflow's ``ObjectStoragePath`` knows."""

ADVANCED = "Files and batches"
"""The section for what most people need not see; Airflow shows named sections folded away."""

SAMPLES = "VOD_SAMPLE_ASSETS"
"""Environment variable with the assets that the form holds at first, separated by blanks."""

_FORMATS = {"MP3": "MP3, plays anywhere", "AAC": "AAC, better sound at the same size"}


def check(params: Mapping[str, Any], dag: Any) -> None:
    """Refuse fields that the form of this DAG does not have.

    Airflow takes any key in a run's configuration: a misspelt one would change nothing, and cost a lot.

    :raises InvalidInputError: there is such a field.
    """
    if unknown := params.keys() - dag.params.keys():
        raise InvalidInputError(
            f"The form of {dag.dag_id} has no field {', '.join(sorted(unknown))}.",
            remedy=f"It has {', '.join(dag.params)}.",
        )


def assets() -> Param:
    """One asset a line; Airflow gives a list of strings, also empty ones."""
    samples = os.environ.get(SAMPLES, "").split()
    filled_in: dict[str, Any] = {"default": samples} if samples else {}
    return Param(
        **filled_in,
        type="array",
        items={"type": "string"},
        minItems=1,
        title="Videos",
        description="One a line: asset ids, or with the engine ffmpeg also absolute paths and URLs.",
    )


def engine() -> Param:
    """``vod``, ``ffmpeg``, or ``default`` for the connection's: an empty choice cannot be shown."""
    names = {
        "default": "As the connection says",
        "vod": "Huawei Cloud VOD",
        "ffmpeg": "ffmpeg on the worker",
    }
    return Param("default", enum=[*names], values_display=names, title="Engine")


def audio_format(**schema: Any) -> Param:
    """``MP3`` by default."""
    names = {name: _FORMATS.get(name, name) for name in AUDIO_FORMATS}
    return Param("MP3", enum=[*names], values_display=names, title="Audio format", **schema)


def language() -> Param:
    """ISO 639-1, or none."""
    return Param(
        None,
        type=["string", "null"],
        pattern="^[a-z]{2}$",
        title="Language spoken",
        description="Two letters. When empty, it is recognised.",
        examples=["en", "de", "fr", "es", "zh"],
    )


def model() -> Param:
    """The smallest model by default: enough to try it out."""
    return Param(
        "tiny.en",
        type="string",
        minLength=1,
        title="Speech model",
        description="A Whisper model, or a folder with one. tiny.en is small, quick, and knows only English.",
        examples=["tiny.en", "base", "small", "medium", "large-v3"],
    )


def destination() -> Param:
    """An absolute path or a URL, or none."""
    return Param(
        None,
        type=["string", "null"],
        pattern=PATH_OR_URL,
        title="Destination",
        description="Absolute path or URL for the files. When empty, the connection's.",
        section=ADVANCED,
    )


def force(description: str) -> Param:
    """A switch, off by default."""
    return Param(False, type="boolean", title="Do it again", description=description, section=ADVANCED)


def batch_size() -> Param:
    """From 1 to what one task takes."""
    return Param(
        BATCH,
        type="integer",
        minimum=1,
        maximum=1000,
        title="Batch size",
        description="Assets that one task works off.",
        section=ADVANCED,
    )


def manifest() -> Param:
    """A list of assets in a file (:mod:`vod.pipeline.manifests`)."""
    return Param(
        type="string",
        pattern=PATH_OR_URL,
        title="List",
        description="Absolute path or URL of a .csv, .jsonl or plain text file.",
    )


def day(title: str) -> Param:
    """A date, or none."""
    return Param(None, type=["string", "null"], format="date", title=title)
