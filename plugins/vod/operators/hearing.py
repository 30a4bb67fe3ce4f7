"""Which engines recognise the speech of a task: what the task, the connection and the site say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf

from vod import media
from vod.batch.arguments import check_choice
from vod.connection import InvalidConnectionError
from vod.errors import InvalidInputError, VodError
from vod.logs import get_logger
from vod.speech import SpeechOptions, script
from vod.speech.engines import ENGINES, OrderingEngine, RemoteAudio, SpeechEngine, engine
from vod.speech.errors import ServerRefusedError
from vod.speech.transcribing import fingerprint_of
from vod.storage.sources import version as storage_version
from vod.text import json_object

if TYPE_CHECKING:
    from vod.hooks import VodHook
    from vod.records import ExtractedAudio

log = get_logger(__name__)

_OF_SITES = ("models", "speech_conn_id")
"""What a connection and ``[vod] speech`` may say beside options."""

_EMPTY = (None, "", "None")
"""What counts as left out: templates write what is not there as ``None``."""


@dataclass(frozen=True, kw_only=True)
class SpeechSettings:
    """What is asked of speech recognition.

    :param options: The engine and its options.
    :param fallback: Another engine and its options, for what the first does not recognise.
    :param models: Where speech models are, each in a folder of its name: a path, or a URL such as
        ``s3://aws_default@bucket/models``.
    :param speech_conn_id: Connection of type ``http`` to the server of the engine ``http``.
    :param hook: The connection of type ``vod``, whose keys and region the engine ``sis`` has.
    """

    options: SpeechOptions
    fallback: SpeechOptions | None = None
    models: str = ""
    speech_conn_id: str = ""
    hook: VodHook | None = field(default=None, repr=False, compare=False)

    @classmethod
    def read(
        cls,
        given: str | Mapping[str, Any] | None,
        hook: VodHook,
        *,
        short: Mapping[str, Any] | None = None,
        fallback: str | Mapping[str, Any] | None = None,
        speech_conn_id: str | None = None,
    ) -> SpeechSettings:
        """The task's options, then the connection's, then those of ``[vod] speech``.

        :param given: The task's options, also as JSON; what is empty counts as left out.
        :param short: More of them, which come first: those that an operator or a form has by themselves.
        :param fallback: Name of an engine, or options by name: the rest is as for the first engine, except
            for the model, of which each engine has its own.
        :raises InvalidInputError: an unknown option or engine, or a value that it cannot have.
        """
        site = _by_name("[vod] speech", conf.get("vod", "speech", fallback=""))
        try:
            own = hook.settings.speech
        except InvalidConnectionError:  # files need no connection
            own = {}
        told = {**_told(_by_name("The option options", given)), **_told(short or {})}
        values = {**site, **own, **told}
        of_site = {name: values.pop(name, None) or "" for name in _OF_SITES}
        if speech_conn_id:
            of_site["speech_conn_id"] = speech_conn_id
        for name, value in of_site.items():
            if not isinstance(value, str):
                raise InvalidInputError(
                    f"The option {name} of speech recognition cannot be {str(value)[:100]!r}.",
                    remedy="Give text.",
                )
        inherited = values.pop("fallback", None)
        options = SpeechOptions.from_json(values)
        chosen = inherited if fallback in _EMPTY else fallback
        return cls(options=options, fallback=_fallback(options, chosen), hook=hook, **of_site)


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in _EMPTY}


def _by_name(place: str, given: Any) -> Mapping[str, Any]:
    """Options by name, or in JSON, of which a template and the configuration make text."""
    values = json_object(None if isinstance(given, str) and given in _EMPTY else given)
    if values is None:
        raise InvalidInputError(
            f"{place} is {str(given)[:100]!r}, and no object with options by name.",
            remedy='Write it as JSON: {"model": "large-v3"}; in a template, with the filter tojson.',
        )
    return values


def _fallback(options: SpeechOptions, given: Any) -> SpeechOptions | None:
    is_name = isinstance(given, str) and not given.lstrip().startswith("{")
    values = _told({"engine": given} if is_name else _by_name("The option fallback", given))
    if not values:
        return None
    check_choice("fallback", values.setdefault("engine", ""), tuple(ENGINES))
    if values["engine"] == options.engine:
        raise InvalidInputError(
            f"The fallback is the engine {options.engine!r} itself.", remedy="Name another engine."
        )
    chosen = SpeechOptions.from_json({"model": SpeechOptions.model, **values})
    return replace(options, **{name: getattr(chosen, name) for name in ("model", *values)})


@dataclass(frozen=True, kw_only=True)
class Hearing:
    """An engine at work for a task.

    :param instead_of: Why another engine that comes before it is not asked at all.
    """

    engine: SpeechEngine
    options: SpeechOptions
    instead_of: str = ""

    @property
    def service(self) -> OrderingEngine | None:
        """The engine, if it is a service that works elsewhere."""
        return self.engine if isinstance(self.engine, OrderingEngine) else None


@contextmanager
def hearings(settings: SpeechSettings, *, elsewhere: bool = False) -> Iterator[Sequence[Hearing]]:
    """The engines of a task, in the order in which an audio is offered to them; closed when the block ends.

    Whether they can do what is asked for is found out first. An engine that cannot be reached, or has no
    time, is left out if the other one can.

    :param elsewhere: Only find it out, for workers that have models, devices and libraries of their own:
        services are asked from here, and no model is loaded.
    :raises vod.errors.VodError: they cannot.
    """
    with ExitStack() as closing:
        found: list[Hearing] = []
        troubles: list[VodError] = []
        for options in filter(None, (settings.options, settings.fallback)):
            if not elsewhere:
                script.check(options.language)
            made = engine_of(settings, options, elsewhere=elsewhere)
            closing.callback(made.close)
            try:
                made.check(options)
            except VodError as error:
                # A wrong key, or a model that is not there, is for a person to mend.
                if isinstance(error, ServerRefusedError) or not error.other_engine:
                    raise
                log.warning("The speech engine %s is left out: %s", options.engine, error)
                troubles.append(error)
            else:
                instead_of = reason(settings.options, troubles[0]) if troubles else ""
                found.append(Hearing(engine=made, options=options, instead_of=instead_of))
        if not found:
            raise troubles[0]
        for hearing in found[1:]:
            hearing.engine.close()  # it may never be used, and a model takes memory
        yield found


def reason(options: SpeechOptions, error: VodError) -> str:
    """Why an engine did not do its work, in one sentence."""
    return f"{options.engine}: {error.message} [{error.outcome}]"


def engine_of(settings: SpeechSettings, options: SpeechOptions, *, elsewhere: bool = False) -> SpeechEngine:
    """The engine of these options, with what it needs beside them; not checked yet.

    :param elsewhere: It is only to be checked, for other workers.
    :raises vod.errors.VodError: what it needs is not there.
    """
    if options.engine == "whisper" and elsewhere:
        return engine("whisper", elsewhere=True)
    return engine(options.engine, **_means(settings, options))


def fingerprint(record: ExtractedAudio, options: SpeechOptions, revision: str) -> str:
    """Stands for the transcript that an audio is to have.

    :param revision: Of the model, as the engine says it.
    :raises vod.errors.VodError: the audio may not be read, or its store does not answer now.
    """
    version = storage_version(record.uri, limits=media.Limits(60.0)) or f"{record.size} {record.duration}"
    return fingerprint_of(f"{record.uri} {version}", options, revision, record.offset)


def _means(settings: SpeechSettings, options: SpeechOptions) -> dict[str, Any]:
    """What an engine needs beside the options."""
    if options.engine == "http" and settings.speech_conn_id:
        from vod.hooks import speech_server  # loads an HTTP client: not to parse a DAG file

        return {"server": speech_server(settings.speech_conn_id)}
    if options.engine == "sis" and settings.hook:
        connection = settings.hook.settings
        return {"service": connection.service, "endpoint": connection.sis_endpoint}
    if options.engine == "whisper" and settings.models:
        from vod.storage.models import models_folder

        return {"models": models_folder(settings.models, options.model)}
    return {}


def remote_audio(record: ExtractedAudio, hook: VodHook) -> RemoteAudio:
    """An audio, for a service that fetches it itself."""
    from vod.storage.outside import outside_url

    return RemoteAudio(
        name=record.asset,
        url=lambda: outside_url(record.uri, hook),
        ending=media.EXTENSIONS.get(record.audio_format, ""),
        duration=record.duration,
        size=record.size,
        sample_rate=record.sample_rate,
        language=record.language or "",
    )
