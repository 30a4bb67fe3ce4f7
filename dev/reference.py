"""`make reference`: docs/reference.md, from the docstrings and tables of the package itself."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import vod
from dev import stack
from vod.connection import DEFAULT_CONNECTION
from vod.engines.ffmpeg_options import FfmpegOptions
from vod.errors import VodError
from vod.hooks import VodHook
from vod.notifications import VodNotifier
from vod.operators import ExtractAudioOperator, TranscribeAudioOperator
from vod.provider_info import get_provider_info
from vod.records import AssetFailure, ExtractedAudio, SubmittedExtraction, Transcript
from vod.sensors import AudioAssetSensor
from vod.speech import SpeechOptions

PAGE = stack.ROOT / "docs" / "reference.md"

_TASKS = (ExtractAudioOperator, TranscribeAudioOperator, AudioAssetSensor, VodNotifier, VodHook)
_OPTIONS = (FfmpegOptions, SpeechOptions)
_RECORDS = (ExtractedAudio, SubmittedExtraction, Transcript, AssetFailure)
_FIELD = re.compile(r"^:(?P<kind>param|raises) ?(?P<name>[^:]*):(?P<text>.*(?:\n(?!:).*)*)", re.MULTILINE)

_INTRODUCTION = """What there is, by name. `make reference` makes this page from the code; the other pages say
how it is used."""
_OF_OUTCOMES = """Why an asset or a task failed: `outcome` of the record, and in brackets at the end of a
message. *Again* says whether a retry may help; a single failure may know better. VOD's own error codes, such
as `VOD.10053`, are outcomes as well."""
_OF_SETTINGS = """In Airflow's configuration, section `[vod]`, or as environment variables such as
`AIRFLOW__VOD__SPEECH_POOL`."""
_NOT_IN_THE_FORM = (
    ("`speech`", "Not in the form: options for speech recognition, as of the setting `speech`."),
    (
        "`quotas`",
        'Not in the form: calls a minute, where Huawei has granted others than usual: `{"extract": 300}`.',
    ),
)
_VARIABLES = (
    ("`VOD_FFMPEG`", "Path of the ffmpeg program, before all others."),
    ("`VOD_SPEECH_MODELS`", "Folder that holds speech models by name."),
    ("`VOD_RARE_FORMATS`", "For the command `vod`: `1` reads also GXF, DV, RealMedia and NUT."),
    ("`VOD_STANDIN_ADMIN_TOKEN`", "For the stand-in: what callers of `/admin` must show."),
    ("`VOD_STANDIN_SECRET_KEY`", "For the stand-in: the secret key that it knows."),
)
_ROLE = re.compile(r":\w+:`~?([^`]+)`")


def page() -> str:
    """The whole page."""
    parts = [
        "# Reference",
        _INTRODUCTION,
        "## Operators, sensor, notifier and hook",
        "Besides these parameters, each takes those of Airflow's own base class.",
        *(_class(kind) for kind in _TASKS),
        "## Options",
        *(_class(kind) for kind in _OPTIONS),
        "## Records",
        "What tasks return and asset events carry, as JSON; what is at its default is left out.",
        *(_class(kind) for kind in _RECORDS),
        "## Outcomes",
        _OF_OUTCOMES,
        _table(("outcome", "what happened", "again", "what to do"), _outcomes()),
        "## Settings",
        _OF_SETTINGS,
        _table(("setting", "default", "meaning"), _settings()),
        "## Connection",
        f"Of type `vod`, by default `{DEFAULT_CONNECTION}`. Examples: [connection.md](connection.md).",
        _table(("field of the extra", "meaning"), _connection()),
        "## Environment variables",
        _table(("variable", "meaning"), _VARIABLES),
    ]
    return "\n\n".join(parts) + "\n"


def _class(kind: type) -> str:
    text = inspect.getdoc(kind) or ""
    before = text[: match.start()] if (match := _FIELD.search(text)) else text
    defaults = dict(_defaults(kind))
    rows, raised = [], []
    for found in _FIELD.finditer(text):
        if found["kind"] == "raises":
            raised.append((f"`{found['name']}`", found["text"]))
            continue
        names = [name.strip() for name in found["name"].split(",")]
        rows += [(f"`{name}`", defaults.get(name, ""), found["text"]) for name in names]
    parts = [f"### {kind.__name__}", f"`{_import_of(kind)}`", _prose(before)]
    if rows:
        parts.append(_table(("name", "default", "meaning"), rows))
    if raised:
        parts.append(_table(("raises", "when"), raised))
    return "\n\n".join(parts)


def _import_of(kind: type) -> str:
    package = "vod.speech" if kind is SpeechOptions else kind.__module__
    if kind.__module__.startswith("vod.operators"):
        package = "vod.operators"
    return f"from {package} import {kind.__name__}"


def _defaults(kind: type) -> Iterator[tuple[str, str]]:
    if kind not in _TASKS and is_dataclass(kind):  # Airflow's operators are dataclasses, too
        for entry in fields(kind):
            if entry.default is not MISSING:
                yield entry.name, f"`{entry.default!r}`"
            elif entry.default_factory is not MISSING:
                yield entry.name, f"`{entry.default_factory()!r}`"
        return
    made_by: Any = inspect.getattr_static(kind, "__init__")
    for name, parameter in inspect.signature(inspect.unwrap(made_by)).parameters.items():
        if name == "deferrable":
            yield name, "Airflow's"
        elif parameter.default is not inspect.Parameter.empty:
            yield name, f"`{parameter.default!r}`"


def _outcomes() -> list[tuple[str, ...]]:
    rows = []
    for kind in errors():
        first = (inspect.getdoc(kind) or "").split("\n\n")[0]
        rows.append((f"`{kind.outcome}`", first, "yes" if kind.retryable else "no", kind.remedy or ""))
    return sorted(set(rows))


def errors() -> list[type[VodError]]:
    """All failures of the package that have an outcome of their own."""
    for module in pkgutil.walk_packages(vod.__path__, "vod."):
        if not module.name.startswith(("vod.ui", "vod.standin", "vod.__main__", "vod.vod_plugin")):
            importlib.import_module(module.name)
    found, waiting = [], [VodError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if "outcome" in vars(kind) and kind.__module__.startswith("vod."):
            found.append(kind)
    return found


def _settings() -> list[tuple[str, ...]]:
    options = get_provider_info()["config"]["vod"]["options"]
    return [
        (f"`{name}`", f"`{each['default']}`" if each["default"] else "", each["description"])
        for name, each in options.items()
    ]


def _connection() -> list[tuple[str, str]]:
    [connection] = get_provider_info()["connection-types"]
    rows = []
    for name, field in connection["conn-fields"].items():
        text = field.get("description") or field.get("label", "")
        rows.append((f"`{name}`", text))
    return [*rows, *_NOT_IN_THE_FORM]


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, tuple("--" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return _prose(" ".join(text.split())).replace("|", "\\|")


def _prose(text: str) -> str:
    """reStructuredText as it stands in docstrings, in Markdown."""
    text = _ROLE.sub(lambda role: f"`{role[1].rpartition('.')[2]}`", text.strip())
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r" \((?:contract, )?section [\d.]+\)", "", text)  # the contract is not in the documents
    lines = text.split("\n")
    made, code = list[str](), False
    for line in lines:
        if line.endswith("::"):
            line = line[:-1]
        indented = line.startswith("    ") and bool(made)
        if indented and not code:
            made.append("```python")
        if code and line and not indented:
            made[-1:] = ["```", ""] if not made[-1] else [made[-1], "```"]
        code = indented or (code and not line)
        made.append(line[4:] if code else line)
    if code:
        made.append("```")
    return "\n".join(made)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
