"""Cancels what VOD has queued: when a person ends a task, and when its time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from vod.cloud.errors import CloudError, NotSentError
from vod.cloud.refusals import CONCERNS_THE_ACCOUNT as CONCERNS_THE_ACCOUNT
from vod.connection import ConnectionSettings
from vod.logs import get_logger
from vod.records import SubmittedExtraction

log = get_logger(__name__)

_CALLS_AT_ONCE = 8


def cancel_queued(settings: ConnectionSettings, extractions: Sequence[SubmittedExtraction]) -> list[str]:
    """Cancel the extractions that VOD has not begun yet (contract, section 4), several at a time.

    Opens a client of its own, so it is safe to call from another thread than the task's.

    :returns: assets whose extraction is cancelled. The others go on, and the log names them.
    """
    return asyncio.run(cancel_queued_async(settings, extractions)) if extractions else []


async def cancel_queued_async(
    settings: ConnectionSettings, extractions: Sequence[SubmittedExtraction]
) -> list[str]:
    """:func:`cancel_queued` on an event loop."""
    places = asyncio.Semaphore(_CALLS_AT_ONCE)
    client = settings.async_client()
    refused_all: CloudError | None = None

    async def cancel_one(extraction: SubmittedExtraction) -> bool | CloudError:
        nonlocal refused_all
        async with places:
            if refused_all:
                return refused_all
            try:
                return await client.cancel_extraction(extraction.asset, extraction.audio_asset_id)
            except CloudError as error:
                if isinstance(error, (NotSentError, *CONCERNS_THE_ACCOUNT)):
                    refused_all = error
                return error

    try:
        answers = await asyncio.gather(*map(cancel_one, extractions))
    finally:
        await client.aclose()
    cancelled = [one.asset for one, answer in zip(extractions, answers, strict=True) if answer is True]
    running = [one.asset for one, answer in zip(extractions, answers, strict=True) if answer is False]
    if extractions:
        log.info("Cancelled %d of %d queued extractions.", len(cancelled), len(extractions))
    if running:
        log.info("VOD has already begun or ended these and cannot cancel them: %s.", ", ".join(running))
    for extraction, answer in zip(extractions, answers, strict=True):
        if isinstance(answer, CloudError):
            log.warning("Cancelling the extraction of %s failed: %s", extraction.asset, answer)
    return cancelled
