"""Client of the VOD service.

Every rule of the contract is written once, as a coroutine: :class:`AsyncVodClient` awaits it on an event
loop, :class:`VodClient` runs the same coroutine to its end on the calling thread.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from vod import __version__
from vod.cloud.assets import TIME_FORMAT, Asset, AssetSummary, Submission, UploadGrant
from vod.cloud.errors import (
    AnswerLostError,
    AssetNotFoundError,
    AuthenticationError,
    CloudError,
    NotSentError,
    ServiceError,
    SourceNotReadyError,
    ThrottledError,
    TransferError,
    error_class,
)
from vod.cloud.signing import Credentials, SignatureAuth
from vod.cloud.transport import BlockingTransport, FileStream, redact_signed_urls
from vod.errors import InvalidInputError

log = logging.getLogger(__name__)
redact_signed_urls()

IDS_PER_CALL = 10
"""Most asset ids in one asset/info call (section 12)."""
PAGE_SIZE = 100
"""Largest page of asset/list (section 7)."""
UPLOAD_LIMIT = 20 * 1024 * 1024
"""Bytes that one PUT may carry (section 8)."""

_MOST_TRIES = 5
_CLOCK_TOLERANCE = timedelta(minutes=15)  # section 1.1
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

    :param endpoint: URL of the service with scheme, and port if not the default, for example
        ``https://vod.cn-north-4.myhuaweicloud.com`` (section 2).
    :param project_id: Project of that region.
    :param credentials: Access key that signs every call.
    :param timeout: Seconds to wait for an answer once connected; connecting may take 10.
    :param patience: Seconds that one call may spend on repeating itself, all waits together. 0 never repeats.
    """

    def __init__(
        self,
        endpoint: str,
        project_id: str,
        credentials: Credentials,
        *,
        timeout: float = 60.0,
        patience: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._base = f"{endpoint.rstrip('/')}/v1.0/{project_id}"
        self._auth = SignatureAuth(credentials, project_id)
        self._patience = patience
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(timeout, connect=10.0),
            headers={"User-Agent": f"airflow-provider-vod/{__version__}"},
        )

    async def aclose(self) -> None:
        """Close the connections to the service."""
        await self._http.aclose()

    async def extract_audio(self, asset_id: str, audio_format: str | None = None) -> Submission:
        """Ask VOD to extract the audio of a video into a new audio asset (section 3).

        The call is not idempotent: after :class:`AnswerLostError` look with :meth:`find_audio_assets` before
        calling again.

        :param asset_id: The video.
        :param audio_format: ``MP3`` or ``AAC``; VOD's own default when omitted.
        :raises AnswerLostError: the extraction may or may not have been accepted.
        :raises SourceNotReadyError: the video is still being created or processed.
        :raises CloudError: any other refusal, see :mod:`vod.cloud.errors`.
        """
        body: dict[str, Any] = {"asset_id": asset_id}
        if audio_format:
            body["parameter"] = {"format": audio_format}
        try:
            answer = await self._call("POST", "/asset/extract_audio", body=body, asset=asset_id)
            return Submission.parse(answer)
        except (ServiceError, KeyError, TypeError) as error:
            raise AnswerLostError(
                "VOD did not say whether it accepted the extraction.",
                status=getattr(error, "status", None),
                request_id=getattr(error, "request_id", None),
                asset=asset_id,
            ) from error

    async def cancel_extraction(self, asset_id: str, audio_asset_id: str) -> bool:
        """Cancel a queued extraction (section 4).

        The contract does not say whether the call wants the source or the audio asset; both are tried.

        :returns: whether VOD confirmed; False when the extraction already runs or has ended, which is normal.
        """
        for candidate in (asset_id, audio_asset_id):
            try:
                await self._call(
                    "DELETE", "/asset/extract_audio", params={"asset_id": candidate}, asset=asset_id
                )
            except (AssetNotFoundError, SourceNotReadyError):
                continue
            return True
        return False

    async def asset_info(self, asset_ids: Iterable[str]) -> dict[str, Asset]:
        """Read status and metadata of any number of assets, ten to a call (section 5).

        :returns: one record an id, in the order given; an id that VOD does not mention has NO_ASSET.
        """
        wanted = list(dict.fromkeys(asset_ids))
        found: dict[str, Asset] = {}
        for start in range(0, len(wanted), IDS_PER_CALL):
            group = wanted[start : start + IDS_PER_CALL]
            answer = await self._call("GET", "/asset/info", params={"asset_id": group})
            for element in answer.get("asset_info_array") or ():
                asset = Asset.parse(element)
                found[asset.asset_id] = asset
        return {
            asset_id: found.get(asset_id, Asset(asset_id=asset_id, status="NO_ASSET")) for asset_id in wanted
        }

    async def wait_until_settled(
        self,
        audio_asset_ids: Iterable[str],
        *,
        deadline: float,
        interval: float = 5.0,
        longest_interval: float = 30.0,
        grace_until: float = 0.0,
        on_poll: Callable[[Mapping[str, Asset], float], None] | None = None,
    ) -> list[str]:
        """Poll audio assets until each is ready or has failed (sections 5.3, 11); the caller re-reads them.

        A passing fault postpones the next poll, it never ends the wait.

        :param deadline: Seconds since the epoch after which nothing is polled any more.
        :param interval: Seconds before the second poll; the pause grows by half each time.
        :param longest_interval: Seconds that the pause grows to.
        :param grace_until: Seconds since the epoch until which an unknown id counts as not visible yet.
        :param on_poll: Told after each poll what was read and how many seconds remain until the next.
        :returns: the ids that were not settled by the deadline.
        :raises CloudError: a refusal that will not pass, such as a wrong key.
        """
        pending = list(dict.fromkeys(audio_asset_ids))
        while True:
            pause = min(interval, max(deadline - time.time(), 0.0))
            try:
                read = await self.asset_info(pending)
            except CloudError as error:
                if not error.retryable:
                    raise
                log.warning("Reading %d audio assets failed: %s", len(pending), error)
            else:
                grace = time.time() < grace_until
                pending = [asset.asset_id for asset in read.values() if not asset.settled(grace=grace)]
                if on_poll:
                    on_poll(read, pause if pending else 0.0)
            if not pending or pause <= 0:
                return pending
            await self._sleep(pause)
            interval = min(interval * 1.5, longest_interval)

    async def asset_details(self, asset_id: str) -> Asset:
        """Read metadata and the signed URL of one asset (section 6). The answer has no status.

        :raises AssetNotFoundError: there is no such asset.
        """
        params = {"asset_id": asset_id, "categories": "base_info"}
        return Asset.parse(await self._call("GET", "/asset/details", params=params, asset=asset_id))

    async def list_assets(
        self, *, since: datetime, until: datetime, containers: Sequence[str] = ()
    ) -> AsyncIterator[AssetSummary]:
        """Iterate over the assets created in ``[since, until)``, newest first (section 7).

        Whether VOD's window includes its ends is undocumented, and pages shift while assets arrive: the
        window is asked for a minute wider, the ends are applied here, and no asset comes twice.

        :param since: aware time; ``until`` likewise.
        :param containers: ``media_type`` filter, for example ``("MP3",)``.
        """
        margin = timedelta(minutes=1)
        params: dict[str, Any] = {
            "start_time": (since - margin).astimezone(timezone.utc).strftime(TIME_FORMAT),
            "end_time": (until + margin).astimezone(timezone.utc).strftime(TIME_FORMAT),
            "size": PAGE_SIZE,
        }
        if containers:
            params["media_type"] = list(containers)
        seen: set[str] = set()
        page = 0
        while True:
            answer = await self._call("GET", "/asset/list", params={**params, "page": page})
            assets = [AssetSummary.parse(element) for element in answer.get("assets") or ()]
            for asset in assets:
                if asset.asset_id not in seen and since <= asset.created < until:
                    seen.add(asset.asset_id)
                    yield asset
            page += 1
            if len(assets) < PAGE_SIZE or page * PAGE_SIZE >= int(answer.get("total") or 0):
                return

    async def find_audio_assets(
        self, title: str, audio_format: str, *, since: datetime
    ) -> list[AssetSummary]:
        """Find the audio assets that an extraction, whose answer was lost, may have made (section 3).

        An extracted audio asset carries the title of its source, so that is all there is to go by.

        :param title: Title of the source.
        :param since: When the submission was about to be sent, by this machine's clock.
        """
        # Two machines' clocks: the asset's creation time is VOD's.
        since = since.replace(microsecond=0) - timedelta(minutes=1)
        until = datetime.now(timezone.utc) + timedelta(days=1)
        candidates = self.list_assets(since=since, until=until, containers=(audio_format,))
        return [asset async for asset in candidates if asset.title == title]

    async def upload(self, source: Path, *, title: str | None = None, auto_publish: bool = False) -> str:
        """Upload a local video as a new asset: create, PUT, confirm (section 8).

        :param source: The video, up to 20 MB.
        :param title: Title of the asset; the file's name without its extension when omitted.
        :returns: the new asset's id.
        :raises InvalidInputError: the file is too large, or its container is not one that VOD takes.
        :raises TransferError: the storage refused the file; the asset is marked as failed.
        """
        container = source.suffix[1:].upper()
        size = os.stat(source).st_size  # noqa: PTH116 - one stat does not hold up the loop
        if container not in _UPLOAD_TYPES:
            raise InvalidInputError(
                f"VOD takes {', '.join(_UPLOAD_TYPES)}, not {container or 'a file without extension'}.",
                asset=str(source),
                remedy="Convert the file, or give its path to the ffmpeg engine.",
            )
        if size > UPLOAD_LIMIT:
            raise InvalidInputError(
                f"The file has {size} bytes, one upload takes {UPLOAD_LIMIT}.",
                asset=str(source),
                remedy="Upload it in the VOD console, or give its path to the ffmpeg engine.",
            )
        body = {
            "title": title or source.stem,
            "video_name": source.name,
            "video_type": container,
            "auto_publish": int(auto_publish),
        }
        grant = UploadGrant.parse(await self._call("POST", "/asset", body=body))
        try:
            await self._put(grant, source, content_type=_UPLOAD_TYPES[container], size=size)
        except CloudError:
            await self._confirm(grant.asset_id, "FAILED")
            raise
        await self._confirm(grant.asset_id, "CREATED")
        return grant.asset_id

    async def download(self, asset_id: str, target: Path) -> Path:
        """Download the original file of an asset; for an audio asset that is the audio (section 6).

        The file appears under ``target`` only when it is complete.

        :raises AssetNotFoundError: there is no such asset.
        :raises TransferError: the asset has no file, or the storage did not deliver it whole.
        """
        asset = await self.asset_details(asset_id)
        url = asset.signed_url or asset.url
        if not url:
            raise TransferError("The asset has no file to download.", asset=asset_id)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            async with self._http.stream("GET", url) as response:
                if response.status_code != 200:
                    raise TransferError(
                        "The storage refused the download.", status=response.status_code, asset=asset_id
                    )
                with part.open("wb") as file:
                    async for chunk in response.aiter_raw():
                        file.write(chunk)
            expected = int(response.headers.get("Content-Length", part.stat().st_size))
            if part.stat().st_size != expected:
                raise TransferError(f"Got {part.stat().st_size} of {expected} bytes.", asset=asset_id)
            part.replace(target)
        except httpx.HTTPError as error:
            raise TransferError(f"The download broke off ({type(error).__name__}).", asset=asset_id) from None
        finally:
            part.unlink(missing_ok=True)
        return target

    async def _put(self, grant: UploadGrant, source: Path, *, content_type: str, size: int) -> None:
        headers = {"Content-Type": content_type, "Content-Length": str(size)}
        request = self._http.build_request("PUT", grant.upload_url, headers=headers)
        request.stream = FileStream(source)
        try:
            response = await self._http.send(request)
        except httpx.HTTPError as error:  # its text may hold the signed URL
            raise TransferError(
                f"The upload broke off ({type(error).__name__}).", asset=str(source)
            ) from None
        if not response.is_success:
            raise TransferError(
                "The storage refused the file.", status=response.status_code, asset=str(source)
            )

    async def _confirm(self, asset_id: str, status: str) -> None:
        await self._call("POST", "/asset/status/uploaded", body={"asset_id": asset_id, "status": status})

    async def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        asset: str | None = None,
    ) -> Any:
        """Make one call and repeat it as section 9 allows.

        A GET is repeated after any passing fault, anything else only where it surely was not accepted.
        """
        repeatable: tuple[type[CloudError], ...] = (ThrottledError, NotSentError)
        if method == "GET":
            repeatable += (ServiceError, AnswerLostError)
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, repeatable)),
            wait=_wait,
            stop=self._stop,
            sleep=self._sleep,
            before_sleep=_log_repeat,
            reraise=True,
        )
        return await retrying(self._attempt, method, path, params, body, asset)

    def _stop(self, state: RetryCallState) -> bool:
        # A quota's window is a minute: only patience ends that wait. Other faults outlast five tries or pass.
        if (state.seconds_since_start or 0) + (state.upcoming_sleep or 0) >= self._patience:
            return True
        return not isinstance(_error(state), ThrottledError) and state.attempt_number >= _MOST_TRIES

    async def _attempt(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        asset: str | None,
    ) -> Any:
        try:
            response = await self._http.request(
                method,
                self._base + path,
                params=params,
                content=None if body is None else json.dumps(body, separators=(",", ":")).encode(),
                headers={"Content-Type": "application/json"},
                auth=self._auth,
            )
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
        ) as error:
            host = httpx.URL(self._base).host
            raise NotSentError(f"VOD at {host} cannot be reached ({error}).", asset=asset) from error
        except httpx.HTTPError as error:
            raise AnswerLostError(f"VOD did not answer ({type(error).__name__}).", asset=asset) from error
        if not response.is_success:
            raise _refusal(response, asset)
        if response.status_code == 204:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise ServiceError(
                "VOD's answer is not JSON.",
                status=response.status_code,
                request_id=response.headers.get("X-Request-Id"),
                asset=asset,
            ) from error


