"""Client of the VOD service.

Every rule of the contract is written once, as a coroutine: :class:`AsyncVodClient` awaits it on an event
loop, :class:`VodClient` runs the same coroutine to its end on the calling thread.
"""

from __future__ import annotations

import functools
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import httpx

from vod.cloud.assets import (
    MISSING,
    Asset,
    AssetPage,
    AssetSummary,
    PullRequest,
    PullResult,
    Submission,
    UploadGrant,
    normalize_status,
    parse_each,
)
from vod.cloud.clock import ServiceClock
from vod.cloud.errors import (
    AnswerLostError,
    AssetNotFoundError,
    CloudError,
    ServiceError,
    SourceNotReadyError,
)
from vod.cloud.listing import Listing, whole_seconds
from vod.cloud.runtime import BlockingRuntime, LoopRuntime, run
from vod.cloud.session import Session
from vod.cloud.settings import ServiceSettings
from vod.cloud.titles import same_title, search_text
from vod.cloud.transfer import Transfers, Writable
from vod.errors import InvalidInputError

IDS_PER_CALL = 10
"""Most asset ids in one call (section 12)."""
PULLS_PER_CALL = 16
"""Most URLs in one pull (section 12)."""
MAX_LENGTH_NAME = 128
"""Bytes of a title or a file's name (section 12)."""

CLOCK_MARGIN = timedelta(minutes=1)
"""How far a list is asked for beyond the window that is wanted."""

_FIRST = datetime(2000, 1, 1, tzinfo=timezone.utc)
"""Before any asset was created."""

_UPLOAD_TYPES = {
    "MP4": "video/mp4",
    "MOV": "video/quicktime",
    "FLV": "video/flv",
    "AVI": "video/x-msvideo",
    "TS": "video/mp2t",
    "MKV": "video/x-matroska",
}

P = ParamSpec("P")
T = TypeVar("T")


