"""What the first task of a DAG decides: which assets a run extracts, and in which batches."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from airflow.sdk.configuration import conf
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from vod.batch import progress
from vod.batch.arguments import TooManyAssetsError, asset_list
from vod.batch.ledger import Store
from vod.batch.outcomes import fail_at_once
from vod.cloud.assets import AUDIO_TYPES
from vod.connection import DEFAULT_CONNECTION, InvalidConnectionError
from vod.errors import InvalidInputError, VodError
from vod.library.known_audio import Known, KnownAudio, Wanted
from vod.library.register import Entry, store_of
from vod.library.transcripts import find_transcripts
from vod.locations import AllowedLocations, Kind, is_asset_id, parse_location, public_name
from vod.logs import get_logger
from vod.operators.hearing import SpeechSettings, engine_of, fingerprint, hearings
from vod.pipeline import forms
from vod.pipeline.estimates import check_run
from vod.pipeline.parts import Plan
from vod.pipeline.signed_urls import refuse_signed_url
from vod.records import AssetFailure, ExtractedAudio, parse_record
from vod.storage.destination import Destination
from vod.storage.sources import allowed_locations, check_source

MOST_REFUSED = 100
"""Lines that a run goes on without. With more, the list is another one than somebody meant."""
_MOST_NAMED = 20

MAX_BYTES = 48_000
"""Bytes of JSON of a batch at most: long URLs make smaller batches."""

_KEY = re.compile(r"audio_[0-9a-f]{32}")

T = TypeVar("T")

log = get_logger(__name__)


@fail_at_once()
def plan_videos(
    params: Mapping[str, Any],
    dag: Any,
    store: Store,
    *,
    engine: str | None = None,
    vod_conn_id: str = DEFAULT_CONNECTION,
) -> Plan:
    """Batches of the assets that a form names, each with the other fields of the form.

    A line that cannot be worked on costs itself.

    :param store: ``context["task_state_store"]`` of the task that plans.
    :param engine: Extracts, if the form does not ask.
    :raises AirflowFailException: the form asks for something that cannot be done; nothing was submitted.
    """
    form = forms.read(params, dag)
    size = form.pop("batch_size", forms.BATCH_SIZE)
    assets = asset_list(form.pop("assets"), max_assets=max_assets(size), taker="run")
    allowed = form_locations(vod_conn_id)
    bad = bad_sources(assets, engine or form.get("engine"), vod_conn_id, allowed)
    refused = {asset: AssetFailure.from_error(error.asset or "…", error) for asset, error in bad.items()}
    require_some_left(refused, len(assets))
    if "destination" in form:
        check_destination(form["destination"], vod_conn_id, allowed)
    if "model" in form:
        check_speech(form, vod_conn_id)
    good = [asset for asset in assets if asset not in refused]
    check_run(good, engine or form.get("engine"), vod_conn_id, transcribed="model" in form)
    return Plan(batches(dict.fromkeys(good, form), store, size), [*refused.values()])


@fail_at_once()
def plan_new_videos(
    params: Mapping[str, Any],
    dag: Any,
    since: datetime,
    until: datetime,
    store: Store,
    register: Any = None,
    *,
    vod_conn_id: str = DEFAULT_CONNECTION,
) -> Plan:
    """Batches of the videos created in ``[since, until)`` that no run has extracted yet.

    :param store: ``context["task_state_store"]`` of the task that plans.
    :param register: ``context["asset_state_store"]`` of a task with the register among its inlets.
    :raises AirflowFailException: the form asks for something that cannot be done; nothing was submitted.
    """
    form = forms.read(params, dag)
    check_destination(form["destination"], vod_conn_id, form_locations(vod_conn_id))
    videos = new_videos(since, until, vod_conn_id)
    wanted = [Wanted(asset=video, audio_format=form["audio_format"]) for video in videos]
    done = known_audio(wanted, register, form["engine"], form["destination"], vod_conn_id).done
    new = {video: form for video in videos if video not in done}
    durations = {video: seconds for video, seconds in videos.items() if video in new}
    check_run([*new], form["engine"], vod_conn_id, durations=durations)
    return Plan(batches(new, store, listed=len(videos)))


@fail_at_once()
def plan_audio(
    params: Mapping[str, Any],
    dag: Any,
    events: Iterable[Any],
    store: Store,
    register: Any = None,
    *,
    size: int = forms.BATCH_SIZE,
    vod_conn_id: str = DEFAULT_CONNECTION,
) -> Plan:
    """Batches of the audio that asset events announce or a form names, and that has no transcript yet.

    :param events: What ``triggering_asset_events`` holds for the asset.
    :param store: ``context["task_state_store"]`` of the task that plans.
    :param register: ``context["asset_state_store"]`` of a task with the register among its inlets.
    :raises AirflowFailException: an event holds something else, or the audio lies where it may not be read;
        nothing is transcribed.
    """
    form = forms.read(params, dag)
    allowed = form_locations(vod_conn_id)
    named, refused = _named_audio(form.pop("audio", None) or (), register, allowed, vod_conn_id)
    audio = [*_announced(events), *named]
    for record in audio:
        for location in filter(None, (record.uri, record.speech_uri)):
            check_source(location, allowed)
    records = [record.to_json() for record in audio]
    found = audio_batches(
        records,
        store,
        size,
        force=form.pop("force"),
        model=form.get("model"),
        language=form.get("language"),
        vod_conn_id=vod_conn_id,
    )
    if found:
        check_speech(form, vod_conn_id)
        durations = {record["uri"]: record["duration"] for batch in found for record in batch["audio"]}
        check_run([*durations], "ffmpeg", vod_conn_id, transcribed=True, durations=durations)
    return Plan([{**form, **batch} for batch in found], [*refused.values()])


def _named_audio(
    lines: Iterable[str], register: Any, allowed: AllowedLocations, vod_conn_id: str
) -> tuple[list[ExtractedAudio], Mapping[str, AssetFailure]]:
    """The audio that a form names: by its address, or by its key in the register, as the library does."""
    names = [*dict.fromkeys(line.strip() for line in lines if line.strip())]
    store = store_of(register) if any(map(_KEY.fullmatch, names)) else None
    audio: list[ExtractedAudio] = []
    bad: dict[str, AssetFailure] = {}
    for name in names:
        try:
            is_key = _KEY.fullmatch(name)
            audio.append(_registered(name, store) if is_key else _addressed(name, allowed, vod_conn_id))
        except InvalidInputError as error:
            bad[name] = AssetFailure.from_error(error.asset or name, error)
    require_some_left(bad, len(names))
    return audio, bad


def _registered(key: str, store: Any) -> ExtractedAudio:
    entry = Entry.parse(store.get(key)) if store else None
    record = parse_record(dict(entry.record)) if entry and entry.record else None
    if not isinstance(record, ExtractedAudio):
        raise InvalidInputError(
            "The register has no such audio.",
            asset=key,
            remedy="Extract it first, or give the file's address.",
        )
    return replace(record, entry=key)


def _addressed(address: str, allowed: AllowedLocations, vod_conn_id: str) -> ExtractedAudio:
    check_source(address, allowed, vod_conn_id=vod_conn_id)
    refuse_signed_url(address)
    location = parse_location(address)
    if location.kind is Kind.ASSET and not location.connection:
        raise InvalidInputError(
            "An asset id is not the address of audio.",
            asset=location.shown,
            remedy="Give vod://<connection>/<id of the audio asset>, or a path or URL.",
        )
    uri = location.path.as_uri() if location.path else address
    ending = PurePosixPath(urlsplit(uri).path).suffix.lstrip(".").upper()
    return ExtractedAudio(
        asset=location.shown, uri=uri, audio_format=ending, codec=None, duration=None, size=0, engine=""
    )


def _announced(events: Iterable[Any]) -> list[ExtractedAudio]:
    """The audio that asset events announce. Whoever may write events can write any JSON."""
    try:
        elements = [element for event in events for element in event.extra.get("audio", ())]
        records = [parse_record(dict(element)) for element in elements]
    except (AttributeError, KeyError, TypeError, ValueError):
        records = None
    audio = [
        record
        for record in records or ()
        if isinstance(record, ExtractedAudio) and isinstance(record.uri, str)
    ]
    if records is None or len(audio) < len(records):
        raise InvalidInputError(
            "The asset event does not hold records of extracted audio.",
            remedy="Let ExtractAudioOperator write it, by the asset among its outlets.",
        )
    return audio


def form_locations(vod_conn_id: str = DEFAULT_CONNECTION) -> AllowedLocations:
    """What a run's form, configuration, list or event may name: ``[vod] allowed_locations``.

    While that is not set, it is the connection's destination and what is below it.
    """
    from vod.hooks import VodHook  # loads an HTTP client: not to parse a DAG file

    allowed = allowed_locations()
    if allowed.prefixes is not None:
        return allowed
    try:
        destination = VodHook(vod_conn_id).settings.destination
    except InvalidConnectionError:  # files need no connection
        destination = None
    return AllowedLocations.from_locations([destination] if destination else [])


def bad_sources(
    assets: Iterable[str], engine: str | None, vod_conn_id: str, allowed: AllowedLocations
) -> dict[str, InvalidInputError]:
    """Assets that the engine cannot take: a file or URL for VOD, a relative path, an unknown kind of URL, a
    location that is not allowed, an asset of another connection, or a URL with a secret in it.

    :param engine: ``vod`` or ``ffmpeg``; the connection's default engine when empty.
    """
    from vod.hooks import VodHook  # loads an HTTP client: not to parse a DAG file

    in_vod = (engine or VodHook(vod_conn_id).settings.engine) == "vod"
    return {
        asset: error for asset in assets if (error := _refusal(asset, vod_conn_id, allowed, in_vod=in_vod))
    }


def _refusal(
    asset: str, vod_conn_id: str, allowed: AllowedLocations, *, in_vod: bool
) -> InvalidInputError | None:
    try:
        if not in_vod:
            check_source(asset, allowed, vod_conn_id=vod_conn_id)
            refuse_signed_url(asset)
    except InvalidInputError as error:
        return error
    if in_vod and not is_asset_id(asset):
        return InvalidInputError(
            "VOD extracts only from its own assets.",
            asset=public_name(asset),
            remedy="Give an asset id, or use the engine ffmpeg for files and URLs.",
        )
    return None


def require_some_left(refused: Mapping[str, AssetFailure], whole: int) -> None:
    """Make sure that a run can go on without some of its lines; those are named in the log.

    :param refused: Those, and why.
    :param whole: How many lines there are.
    :raises InvalidInputError: no line is left, or more than :data:`MOST_REFUSED` are bad. It names them.
    """
    if refused and (len(refused) == whole or len(refused) > MOST_REFUSED):
        named = [f"{each.asset}: {each.message} {each.remedy}".strip() for each in refused.values()]
        more = f" … and {len(named) - _MOST_NAMED} more." if len(named) > _MOST_NAMED else ""
        raise InvalidInputError(
            f"{len(refused)} of {whole} lines cannot be processed. {' '.join(named[:_MOST_NAMED])}{more}",
            remedy="Nothing was started. Correct them, and trigger the DAG again.",
        )
    for failure in refused.values():
        log.warning("%s: %s %s", failure.asset, failure.message, failure.remedy)


def check_destination(destination: str | None, vod_conn_id: str, allowed: AllowedLocations) -> None:
    """Refuse a destination that cannot be written to, before anything is submitted.

    :param destination: Of the form; the connection's when empty.
    :raises InvalidInputError: there is none, it is not allowed, or no file system for it is installed.
    :raises vod.media.DestinationError: the folder cannot be made or written to.
    :raises vod.storage.errors.StorageError: the object store refuses, or does not answer.
    """
    from vod.hooks import VodHook  # loads an HTTP client: not to parse a DAG file

    if destination:
        Destination(destination, allowed=allowed).check()
    elif own := VodHook(vod_conn_id).settings.destination:
        Destination(own).check()
    else:
        raise InvalidInputError(
            "There is no destination for audio and transcripts.",
            remedy=f"Fill in the field Destination, or set a default in the connection {vod_conn_id}.",
        )


def check_speech(form: Mapping[str, Any], vod_conn_id: str = DEFAULT_CONNECTION) -> None:
    """Refuse speech recognition that cannot be done, before the extraction is paid for.

    The engine, its options and its fallback are those of the connection or of ``[vod] speech``. The model is
    loaded, and a server is asked, on the worker on which this runs. With ``[vod] speech_queue`` that is not
    where speech is recognised: then no model is loaded, and its options and the language are checked.

    :param form: Its fields ``model`` and ``language`` count.
    :raises InvalidInputError: an option that there is not, or that the engine does not have.
    :raises vod.speech.errors.SpeechError: there is no such model, it cannot be loaded or does not know the
        language; the speech server does not answer, does not take the key or has no such model.
    """
    from vod.hooks import VodHook  # loads an HTTP client: not to parse a DAG file

    given = {name: form.get(name) for name in ("model", "language")}
    settings = SpeechSettings.read(given, VodHook(vod_conn_id))
    queue = _speech_queue()
    with hearings(settings, elsewhere=bool(queue)):
        if queue:
            log.info("The options of speech recognition are right. The workers of %r load the model.", queue)
        else:
            log.info("The speech can be recognised as it is asked for.")


def known_audio(
    wanted: Sequence[Wanted],
    register: Any,
    engine: str | None,
    destination: str | None,
    vod_conn_id: str = DEFAULT_CONNECTION,
    *,
    check: bool = True,
) -> Known:
    """What of a list has its audio already, by the register; says so in the log.

    :param register: ``context["asset_state_store"]`` of a task with the register among its inlets.
    :param engine: ``vod`` or ``ffmpeg``; the connection's default engine when empty.
    :param destination: Of the form. Without one, audio stays in VOD, and ffmpeg's goes to the connection's.
    :param check: Make sure that it is still there.
    :raises vod.cloud.errors.CloudError: VOD could not be asked.
    """
    from vod.hooks import VodHook  # loads an HTTP client: not to parse a DAG file

    store = store_of(register)
    if store is None or not wanted:
        return Known()
    hook = VodHook(vod_conn_id)
    engine = engine or hook.settings.engine
    place = destination_of(destination, vod_conn_id) if destination or engine == "ffmpeg" else None
    known = KnownAudio(store, hook, engine, place).find(wanted, check=check)
    running = f", {len(known.running)} are being extracted by other tasks" if known.running else ""
    log.info("Of %d videos %d have their audio already%s.", len(wanted), len(known.done), running)
    return known


def destination_of(location: str | None, vod_conn_id: str = DEFAULT_CONNECTION) -> Destination:
    """The destination of a form, or else the connection's.

    :raises InvalidInputError: there is neither.
    """
    from vod.hooks import VodHook  # loads an HTTP client: not to parse a DAG file

    found = location or VodHook(vod_conn_id).settings.destination
    if not found:
        raise InvalidInputError(
            "There is no destination for audio and transcripts.",
            remedy=f"Fill in the field Destination, or set a default in the connection {vod_conn_id}.",
        )
    return Destination(found)


def new_videos(
    since: datetime, until: datetime, vod_conn_id: str = DEFAULT_CONNECTION
) -> dict[str, float | None]:
    """The videos created in ``[since, until)``, oldest first, with their durations in seconds.

    Audio assets are left out.

    :raises vod.cloud.errors.CloudError: VOD could not be asked.
    """
    from vod.hooks import VodHook

    client: Any = VodHook(vod_conn_id).client  # mypy takes its wrapped generator for an unbound method
    listed = client.list_assets(since=since, until=until)
    videos = [
        asset
        for asset in listed
        if asset.container not in AUDIO_TYPES and asset.asset_status not in ("FAILED", "DELETED")
    ]
    videos.sort(key=lambda asset: (asset.created, asset.asset_id))
    return {asset.asset_id: asset.metadata.duration for asset in videos}


def batches(
    assets: Mapping[str, Mapping[str, Any]] | Sequence[str],
    store: Store,
    size: int = forms.BATCH_SIZE,
    *,
    listed: int = 0,
) -> list[dict[str, Any]]:
    """Split assets into the keyword arguments of mapped extractions.

    Called again in the same run (a retry, a clear, a backfill that reprocesses it), each asset stays in the
    batch that it was in, and new ones follow in batches of their own: what a mapped task remembers of its
    assets belongs to its map index.

    :param assets: Assets, or assets with the arguments of their extraction: a batch has the same for all.
    :param store: ``context["task_state_store"]`` of the task that plans.
    :param listed: How many assets the run was asked for, if what is done already is not among ``assets``.
    :raises TooManyAssetsError: there are more batches than Airflow maps to tasks; none is kept.
    """
    planned: list[dict[str, Any]] = []
    while batch := store.get(f"batch_{len(planned)}"):
        planned.append(batch)
    known = {asset for batch in planned for asset in batch["assets"]}
    groups: dict[tuple[tuple[str, Any], ...], list[str]] = {}
    options = assets if isinstance(assets, Mapping) else {asset: {} for asset in assets}
    for asset, arguments in options.items():
        if asset not in known:
            groups.setdefault(tuple(sorted(arguments.items())), []).append(asset)
    new = [
        {**dict(group), "assets": part} for group, members in groups.items() for part in split(members, size)
    ]
    check_number(len(planned) + len(new))
    for batch in new:
        store.set(f"batch_{len(planned)}", batch, retention=NEVER_EXPIRE)
        planned.append(batch)
    total = sum(len(batch["assets"]) for batch in planned)
    progress.note_plan(store, total, before=max(0, listed - total))
    return planned


def audio_batches(
    records: Iterable[Mapping[str, Any]],
    store: Store,
    size: int = forms.BATCH_SIZE,
    *,
    force: bool = False,
    model: str | None = None,
    language: str | None = None,
    vod_conn_id: str = DEFAULT_CONNECTION,
) -> list[dict[str, Any]]:
    """Split audio into the keyword arguments of mapped transcriptions; transcripts go beside their audio.

    Airflow may announce the same audio twice: what has its transcript already is left out. That is the one
    that the transcription would make: of the same audio, engine, model and options. Where that cannot be
    known here nothing is left out: the transcription itself does nothing twice.

    A batch has no two audios of one asset, such as of its German and its English track: what becomes of them
    is told by the asset.

    :param records: :class:`vod.records.ExtractedAudio` as JSON; of a file that comes twice the last counts.
    :param store: ``context["task_state_store"]`` of the task that plans.
    :param force: Leave out nothing.
    :param model: Speech model of the transcription; as :meth:`SpeechSettings.read` finds it when omitted.
    :param language: Language that it is told, likewise.
    """
    groups: dict[tuple[str | None, int], list[Mapping[str, Any]]] = {}
    audios_of: Counter[str] = Counter()
    for uri, record in {str(record["uri"]): record for record in records}.items():
        folder = None if uri.startswith("vod://") else uri.rpartition("/")[0]
        groups.setdefault((folder, audios_of[record["asset"]]), []).append(record)
        audios_of[record["asset"]] += 1
    planned: list[dict[str, Any]] = []
    before = 0
    wanted = _fingerprints(model, language, vod_conn_id) if groups and not force else None
    for (folder, _), members in groups.items():
        # With several tracks the transcription itself finds what is done of each.
        audio = [parse_record(dict(record)) for record in members if wanted and not record.get("others")]
        heard = [record for record in audio if isinstance(record, ExtractedAudio)]
        done = find_transcripts(destination_of(folder, vod_conn_id), heard, wanted) if heard else {}
        missing = [record for record in members if record["asset"] not in done]
        before += len(members) - len(missing)
        planned += [{"audio": part, "destination": folder} for part in split(missing, size)]
    check_number(len(planned))
    progress.note_plan(store, sum(len(batch["audio"]) for batch in planned), before)
    return planned


def _fingerprints(
    model: str | None, language: str | None, vod_conn_id: str
) -> Callable[[ExtractedAudio], str | None] | None:
    """Says which fingerprint the transcript of an audio is to have; ``None`` where that cannot be known.

    That takes the model's files. They are not fetched to a worker that does not recognise speech.
    """
    from vod.hooks import VodHook  # loads an HTTP client: not to parse a DAG file

    settings = SpeechSettings.read({"model": model, "language": language}, VodHook(vod_conn_id))
    try:
        with closing(engine_of(settings, settings.options, elsewhere=bool(_speech_queue()))) as engine:
            revision = engine.revision(settings.options)
    except VodError as error:
        log.info("Which audio has its transcript is left to the transcription: %s", error)
        return None

    def wanted(record: ExtractedAudio) -> str | None:
        try:
            return fingerprint(record, settings.options, revision)
        except VodError as error:
            log.info("Whether %s has its transcript is left to the transcription: %s", record.asset, error)
            return None

    return wanted


def _speech_queue() -> str:
    """The queue whose workers recognise speech; empty where this worker does."""
    return str(conf.get("vod", "speech_queue", fallback=""))


def max_batches() -> int:
    """Batches of a run at most: ``[core] max_map_length``, to how many tasks Airflow maps a list."""
    return int(conf.getint("core", "max_map_length", fallback=1024))


def max_assets(size: int) -> int:
    """Assets of a run at most, in batches of that size."""
    return max_batches() * size


def check_number(batches: int) -> None:
    """Refuse a plan that Airflow cannot map.

    :raises TooManyAssetsError: it has more batches than :func:`max_batches`.
    """
    if batches > max_batches():
        raise TooManyAssetsError(
            f"{batches} batches are more than the {max_batches()} that Airflow maps to tasks.",
            remedy="Choose a larger batch size, split the list, or raise [core] max_map_length.",
        )


def split(elements: Iterable[T], size: int = forms.BATCH_SIZE) -> Iterator[list[T]]:
    """Parts of that size, in order, or smaller where they would have more than :data:`MAX_BYTES`."""
    part: list[T] = []
    bytes_of_part = 0
    for element in elements:
        bytes_of_element = len(json.dumps(element)) + 2
        if part and (len(part) == size or bytes_of_part + bytes_of_element > MAX_BYTES):
            yield part
            part, bytes_of_part = [], 0
        part.append(element)
        bytes_of_part += bytes_of_element
    if part:
        yield part
