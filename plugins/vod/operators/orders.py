"""Audio that a service is to recognise: each is ordered once, whichever tasks want its text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
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
    from vod.library.transcripts import OrderNote, TranscriptFiles
    from vod.records import ExtractedAudio
    from vod.speech import SpeechOptions
    from vod.speech.engines import OrderingEngine, Watch
    from vod.speech.passages import Passage

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
    def note(self) -> OrderNote:
        """What is known of the order, for every task that wants the same text."""
        return self.files.note(self.fingerprint)

    @property
    def is_given(self) -> bool:
        """Whether nothing is to be ordered: it was, or the text is there."""
        return "job" in self.note.read() or self.files.find(self.fingerprint) is not None


@dataclass(frozen=True)
class Waiting:
    """What a service works on.

    :param records: The audio.
    :param jobs: What the service calls the orders.
    :param until: Until when they are waited for, seconds since the epoch.
    """

    records: Sequence[ExtractedAudio]
    jobs: Sequence[str]
    until: float


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
        self._not_given: dict[str, VodError] = {}
        """Why, by fingerprint: told when the audio's own turn comes."""

    def give(self, engine: OrderingEngine, options: SpeechOptions, orders: Iterable[Order]) -> None:
        """Order each audio unless somebody has. What cannot be ordered costs only itself.

        :raises vod.speech.errors.CancelledError: the task was ended.
        """
        left = self._not_yet_given(orders)
        if not left:
            return
        try:
            while left:
                for fingerprint in self._claimed(left):
                    self._give(engine, options, left.pop(fingerprint))
                left = self._not_yet_given(left.values())
                if left:
                    log.info("%d audio files are being ordered by another task.", len(left))
                    self._watch.wait(_LOOK_AGAIN)
        finally:
            if self._register:
                self._register.leave()

    def waiting(
        self, engine: OrderingEngine, options: SpeechOptions, orders: Iterable[Order]
    ) -> Waiting | None:
        """What the service works on of these; ``None`` when it is nothing."""
        known = []
        for order in orders:
            with suppress(VodError):  # told when the audio's own turn comes
                if "job" in (values := order.note.read()):
                    known.append((order.record, values))
        if not known:
            return None
        return Waiting(
            records=[record for record, _ in known],
            jobs=[values["job"] for _, values in known],
            until=max(engine.waits_until(options, values) for _, values in known),
        )

    def result(self, engine: OrderingEngine, options: SpeechOptions, order: Order) -> Passage | None:
        """What the service recognised, ordered before or now.

        :returns: ``None`` when another task has the text meanwhile.
        :raises vod.speech.errors.SpeechError: there is no text, or not yet.
        """
        if order.fingerprint not in self._not_given:
            self.give(engine, options, [order])
        if order.fingerprint in self._not_given:
            raise self._not_given.pop(order.fingerprint)
        if "job" not in order.note.read():
            return None
        return engine.result(remote_audio(order.record, self._hook), options, order.note, self._watch)

    def _not_yet_given(self, orders: Iterable[Order]) -> dict[str, Order]:
        left = {}
        for order in orders:
            try:
                if not order.is_given:
                    left[order.fingerprint] = order
            except VodError as error:  # of the store
                self._not_given[order.fingerprint] = error
        return left

    def _claimed(self, orders: Mapping[str, Order]) -> list[str]:
        return [*self._register.claim(orders).granted] if self._register else [*orders]

    def _give(self, engine: OrderingEngine, options: SpeechOptions, order: Order) -> None:
        if self._register:
            self._register.sign()  # with a service in trouble all together may take long
        try:
            # The engine reads the note; the text may be there since.
            if not order.files.find(order.fingerprint):
                audio = remote_audio(order.record, self._hook)
                engine.order(audio, options, order.note, self._watch)
        except CancelledError:
            raise
        except VodError as error:
            self._not_given[order.fingerprint] = error
        finally:
            if self._register:
                self._register.drop([order.fingerprint])


def claims_of_orders(context: Context, store: Store | None) -> Register | None:
    """The claims that tasks make before they order; ``None`` without a register."""
    return Register(store, holder_of(context), {}, lease=lease(), prefix="order") if store else None