class AsyncVodClient:
    """The calls of VOD that Airflow needs, for use on an event loop.

    :param settings: Endpoint, project, keys, time limit, share of the quotas.
    :param retry_seconds: Seconds that one call may spend on repeating itself, all waits together. 0 never
        repeats.
    """

    def __init__(
        self, settings: ServiceSettings, *, retry_seconds: float = 120.0, runtime: LoopRuntime | None = None
    ) -> None:
        self._session = Session(settings, retry_seconds=retry_seconds, runtime=runtime or LoopRuntime())
        self._transfers = Transfers(self._session)

    @property
    def clock(self) -> ServiceClock:
        """What VOD's clock shows, as far as its answers tell: their times are its own."""
        return self._session.clock

    async def aclose(self) -> None:
        """Close the connections to the service."""
        await self._session.http.aclose()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Make a call that this client has no method for, authorised and repeated as the others are.

        Which quota it counts to is not known here, so it is not paced.

        :param path: Below the endpoint, for example ``/v1.0/{project_id}/asset/category``; the project's id
            is filled in.
        :raises CloudError: any refusal; redirects are one.
        """
        return await self._session.request(
            method, path, lambda response: response, params=params, content=content, headers=headers
        )

    @property
    def refused_for(self) -> float:
        """Seconds for which VOD is not to be asked, since it refused the credential; 0 if it did not."""
        return self._session.refusals.seconds_left

    async def project_id(self) -> str:
        """The project whose assets these are (section 2).

        :raises CloudError: it is not given, and cannot be found out.
        """
        return await self._session.project_id()

    @property
    def extractions_per_minute(self) -> float:
        """What VOD takes of this tenant, by the quota and the share of it that is to be used."""
        return self._session.per_minute("extract")

    async def extract_audio(
        self,
        asset_id: str,
        audio_format: str | None = None,
        *,
        paced: bool = True,
        before: Callable[[], None] | None = None,
    ) -> Submission:
        """Ask VOD to extract the audio of a video into a new audio asset (section 3).

        The call is not idempotent: after :class:`AnswerLostError`, see
        :mod:`vod.engines.lost_answers` before calling again.

        :param asset_id: The video.
        :param audio_format: ``MP3`` or ``AAC``; VOD's own default when omitted.
        :param paced: Whether to wait for the quota, and to repeat a 429. Without, it is the caller who paces.
        :param before: Called each time directly before the call is sent, after all waiting.
        :raises AnswerLostError: the extraction may or may not have been accepted.
        :raises SourceNotReadyError: the video is still being created or processed.
        :raises CloudError: any other refusal, see :mod:`vod.cloud.errors`.
        """
        body: dict[str, Any] = {"asset_id": asset_id}
        if audio_format:
            body["parameter"] = {"format": audio_format}
        try:
            return await self._session.call(
                "POST",
                "/asset/extract_audio",
                Submission.parse,
                quota="extract",
                body=body,
                asset=asset_id,
                paced=paced,
                before=before,
            )
        except ServiceError as error:
            raise _lost("VOD did not say whether it accepted the extraction.", error, asset_id) from error

    async def cancel_extraction(self, asset_id: str, audio_asset_id: str) -> bool:
        """Cancel a queued extraction (section 4).

        The contract does not say whether the call wants the source or the audio asset; both are tried.

        :returns: whether VOD confirmed; False when the extraction already runs or has ended, which is normal.
        """
        for candidate in (asset_id, audio_asset_id):
            try:
                await self._session.call(
                    "DELETE",
                    "/asset/extract_audio",
                    _nothing,
                    quota="cancel",
                    params={"asset_id": candidate},
                    asset=asset_id,
                )
            except (AssetNotFoundError, SourceNotReadyError):
                continue
            return True
        return False

    async def asset_info(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        """Read status and metadata of any number of assets, ten to a call (section 5).

        :returns: one record an id, in the order given. One that VOD's answer leaves out
            (:attr:`Asset.is_missing`), or describes in a way that cannot be read, has no known status.
        """
        wanted = list(dict.fromkeys(asset_ids))
        found: dict[str, Asset] = {}
        for group in _groups(wanted, IDS_PER_CALL):
            found |= await self._session.call(
                "GET", "/asset/info", _assets, quota="info", params={"asset_id": group}
            )
        return _one_for_each(wanted, found)

    async def asset_details(self, asset_id: str) -> Asset:
        """Read metadata and the signed URL of one asset (section 6). The answer has no status.

        :raises AssetNotFoundError: there is no such asset.
        """
        params = {"asset_id": asset_id, "categories": "base_info"}
        return await self._session.call(
            "GET", "/asset/details", Asset.parse, quota="list", params=params, asset=asset_id
        )

    async def list_assets(
        self, *, since: datetime, until: datetime, containers: Sequence[str] = ()
    ) -> AsyncIterator[AssetSummary]:
        """Iterate over the assets created in ``[since, until)``, newest first (section 7).

        Whether VOD's window includes its ends is undocumented, and pages shift while assets arrive: the
        window is asked for a minute wider, the ends are applied here, and no asset comes twice. What is
        deleted or added meanwhile makes no other asset slip through (:class:`vod.cloud.listing.Listing`).

        :param since: aware time by VOD's clock (:attr:`clock`); ``until`` likewise. An asset whose time of
            creation cannot be read is left out, with a warning.
        :param containers: ``media_type`` filter, for example ``("MP3",)``.
        :raises IncompleteListError: VOD does not let all of them be read.
        """
        seen: set[str] = set()
        conditions = {"media_type": list(containers)} if containers else {}
        listing = Listing(self._list_page, conditions)
        start, end = whole_seconds(since - CLOCK_MARGIN), whole_seconds(until + CLOCK_MARGIN)
        async for asset in listing.read(start, end):
            inside = asset.created is not None and since <= asset.created < until
            if inside and asset.asset_id not in seen:
                seen.add(asset.asset_id)
                yield asset

    async def find_by_title(self, title: str) -> list[AssetSummary]:
        """Find the assets of a title, videos and audio, as far as VOD's search finds them (section 7).

        The search is fuzzy and its rules are not documented: what it finds is compared with
        :func:`vod.cloud.titles.same_title`, but what it does not find may exist all the same.

        :raises IncompleteListError: VOD finds more than it lists.
        """
        now = datetime.fromtimestamp(self.clock.time(), timezone.utc)
        listing = Listing(self._list_page, {"query_string": search_text(title)})
        found = {
            asset.asset_id: asset
            async for asset in listing.read(_FIRST, whole_seconds(now + timedelta(days=1)))
            if same_title(asset.title, title)
        }
        return [*found.values()]

    async def _list_page(self, params: Mapping[str, Any]) -> AssetPage:
        return await self._session.call("GET", "/asset/list", AssetPage.parse, quota="list", params=params)

    async def upload(self, source: Path, *, title: str | None = None, auto_publish: bool = False) -> str:
        """Upload a local video as a new asset: create, send the file, confirm (section 8).

        :param source: The video; above 20 MB it is sent in parts.
        :param title: Title of the asset, up to 128 bytes of UTF-8; the file's name without its extension, cut
            to fit, when omitted.
        :returns: the new asset's id.
        :raises InvalidInputError: there is no such file, it is empty, or VOD takes no such container or
            title.
        :raises TransferError: the storage refused the file; the asset is marked as failed.
        """
        container = source.suffix[1:].upper()
        if container not in _UPLOAD_TYPES:
            raise InvalidInputError(
                f"VOD takes {', '.join(_UPLOAD_TYPES)}, not {container or 'a file without extension'}.",
                asset=str(source),
                remedy="Convert the file, or give its path to the ffmpeg engine.",
            )
        if not await self._session.runtime.call(_has_content, source):
            raise InvalidInputError(
                "There is no such file, or it is empty.", asset=str(source), remedy="Check the path."
            )
        if title and len(title.encode(errors="replace")) > MAX_LENGTH_NAME:
            raise InvalidInputError(
                f"The title has more than the {MAX_LENGTH_NAME} bytes of UTF-8 that VOD takes.",
                asset=str(source),
                remedy="Shorten it.",
            )
        body = {
            "title": title or _fitting(source.stem, MAX_LENGTH_NAME),
            "video_name": _fitting(source.stem, MAX_LENGTH_NAME - len(source.suffix)) + source.suffix,
            "video_type": container,
            "auto_publish": int(auto_publish),
        }
        grant = await self._session.call("POST", "/asset", UploadGrant.parse, quota="upload", body=body)
        try:
            await self._transfers.upload(grant, source, _UPLOAD_TYPES[container])
        except BaseException as error:
            with suppress(CloudError):
                await self._confirm(grant.asset_id, "FAILED")
            if isinstance(error, CloudError):
                error.asset = error.asset or str(source)
            raise
        await self._confirm(grant.asset_id, "CREATED")
        return grant.asset_id

    async def pull(self, requests: Iterable[PullRequest]) -> list[PullResult]:
        """Let VOD fetch videos from URLs, sixteen to a call (section 8).

        The assets exist at once; the downloads run later, and one that fails shows in the status of its
        asset.

        :returns: one result a request, in order; a refused one has an error instead of an asset id. The error
            ``answer_lost`` says that VOD's answer leaves it out: it may or may not have been accepted.
        :raises AnswerLostError: a call may or may not have been accepted; it is not repeated.
        """
        results: list[PullResult] = []
        for group in _groups(list(requests), PULLS_PER_CALL):
            body = {"upload_metadatas": [request.to_wire() for request in group]}
            parse = functools.partial(PullResult.parse_all, requests=group)
            try:
                results += await self._session.call(
                    "POST", "/asset/upload_by_url", parse, quota="pull", body=body
                )
            except ServiceError as error:
                raise _lost("VOD did not say whether it accepted the URLs.", error, None) from error
        return results

    async def publish(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        """Publish assets, so that their CDN URLs work (section 8).

        :returns: one record an id, as of :meth:`asset_info`; an unknown one has NO_ASSET or UNCREATED.
        """
        return await self._change("/asset/status/publish", asset_ids)

    async def unpublish(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        """Take the publication of assets back (section 8)."""
        return await self._change("/asset/status/unpublish", asset_ids)

    async def delete(self, asset_ids: Iterable[str]) -> dict[str, bool]:
        """Delete assets for good (section 8).

        :returns: for each id whether VOD says that it is deleted; assets in processing cannot be.
        """
        wanted = list(dict.fromkeys(asset_ids))
        deleted: dict[str, bool] = {}
        for group in _groups(wanted, IDS_PER_CALL):
            deleted |= await self._session.call(
                "DELETE", "/asset", _deletions, quota="manage", params={"asset_id": group}
            )
        return {asset_id: deleted.get(asset_id, False) for asset_id in wanted}

    async def download(self, asset_id: str, target: Path | Writable) -> int:
        """Download the original file of an asset; for an audio asset that is the audio (section 6).

        The signed storage URL is used first, since the CDN does not deliver an unpublished asset. A
        connection that breaks is taken up where it broke.

        :param target: A path, under which the file appears only when it is complete, or an open binary file.
        :returns: bytes received.
        :raises AssetNotFoundError: there is no such asset.
        :raises TransferError: the asset has no file, or the storage did not deliver it whole.
        """
        return await self._transfers.download(lambda: self.asset_details(asset_id), target, asset=asset_id)

    async def _change(self, path: str, asset_ids: Iterable[str]) -> dict[str, Asset]:
        wanted = list(dict.fromkeys(asset_ids))
        changed: dict[str, Asset] = {}
        for group in _groups(wanted, IDS_PER_CALL):
            body = {"asset_id": group}  # an array under a singular name
            changed |= await self._session.call("POST", path, _assets, quota="manage", body=body)
        return _one_for_each(wanted, changed)

    async def _confirm(self, asset_id: str, status: str) -> None:
        body = {"asset_id": asset_id, "status": status}
        await self._session.call(
            "POST", "/asset/status/uploaded", _nothing, quota="upload", body=body, asset=asset_id
        )


def _nothing(_: Any) -> None:
    """Parse an answer whose body does not matter."""


def _assets(answer: Any) -> dict[str, Asset]:
    elements = Asset.parse_each(answer.get("asset_info_array") or [])
    return {asset.asset_id: asset for asset in elements}


def _one_for_each(wanted: Iterable[str], found: Mapping[str, Asset]) -> dict[str, Asset]:
    return {asset_id: found.get(asset_id, Asset(asset_id=asset_id, status=MISSING)) for asset_id in wanted}


def _deletions(answer: Any) -> dict[str, bool]:
    return dict(
        parse_each(
            answer["delete_result_array"],
            lambda result: (str(result["asset_id"]), normalize_status(str(result["status"])) == "DELETED"),
        )
    )


def _has_content(file: Path) -> bool:
    return file.is_file() and file.stat().st_size > 0


def _fitting(name: str, size: int) -> str:
    """A file's name in so many bytes; what is not UTF-8 in it becomes question marks."""
    return name.encode(errors="replace")[:size].decode(errors="ignore")


