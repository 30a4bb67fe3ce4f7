"""What of a list has its audio already, and what another task is working on: what a plan asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from vod.cloud.assets import Readiness
from vod.library.index import Index
from vod.library.register import Register, Store, ffmpeg_inputs, vod_inputs
from vod.locations import BY_FFMPEG, public_name, variant_in
from vod.logs import get_logger
from vod.records import ExtractedAudio, parse_record
from vod.storage.destination import Destination

if TYPE_CHECKING:
    from vod.hooks import VodHook

log = get_logger(__name__)

_MOST_ENTRIES = 2_000
"""Assets of which each entry is read; of a longer list the index is."""
_PARALLEL = 16
"""Requests to an object store at a time."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The audio that is wanted of one asset.

    :param options: Those of the ffmpeg engine that are not at their default.
    """

    asset: str = field(repr=False)
    audio_format: str
    options: tuple[tuple[str, Any], ...] = ()


@dataclass
class Known:
    """What was found.

    :param done: The audio, by asset. Of a long list only its place is known, not its length or size.
    :param running: Assets that another task is working on. Of a long list they are not looked up.
    """

    done: dict[str, ExtractedAudio] = field(default_factory=dict)
    running: set[str] = field(default_factory=set)


class KnownAudio:
    """Looks up audio in the register, and makes sure that it is still there.

    :param store: That of the register.
    :param hook: The connection.
    :param engine: ``vod`` or ``ffmpeg``.
    :param destination: Where the audio is wanted; ``None`` for audio that stays in VOD.
    """

    def __init__(
        self, store: Store, hook: VodHook, engine: str, destination: Destination | None = None
    ) -> None:
        self._store = store
        self._hook = hook
        self._engine = engine
        self._destination = destination

    def find(self, wanted: Iterable[Wanted], *, check: bool = True) -> Known:
        """What there is of the audio wanted.

        :param check: Make sure that it is still there.
        :raises vod.cloud.errors.CloudError: VOD could not be asked whether it still has the audio.
        """
        groups: dict[tuple[str, tuple[tuple[str, Any], ...]], list[Wanted]] = {}
        for one in wanted:
            groups.setdefault((one.audio_format, one.options), []).append(one)
        long_list = sum(map(len, groups.values())) > _MOST_ENTRIES
        known = Known()
        for (audio_format, options), members in groups.items():
            register = Register(self._store, "", self._inputs(audio_format, dict(options)))
            assets = [one.asset for one in members]
            if long_list:
                found = self._of_index(register, assets, audio_format)
                known.done |= {asset: one for asset, one in found.items() if self._is_at_destination(one)}
            else:
                self._of_entries(register, assets, known)
        if check:
            known.done = self._still_there(known.done)
        return known

    def _inputs(self, audio_format: str, options: Mapping[str, Any]) -> dict[str, Any]:
        if self._engine == "vod":
            return vod_inputs(self._hook.client.project_id(), audio_format)
        assert self._destination
        return ffmpeg_inputs(audio_format, self._destination.uri(""), options)

    def _of_entries(self, register: Register, assets: Sequence[str], known: Known) -> None:
        for asset, entry in register.find(assets).items():
            if entry.record:
                for record in map(parse_record, entry.records):
                    if isinstance(record, ExtractedAudio) and self._is_at_destination(record):
                        known.done[asset] = record
            elif register.is_held(entry):
                known.running.add(asset)

    def _of_index(
        self, register: Register, assets: Sequence[str], audio_format: str
    ) -> dict[str, ExtractedAudio]:
        keys = {register.key(asset): asset for asset in assets}
        return {
            keys[key]: ExtractedAudio(
                asset=public_name(keys[key]),
                uri=uri,
                audio_format=audio_format,
                codec=None,
                duration=None,
                size=0,
                engine=self._engine,
                audio_asset_id=uri.rpartition("/")[2] if uri.startswith("vod://") else None,
            )
            for key, uri in Index(self._store).find(keys).items()
        }

    def _is_at_destination(self, record: ExtractedAudio) -> bool:
        if self._destination is None:
            return record.uri.startswith("vod://")
        name = _name(record)
        # What a fallback was asked for, such as a part, is in the name; VOD's own audio is all of it.
        is_other = self._engine == "vod" and variant_in(name) not in ("", BY_FFMPEG)
        return not is_other and record.uri == self._destination.uri(name)

    def _still_there(self, records: Mapping[str, ExtractedAudio]) -> dict[str, ExtractedAudio]:
        """The records whose audio was not removed since: one call for ten in VOD, one look at each file.

        A file of another size than its record says was replaced since.
        """
        if self._destination is None:
            audio = {asset: record.audio_asset_id or "" for asset, record in records.items()}
            states = self._hook.client.asset_info(audio.values())
            return {
                asset: records[asset]
                for asset, one in audio.items()
                if states[one].readiness is Readiness.READY
            }
        destination = self._destination
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="known_audio") as pool:
            sizes = pool.map(lambda record: destination.size(_name(record)), records.values())
            return {
                asset: records[asset]
                for asset, size in zip(records, sizes, strict=True)
                if size and size == (records[asset].size or size)
            }


def _name(record: ExtractedAudio) -> str:
    name = record.uri.rpartition("/")[2]
    return unquote(name) if record.uri.startswith("file://") else name
