"""What the first task of a DAG decides: which assets a run extracts, and in which batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from airflow.sdk.execution_time.context import NEVER_EXPIRE

from vod.batch import progress
from vod.batch.ledger import Store
from vod.cloud.assets import AUDIO_TYPES
from vod.connection import DEFAULT_CONNECTION
from vod.errors import InvalidInputError
from vod.library.catalogue import Catalogue
from vod.locations import is_asset_id, public_name
from vod.storage.files import check_source

BATCH = 100
"""Assets that one mapped task extracts."""

MOST_ASSETS = 100_000
"""Assets that one run takes: batches of 100 stay below ``[core] max_map_length``, 1024."""

T = TypeVar("T")


class TooManyAssetsError(InvalidInputError):
    """The list is longer than what one run takes."""

    outcome = "too_many_assets"
    remedy = "Split the list, or give its lines a date and work it off month by month."


def cleaned(assets: Iterable[str], *, most: int = MOST_ASSETS) -> list[str]:
    """Make a list out of what a person pasted: without blanks, empty lines and duplicates.

    :raises InvalidInputError: nothing is left.
    :raises TooManyAssetsError: more than ``most`` are left.
    """
    wanted = list(dict.fromkeys(asset.strip() for asset in assets if asset.strip()))
    if not wanted:
        raise InvalidInputError("No assets were given.", remedy="Give at least one asset id, path or URL.")
    if len(wanted) > most:
        raise TooManyAssetsError(f"{len(wanted)} assets are more than the {most} that one run takes.")
    return wanted


def check_sources(assets: Iterable[str], engine: str | None, vod_conn_id: str = DEFAULT_CONNECTION) -> None:
    """Refuse assets that the engine cannot take, before anything is submitted.

    :param engine: ``vod`` or ``ffmpeg``; the connection's default engine when empty.
    :raises InvalidInputError: a file or URL for VOD, a relative path, an unknown kind of URL.
    """
    from vod.hooks import VodHook  # not needed to parse a DAG file, and slow to import

    if (engine or VodHook(vod_conn_id).settings.engine) == "ffmpeg":
        for asset in assets:
            check_source(asset)
        return
    for asset in assets:
        if not is_asset_id(asset):
            raise InvalidInputError(
                "VOD extracts only from its own assets.",
                asset=public_name(asset),
                remedy="Give an asset id, or use the engine ffmpeg for files and URLs.",
            )


def new_videos(since: datetime, until: datetime, vod_conn_id: str = DEFAULT_CONNECTION) -> list[str]:
    """The videos created in ``[since, until)``, oldest first. Audio, such as an extraction makes, is none.

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
    return [asset.asset_id for asset in sorted(videos, key=lambda asset: (asset.created, asset.asset_id))]


def batches(
    assets: Mapping[str, Mapping[str, Any]] | Sequence[str],
    store: Store,
    size: int = BATCH,
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
    for group, members in groups.items():
        for part in split(members, size):
            batch = {**dict(group), "assets": part}
            store.set(f"batch_{len(planned)}", batch, retention=NEVER_EXPIRE)
            planned.append(batch)
    total = sum(len(batch["assets"]) for batch in planned)
    progress.note_plan(store, total, before=max(0, listed - total))
    return planned


def audio_batches(
    records: Iterable[Mapping[str, Any]],
    store: Store,
    size: int = BATCH,
    *,
    force: bool = False,
    vod_conn_id: str = DEFAULT_CONNECTION,
) -> list[dict[str, Any]]:
    """Split audio into the keyword arguments of mapped transcriptions; transcripts go beside their audio.

    Airflow may tell of the same audio twice: what has its transcripts already is left out.

    :param records: :class:`vod.records.ExtractedAudio` as JSON; of an asset that comes twice the last counts.
    :param store: ``context["task_state_store"]`` of the task that plans.
    :param force: Leave out nothing.
    """
    folders: dict[str | None, list[Mapping[str, Any]]] = {}
    for record in {record["asset"]: record for record in records}.values():
        uri = str(record["uri"])
        folder = None if uri.startswith("vod://") else uri.rpartition("/")[0]
        folders.setdefault(folder, []).append(record)
    planned: list[dict[str, Any]] = []
    before = 0
    for folder, members in folders.items():
        names = [record["asset"] for record in members]
        done = {} if force else Catalogue.of(folder, vod_conn_id).transcripts(names)
        missing = [record for record in members if record["asset"] not in done]
        before += len(members) - len(missing)
        planned += [{"audio": part, "destination": folder} for part in split(missing, size)]
    progress.note_plan(store, sum(len(batch["audio"]) for batch in planned), before)
    return planned


def split(elements: Iterable[T], size: int = BATCH) -> Iterator[list[T]]:
    """Parts of that size, in order; the last may be smaller."""
    rest = iter(elements)
    while part := list(islice(rest, size)):
        yield part
