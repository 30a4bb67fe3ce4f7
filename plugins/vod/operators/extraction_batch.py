"""A batch of assets on its way to audio."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vod.engines import STANDSTILL_PAUSE, Engine, Outcomes, has_turn, is_open
from vod.records import (
    AssetFailure,
    ExtractedAudio,
    PostponedExtraction,
    Record,
    SubmittedExtraction,
)

if TYPE_CHECKING:
    from vod.batch.progress import BatchProgress
    from vod.engines.ffmpeg import FfmpegEngine
    from vod.library.register import Register


class ExtractionBatch:
    """Takes a batch of assets through an engine, and what that one refuses through another.

    :param engine: Extracts all assets.
    :param fallback: Extracts what *engine* does not, if its failure says that another engine may.
    :param deadline: Seconds since the epoch after which nothing is waited for.
    :param register: What all tasks know together, if there is one: the claims of this task are in it.
    :param outcomes: What has become of each asset so far, when the task was resumed.
    """

    def __init__(
        self,
        assets: Sequence[str],
        engine: Engine,
        progress: BatchProgress,
        *,
        deadline: float,
        fallback: FfmpegEngine | None = None,
        register: Register | None = None,
        outcomes: Outcomes | None = None,
    ) -> None:
        self.assets = list(assets)
        self.deadline = deadline
        self.outcomes = outcomes or {}
        self.not_before = 0.0
        self._engine = engine
        self._progress = progress
        self._fallback = fallback
        self.register = register
        self._progress.count(self.outcomes.values())

    def start(self) -> None:
        """Begin with every asset."""
        # What VOD refused, and the fallback has done, at an earlier try.
        fallback = self._fallback
        done = [asset for asset in self.assets if fallback and fallback.has_finished(asset)]
        self._settle(self._engine.start([asset for asset in self.assets if asset not in done]))
        if fallback and done:
            self._settle(fallback.start(done))

    def advance(self) -> None:
        """Take over what is ready and go on with what is not; past the deadline, give up on it."""
        waiting = {asset: outcome for asset, outcome in self.outcomes.items() if is_open(outcome)}
        self._settle(self._engine.advance(waiting, time_is_up=time.time() >= self.deadline))
        stands_still = all(self.outcomes[asset] == outcome for asset, outcome in waiting.items())
        self.not_before = time.time() + STANDSTILL_PAUSE if stands_still else 0.0

    def start_what_is_missing(self, assets: Sequence[str]) -> None:
        """Begin with those of *assets* of which nothing is known."""
        missing = [asset for asset in assets if asset not in self.outcomes]
        if missing:
            self.assets = list(dict.fromkeys([*assets, *self.assets]))
            self._settle(self._engine.start(missing))

    def take_over(self, records: Iterable[Record]) -> None:
        """Note what was learnt while nothing was done."""
        self.outcomes.update({record.asset: record for record in records if record.asset in self.outcomes})

    def give_up_postponed(self) -> None:
        """Fail what VOD does not take yet; what it has accepted stays as it is."""
        for asset, outcome in self.outcomes.items():
            if isinstance(outcome, PostponedExtraction):
                self.outcomes[asset] = outcome.given_up
                self._engine.release({asset: outcome.given_up})

    def tell_all(self) -> None:
        """Note in the register why there is no audio of what has failed, for the page of all assets."""
        if self.register is None:
            return
        failures = {
            asset: outcome.to_json()
            for asset, outcome in self.outcomes.items()
            if isinstance(outcome, AssetFailure)
        }
        self.register.tell(failures)

    @contextmanager
    def claiming(self) -> Iterator[None]:
        """Give the batch's claims back when the block ends, unless the task only waits elsewhere."""
        try:
            yield
        except Exception:
            if self.register:
                with suppress(Exception):  # the failure at hand is the one to be told
                    self.register.leave()
            raise
        if self.register:
            self.register.leave()

    @property
    def engines(self) -> list[Engine]:
        """The engines that may be at work."""
        return [self._engine, *([self._fallback] if self._fallback else [])]

    @property
    def is_being_submitted(self) -> bool:
        """Whether an asset waits for its turn in the quota, or for another task."""
        return any(map(has_turn, self.outcomes.values()))

    @property
    def is_open(self) -> bool:
        """Whether an asset is still being worked on."""
        return any(map(is_open, self.outcomes.values()))

    @property
    def open_records(self) -> list[dict[str, Any]]:
        """What is still being worked on, as JSON."""
        return [record.to_json() for record in self.records if is_open(record)]

    @property
    def records(self) -> list[Record]:
        """What has become of each asset, in the order given."""
        return [self._named(asset, self.outcomes[asset]) for asset in self.assets]

    def _named(self, asset: str, record: Record) -> Record:
        """The record with its key in the register."""
        if self.register is None or not isinstance(record, ExtractedAudio):
            return record
        return replace(record, entry=self.register.key(asset))

    def report_waiting(self) -> None:
        """Log, and note for the page of the run, what the batch waits for."""
        kinds = Counter(type(outcome) for outcome in self.outcomes.values())
        submitted, postponed = kinds[SubmittedExtraction], kinds[PostponedExtraction]
        left = f"{postponed} left to submit" if postponed else "none left to submit"
        self._progress.count(self.outcomes.values())
        self._progress.report(f"Waiting for VOD: {submitted} submitted, {left}.")

    def _settle(self, outcomes: Outcomes) -> None:
        """Note outcomes, and hand to the fallback what it may still extract."""
        self.outcomes |= outcomes
        if self._fallback is None:
            return
        refused = [asset for asset, outcome in outcomes.items() if _is_for_another_engine(outcome)]
        if refused:
            self._progress.report(f"VOD does not extract {len(refused)} assets; ffmpeg extracts them here.")
            done = self._fallback.start(refused)
            self.outcomes |= done
            if self.register:  # those who wait for VOD's audio are told what VOD has said
                for asset, outcome in outcomes.items():
                    if isinstance(outcome, AssetFailure) and isinstance(done.get(asset), AssetFailure):
                        self.register.fail(asset, outcome.to_json())


def _is_for_another_engine(outcome: Record) -> bool:
    if isinstance(outcome, PostponedExtraction):
        outcome = outcome.given_up
    return isinstance(outcome, AssetFailure) and outcome.other_engine
