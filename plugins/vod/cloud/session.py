"""One call to the service: authorised, paced, repeated where section 9 allows it, its errors in words."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from vod import __version__
from vod.cloud.budget import QUOTAS, budget_of
from vod.cloud.clock import clock_of
from vod.cloud.errors import (
    MISSHAPEN,
    AnswerLostError,
    AuthenticationError,
    CloudError,
    InvalidRequestError,
    NotSentError,
    ServiceError,
    ThrottledError,
    error_class,
)
from vod.cloud.identity import Identity, KeyIdentity, Login, TokenIdentity
from vod.cloud.refusals import refusals_of
from vod.cloud.runtime import LoopRuntime
from vod.cloud.settings import ServiceSettings
from vod.cloud.transport import ACCEPTED_PACKINGS, AnswerTooLargeError, bounded
from vod.logs import get_logger, redact_http_libraries

log = get_logger(__name__)
redact_http_libraries()

T = TypeVar("T")

PROJECT = "{project_id}"
"""Where the project's id belongs in a path."""

observers: list[Callable[[str, str, str, float], None]] = []
"""Called after each request with the name of the service, the quota, how it was answered (``ok``,
``throttled``, ``refused``, ``failed``, ``lost``, ``unreachable``, ``cancelled``), and how many seconds it
waited for the quota."""

_ANSWERS = {
    ThrottledError: "throttled",
    ServiceError: "failed",
    AnswerLostError: "lost",
    NotSentError: "unreachable",
}

_MAX_TRIES = 5
_MAX_LENGTH_MESSAGE, _MAX_LENGTH_ID = 500, 100
_CODE = re.compile(r"[\w.-]{1,40}")
_CLOCK_TOLERANCE = timedelta(minutes=15)  # section 1.1


