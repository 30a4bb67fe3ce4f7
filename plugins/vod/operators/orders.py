"""Audio that a service is to recognise: each is ordered once, whichever tasks want its text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vod.errors import VodError
from vod.library.register import Register, Store, holder_of, lease
from vod.logs import get_logger
from vod.operators.hearing import remote_audio
from vod.speech.errors import CancelledError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from vod.hooks import VodHook
    from vod.library.transcripts import TranscriptFiles
    from vod.records import ExtractedAudio
    from vod.speech import SpeechOptions
    from vod.speech.engines import OrderingEngine, Watch

log = get_logger(__name__)

_LOOK_AGAIN = 2.0
"""Seconds until an order that another task is giving is looked at again."""


@dataclass(frozen=True)
class Order:
    """One audio whose text is wanted.

    :param fingerprint: What stands for that text: the audio, the engine and its options.
    :param files: Where the text will be, and meanwhile the note of the order.
    """

    record: ExtractedAudio
    fingerprint: str
    files: TranscriptFiles

    @property
    def job(self) -> str:
        """What the service calls the order; empty when it was not given."""
        return str(self.files.note(self.fingerprint).read().get("job") or "")

    @property
    def is_given(self) -> bool:
        """Whether nothing is to be ordered: it was, or the text is there."""
        return bool(self.job) or self.files.find(self.fingerprint) is not None


class Orders:
    """The orders of one task.

    Two tasks that want the same text at the same time would both find no note of an order, and both pay. So
    an order is given under a claim in the register, as an extraction is.

    :param register: Its claims; without one each task orders for itself.
    """

    def __init__(self, hook: VodHook, watch: Watch, register: Register | None) -> None:
        self._hook = hook
        self._watch = watch
        self._register = register
        self.refused: dict[str, VodError] = {}
        """Why an audio was not ordered, by fingerprint."""

    def give(self, engine: OrderingEngine, options: SpeechOptions, orders: list[Order]) -> None:
        """Order each audio unless somebody has. What is refused costs only itself.

        :raises vod.speech.errors.CancelledError: the task was ended.
        """
        left = {order.fingerprint: order for order in orders if not order.is_given}
        if not left:
            return
        try:
            self._give_all(engine, options, left)
        finally:
            if self._register:
                self._register.leave()

    def _give_all(self, engine: OrderingEngine, options: SpeechOptions, left: dict[str, Order]) -> None:
        while left:
            mine = self._claimed(left)
            for fingerprint in mine:
                order = left.pop(fingerprint)
                if self._register:
                    self._register.sign()  # with a service in trouble all together may take long
                try:
                    self._give(engine, options, order)
                finally:
                    if self._register:
                        self._register.drop([fingerprint])
            left = {fingerprint: order for fingerprint, order in left.items() if not order.is_given}
            if left:
                log.info("%d audio files are being ordered by another task.", len(left))
                self._wait(_LOOK_AGAIN)

    def _claimed(self, orders: Mapping[str, Order]) -> list[str]:
        return [*self._register.claim(orders).granted] if self._register else [*orders]

    def _give(self, engine: OrderingEngine, options: SpeechOptions, order: Order) -> None:
        if order.is_given:  # by the task that had the claim before
            return
        audio, note = remote_audio(order.record, self._hook), order.files.note(order.fingerprint)
        try:
            engine.order(audio, options, note, self._watch)
        except CancelledError:
            raise
        except VodError as error:
            self.refused[order.fingerprint] = error

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._watch.cancelled():
                raise CancelledError("The recognition was cancelled.")
            time.sleep(min(0.25, left))


def claims_of_orders(context: Context, store: Store | None) -> Register | None:
    """The claims that tasks make before they order; ``None`` without a register."""
    return Register(store, holder_of(context), {}, lease=lease(), prefix="order") if store else None
