"""Cancelling what VOD has queued: when a person ends a task, and when its time is up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from vod.cloud.errors import AccountError, AuthenticationError, CloudError, ForbiddenError, NotSentError
from vod.connection import ConnectionSettings
from vod.records import SubmittedExtraction

log = logging.getLogger(__name__)

_AT_ONCE = 8

ALL_WOULD_FAIL = (AuthenticationError, ForbiddenError, AccountError)
"""Refusals that concern the account, not the asset."""


def cancel(settings: ConnectionSettings, extractions: Sequence[SubmittedExtraction]) -> list[str]:
    """Cancel what is still queued, many at a time; say of the rest that it goes on (contract, section 4).

    It uses nothing that is in use elsewhere: a signal handler's thread may call it.

    :returns: assets whose extraction is cancelled.
    """
    return asyncio.run(cancel_all(settings, extractions)) if extractions else []


async def cancel_all(settings: ConnectionSettings, extractions: Sequence[SubmittedExtraction]) -> list[str]:
    """:func:`cancel` on an event loop."""
    places = asyncio.Semaphore(_AT_ONCE)
    client = settings.async_client()

    in_vain: CloudError | None = None

    async def cancel_one(extraction: SubmittedExtraction) -> bool | CloudError:
        nonlocal in_vain
        async with places:
            if in_vain:
                return in_vain
            try:
                return await client.cancel_extraction(extraction.asset, extraction.audio_asset_id)
            except CloudError as error:
                if isinstance(error, (NotSentError, *ALL_WOULD_FAIL)):
                    in_vain = error
                return error

    try:
        results = await asyncio.gather(*map(cancel_one, extractions))
    finally:
        await client.aclose()
    cancelled = [
        extraction.asset for extraction, result in zip(extractions, results, strict=True) if result is True
    ]
    running = [
        extraction.asset for extraction, result in zip(extractions, results, strict=True) if result is False
    ]
    if extractions:
        log.info("Cancelled %d/%d extractions that were queued.", len(cancelled), len(extractions))
    if running:
        log.info("Already running or ended, VOD cannot cancel them: %s.", ", ".join(running))
    for extraction, result in zip(extractions, results, strict=True):
        if isinstance(result, CloudError):
            log.warning("Cancelling the extraction of %s failed: %s", extraction.asset, result)
    return cancelled