class Session:
    """Makes calls for one identity and project.

    :param retry_seconds: Seconds that one call may spend on repeating itself, all waits together.
    :param runtime: Where the calls run: on an event loop, or blocking a thread.
    :param name: What messages call the service.

    :ivar clock: What the service's clock shows.
    """

    def __init__(
        self, settings: ServiceSettings, *, retry_seconds: float, runtime: LoopRuntime, name: str = "VOD"
    ) -> None:
        self.name = name
        self.endpoint = settings.endpoint.rstrip("/")
        self.runtime = runtime
        self.http = httpx.AsyncClient(
            transport=runtime.transport(),
            timeout=httpx.Timeout(settings.timeout, connect=min(10.0, settings.timeout)),
            headers={
                "User-Agent": f"airflow-provider-vod/{__version__}",
                "Accept-Encoding": ACCEPTED_PACKINGS,
            },
        )
        self.clock = clock_of(self.endpoint)
        self._project_id = settings.project_id
        self._region = settings.region
        self._iam = (settings.iam_endpoint or f"https://iam.{settings.region}.myhuaweicloud.com").rstrip("/")
        self._retry_seconds = retry_seconds
        self._quota_share = settings.quota_share
        self._quotas = {**QUOTAS, **dict(settings.quotas)}
        self.refusals = refusals_of(self.endpoint, settings.credentials)
        self._identity: Identity
        if isinstance(settings.credentials, Login):
            self._identity = TokenIdentity(
                settings.credentials,
                iam_endpoint=self._iam,
                region=settings.region,
                project_id=settings.project_id,
                send=self._ask_iam,
                runtime=runtime,
            )
        else:
            self._identity = KeyIdentity(settings.credentials)

    async def call(
        self,
        method: str,
        path: str,
        parse: Callable[[Any], T],
        *,
        quota: str,
        params: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        asset: str | None = None,
        version: str = "v1.0",
        paced: bool = True,
        before: Callable[[], None] | None = None,
    ) -> T:
        """Make one call of the API with :meth:`request`.

        :param path: Below the project, for example ``/asset/info``.
        :param parse: Makes the result of the body's JSON, ``None`` for an empty body.
        """
        return await self.request(
            method,
            f"/{version}/{PROJECT}{path}",
            lambda response: _parsed(response, parse, asset, self.name),
            quota=quota,
            params=params,
            content=None if body is None else json.dumps(body, separators=(",", ":")).encode(),
            asset=asset,
            paced=paced,
            before=before,
        )

    async def request(
        self,
        method: str,
        path: str,
        read: Callable[[httpx.Response], T],
        *,
        quota: str | None = None,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        asset: str | None = None,
        paced: bool = True,
        before: Callable[[], None] | None = None,
    ) -> T:
        """Make one request and repeat it as section 9 allows.

        A GET is repeated after any passing fault, anything else only where it surely was not accepted. A
        refused token is renewed once; a refused signature is final.

        :param path: Below the endpoint; :data:`PROJECT` in it becomes the project's id.
        :param read: Makes the result of an answer that is no refusal.
        :param quota: Key of :data:`vod.cloud.budget.QUOTAS`; not paced when omitted.
        :param paced: Whether to wait for the quota. Otherwise it is sent at once, and a 429 is not repeated.
        :param before: Called each time directly before the request is sent. What it raises ends the call.
        :raises CloudError: in one of its kinds, and nothing else.
        """
        sent: httpx.Request | None = None

        async def attempt() -> T:
            nonlocal sent
            sent = None
            url = self.endpoint + path.replace(PROJECT, await self.project_id())
            request = self._request(method, url, params=params, content=content, headers=headers, asset=asset)
            await self._identity.authorize(request, self._project_id)
            sent = request
            return read(await self._paced(request, quota if paced else None, asset, before))

        repeat = self._repeating(also_after_sending=method == "GET", throttled=paced)
        try:
            try:
                result: T = await repeat(attempt)
            except AuthenticationError:
                if sent is None or not await self._identity.renew(sent):
                    raise
                result = await repeat(attempt)
        except AuthenticationError:
            self.refusals.refused()
            raise
        self.refusals.accepted()
        return result

    async def project_id(self) -> str:
        """The project given, else the one that the region has (section 2).

        :raises AuthenticationError: the region has none, or several.
        """
        if self._project_id is None:
            self._project_id = await self._identity.project_id() or await self._look_up_project()
        return self._project_id

    def per_minute(self, quota: str) -> float:
        """Calls a minute that may be made.

        :param quota: Key of :data:`vod.cloud.budget.QUOTAS`.
        """
        return self._quotas[quota] * self._quota_share

    async def _look_up_project(self) -> str:
        request = self._request("GET", f"{self._iam}/v3/projects", params={"name": self._region})
        await self._identity.authorize(request, None)
        response = await self._ask_iam(request)
        projects = _parsed(
            response, lambda answer: [str(project["id"]) for project in answer["projects"]], None, "IAM"
        )
        if len(projects) != 1:
            raise AuthenticationError(
                f"The region {self._region!r} has {len(projects)} projects.",
                remedy="Set the project id in the connection: console, My Credentials, Projects.",
            )
        return projects[0]

    def _request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        asset: str | None = None,
    ) -> httpx.Request:
        sent = httpx.Headers({"Content-Type": "application/json"})
        sent.update(headers)
        problem = f"{self.endpoint!r} is not a valid URL"
        try:
            target = httpx.URL(url, params=params)
            if target.host:
                return self.http.build_request(method, target, content=content, headers=sent)
        except (httpx.InvalidURL, ValueError) as error:
            problem = str(error)
        raise InvalidRequestError(
            f"The request could not be built: {problem}.",
            asset=asset,
            remedy="Check endpoint and project id of the connection, and the asset id.",
        )

    async def _ask_iam(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self._send(request)
        except (ServiceError, AnswerLostError) as error:
            # A call of VOD that waits for this was not sent, so that even a start may be tried again.
            raise NotSentError(
                f"IAM at {request.url.host} gave an unexpected answer ({error.message})",
                code=error.code,
                status=error.status,
                request_id=error.request_id,
                remedy="Try again later, or check the IAM endpoint of the connection.",
            ) from error

    async def _paced(
        self,
        request: httpx.Request,
        quota: str | None,
        asset: str | None,
        before: Callable[[], None] | None,
    ) -> httpx.Response:
        delay = 0.0
        budget = None
        if quota is not None:
            budget = budget_of(f"{self.endpoint}/{self._project_id}", quota, self.per_minute(quota))
            delay = budget.reserve()
        if delay:
            await self.runtime.sleep(delay)
        if before:
            before()
        answer = "cancelled"
        try:
            response = await self._send(request, asset)
        except CloudError as error:
            answer = next((word for kind, word in _ANSWERS.items() if isinstance(error, kind)), "refused")
            if budget and isinstance(error, ThrottledError):
                budget.throttled()
            raise
        else:
            answer = "ok"
            return response
        finally:
            for observe in observers:
                observe(self.name, quota or "other", answer, delay)

    async def _send(self, request: httpx.Request, asset: str | None = None) -> httpx.Response:
        sent = time.time()
        try:
            answer = await self.http.send(request, stream=True)
            self._learn_time(answer, request, sent)
            response = await bounded(answer, request)
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
        ) as error:
            raise NotSentError(f"{request.url.host} cannot be reached ({error}).", asset=asset) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = f"{self.name} did not answer ({type(error).__name__})."
            raise AnswerLostError(problem, asset=asset) from error
        except AnswerTooLargeError as error:
            raise AnswerLostError(str(error), asset=asset) from None
        if not response.is_success:
            raise _refusal(response, asset, self.name)
        return response

    def _learn_time(self, answer: httpx.Response, request: httpx.Request, sent: float) -> None:
        date = _date(answer.headers.get("Date", ""))
        if date and str(request.url).startswith(f"{self.endpoint}/"):  # not IAM's
            self.clock.observe(date.timestamp(), sent=sent, received=time.time())

    def _repeating(self, *, also_after_sending: bool, throttled: bool) -> AsyncRetrying:
        repeatable: tuple[type[CloudError], ...] = (NotSentError,)
        if throttled:
            repeatable += (ThrottledError,)
        if also_after_sending:
            repeatable += (ServiceError, AnswerLostError)
        return AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, repeatable)),
            wait=_wait,
            stop=self._stop,
            sleep=self.runtime.sleep,
            before_sleep=_log_repeat,
            reraise=True,
        )

    def _stop(self, state: RetryCallState) -> bool:
        # A quota's window is a minute: only `retry_seconds` ends that wait. Other faults outlast five tries
        # or pass.
        if (state.seconds_since_start or 0) + (state.upcoming_sleep or 0) >= self._retry_seconds:
            return True
        return not isinstance(_error(state), ThrottledError) and state.attempt_number >= _MAX_TRIES