def _refusal(response: httpx.Response, asset: str | None) -> CloudError:
    code, message, request_id = _envelope(response)
    kind = error_class(code, response.status_code)
    remedy = None
    if kind is AuthenticationError and (skew := _clock_skew(response)):
        remedy = f"The clock of this machine is {skew} off: set it right."
        message = "VOD refused the signature because of its time."
    error = kind(
        message,
        code=code or f"HTTP.{response.status_code}",
        status=response.status_code,
        request_id=request_id,
        asset=asset,
        remedy=remedy,
    )
    if isinstance(error, ThrottledError) and response.headers.get("Retry-After", "").isdigit():
        error.retry_after = float(response.headers["Retry-After"])
    return error


def _envelope(response: httpx.Response) -> tuple[str | None, str, str | None]:
    """Code, message and request id of an error answer, whichever of the shapes of section 9 it has."""
    request_id = response.headers.get("X-Request-Id")
    fallback = f"VOD answered with HTTP status {response.status_code}."
    try:
        body = response.json()
    except ValueError:
        return None, fallback, request_id
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if not isinstance(body, dict):
        return None, fallback, request_id
    code = body.get("error_code") or body.get("errorCode") or body.get("code")
    message = body.get("error_msg") or body.get("errorMsg") or body.get("message")
    # The gateway echoes the canonical request of a bad signature: long, and of no use to a person.
    words = str(message).split(",canonicalRequest:")[0] if message else fallback
    return str(code) if code else None, words, request_id or body.get("request_id")