def _groups(elements: Sequence[T], size: int) -> Iterator[list[T]]:
    return (list(elements[start : start + size]) for start in range(0, len(elements), size))


def _lost(message: str, error: ServiceError, asset: str | None) -> AnswerLostError:
    return AnswerLostError(message, status=error.status, request_id=error.request_id, asset=asset)


def _blocking(
    method: Callable[Concatenate[AsyncVodClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[VodClient, P], T]:
    @functools.wraps(method)
    def call(client: VodClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return run(method(client._coroutines, *args, **kwargs))

    return call


def _like(method: Callable[..., Any]) -> Callable[[T], T]:
    """Describe a method as another one is, which type checkers need not know."""
    return cast("Callable[[T], T]", functools.wraps(method))


class VodClient:
    """The calls of :class:`AsyncVodClient` for a thread that may wait, with the same results and errors."""

    def __init__(self, settings: ServiceSettings, *, retry_seconds: float = 120.0) -> None:
        self._coroutines = AsyncVodClient(settings, retry_seconds=retry_seconds, runtime=BlockingRuntime())

    @property
    def clock(self) -> ServiceClock:
        """What VOD's clock shows, as far as its answers tell: their times are its own."""
        return self._coroutines.clock

    close = _blocking(AsyncVodClient.aclose)
    request = _blocking(AsyncVodClient.request)
    project_id = _blocking(AsyncVodClient.project_id)
    extract_audio = _blocking(AsyncVodClient.extract_audio)
    cancel_extraction = _blocking(AsyncVodClient.cancel_extraction)
    asset_info = _blocking(AsyncVodClient.asset_info)
    asset_details = _blocking(AsyncVodClient.asset_details)
    find_by_title = _blocking(AsyncVodClient.find_by_title)
    upload = _blocking(AsyncVodClient.upload)
    pull = _blocking(AsyncVodClient.pull)
    publish = _blocking(AsyncVodClient.publish)
    unpublish = _blocking(AsyncVodClient.unpublish)
    delete = _blocking(AsyncVodClient.delete)
    download = _blocking(AsyncVodClient.download)

    @property
    def refused_for(self) -> float:
        """See :attr:`AsyncVodClient.refused_for`."""
        return self._coroutines.refused_for

    @property
    def extractions_per_minute(self) -> float:
        """See :attr:`AsyncVodClient.extractions_per_minute`."""
        return self._coroutines.extractions_per_minute

    @_like(AsyncVodClient.list_assets)
    def list_assets(
        self, *, since: datetime, until: datetime, containers: Sequence[str] = ()
    ) -> Iterator[AssetSummary]:
        pages = self._coroutines.list_assets(since=since, until=until, containers=containers)

        async def following() -> AssetSummary | None:
            return await anext(pages, None)

        while asset := run(following()):
            yield asset