def _parsed(response: httpx.Response, parse: Callable[[Any], T], asset: str | None, name: str) -> T:
    try:
        return parse(response.json() if response.content else None)
    except MISSHAPEN as error:
        raise ServiceError(
            f"{name}'s answer is not as documented ({type(error).__name__}).",
            status=response.status_code,
            request_id=_request_id(response),
            asset=asset,
        ) from error


def _refusal(response: httpx.Response, asset: str | None, name: str) -> CloudError:
    code, message, request_id = _envelope(response, name)
    kind = error_class(code, response.status_code)
    remedy = None
    if kind is AuthenticationError and (skew := _clock_skew(response)):
        remedy = f"The clock of this machine is {skew} off: set it right."
        message = f"{name} refused the signature because of its time."
    elif kind is InvalidRequestError and response.status_code == 404:
        remedy = "Check endpoint and project id of the connection: the endpoint does not offer this call."
    error = kind(
        message,
        code=code or f"HTTP.{response.status_code}",
        status=response.status_code,
        request_id=request_id,
        asset=asset,
        remedy=remedy,
    )
    if isinstance(error, ThrottledError):
        error.retry_after = _retry_after(response)
    return error


def _envelope(response: httpx.Response, name: str) -> tuple[str | None, str, str | None]:
    """Code, message and request id of an error answer, whichever of the shapes of section 9 it has."""
    request_id = _request_id(response)
    fallback = f"{name} answered with HTTP status {response.status_code}."
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return None, fallback, request_id
    if isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if not isinstance(body, dict):
        return None, fallback, request_id
    code = body.get("error_code") or body.get("errorCode") or body.get("code")
    message = body.get("error_msg") or body.get("errorMsg") or body.get("message")
    # The gateway echoes the canonical request of a bad signature: long, and with the security token in it.
    words = str(message).split(",canonicalRequest:")[0][:_MAX_LENGTH_MESSAGE] if message else fallback
    known = str(code) if code and _CODE.fullmatch(str(code)) else None
    return known, words, request_id or str(body.get("request_id") or "")[:_MAX_LENGTH_ID] or None


def _request_id(response: httpx.Response) -> str | None:
    return response.headers.get("X-Request-Id", "")[:_MAX_LENGTH_ID] or None


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds until the moment that an answer names in either form (RFC 9110, section 10.2.3)."""
    asked = response.headers.get("Retry-After", "")
    if asked.isdecimal():
        return float(asked)
    moment = _date(asked)
    if moment is None:
        return None
    # From the clock that named it, where that is known: this machine's may be wrong.
    now = _date(response.headers.get("Date", "")) or datetime.now(timezone.utc)
    seconds = (moment - now).total_seconds()
    return seconds if seconds > 0 else None


def _clock_skew(response: httpx.Response) -> timedelta | None:
    theirs = _date(response.headers.get("Date", ""))
    if theirs is None:
        return None
    skew = abs(datetime.now(timezone.utc) - theirs)
    return timedelta(seconds=int(skew.total_seconds())) if skew > _CLOCK_TOLERANCE else None


def _date(text: str) -> datetime | None:
    """A date of HTTP, which is always in UTC; ``None`` if it is not a date."""
    try:
        return parsedate_to_datetime(text).replace(tzinfo=timezone.utc)
    except MISSHAPEN:
        return None


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