def _clock_skew(response: httpx.Response) -> timedelta | None:
    try:
        theirs = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError):
        return None
    skew = abs(datetime.now(timezone.utc) - theirs.replace(tzinfo=timezone.utc))
    return timedelta(seconds=int(skew.total_seconds())) if skew > _CLOCK_TOLERANCE else None


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


_backoff = wait_random_exponential(multiplier=1, max=30)


def _wait(state: RetryCallState) -> float:
    error = _error(state)
    if isinstance(error, ThrottledError) and error.retry_after is not None:
        return error.retry_after
    return _backoff(state)


def _log_repeat(state: RetryCallState) -> None:
    log.info("%s Trying again in %.1f s.", _error(state), state.upcoming_sleep)


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to its end a coroutine that never suspends, because all it awaits blocks instead."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} suspended on the blocking client.")


def _blocking(
    method: Callable[Concatenate[AsyncVodClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[VodClient, P], T]:
    @functools.wraps(method)
    def call(client: VodClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return _run(method(client._coroutines, *args, **kwargs))

    return call


class VodClient:
    """The calls of :class:`AsyncVodClient` for a thread that may wait, with the same results and errors."""

    def __init__(
        self,
        endpoint: str,
        project_id: str,
        credentials: Credentials,
        *,
        timeout: float = 60.0,
        patience: float = 120.0,
    ) -> None:
        async def sleep(seconds: float) -> None:
            time.sleep(seconds)  # noqa: ASYNC251 - this is the client that blocks

        self._coroutines = AsyncVodClient(
            endpoint,
            project_id,
            credentials,
            timeout=timeout,
            patience=patience,
            transport=BlockingTransport(),
            sleep=sleep,
        )

    close = _blocking(AsyncVodClient.aclose)
    extract_audio = _blocking(AsyncVodClient.extract_audio)
    cancel_extraction = _blocking(AsyncVodClient.cancel_extraction)
    asset_info = _blocking(AsyncVodClient.asset_info)
    wait_until_settled = _blocking(AsyncVodClient.wait_until_settled)
    asset_details = _blocking(AsyncVodClient.asset_details)
    find_audio_assets = _blocking(AsyncVodClient.find_audio_assets)
    upload = _blocking(AsyncVodClient.upload)
    download = _blocking(AsyncVodClient.download)

    @functools.wraps(AsyncVodClient.list_assets)
    def list_assets(
        self, *, since: datetime, until: datetime, containers: Sequence[str] = ()
    ) -> Iterator[AssetSummary]:
        pages = self._coroutines.list_assets(since=since, until=until, containers=containers)

        async def following() -> AssetSummary | None:
            return await anext(pages, None)

        while asset := _run(following()):
            yield asset
