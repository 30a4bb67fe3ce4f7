"""What a run will come to before anything is paid for: videos, hours of audio, time in the quota, money."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from airflow.sdk.configuration import conf

from vod.connection import DEFAULT_CONNECTION
from vod.errors import InvalidInputError
from vod.locations import is_asset_id
from vod.logs import get_logger

if TYPE_CHECKING:
    from vod.hooks import VodHook

log = get_logger(__name__)

ASKED = 50
"""Videos at most whose durations VOD is asked for: five calls, whatever the length of a list."""


class OverLimitError(InvalidInputError):
    """A run would come to more than the site allows."""

    outcome = "over_limit"
    remedy = "Split the run, or raise [vod] run_limits in Airflow's configuration."


@dataclass(frozen=True, kw_only=True)
class Prices:
    """``[vod] prices``: what this site pays, as JSON. Nothing is built in: prices change.

    :param currency: How amounts are shown, for example ``USD``.
    :param extraction: For each extraction by VOD.
    :param extraction_minute: For each minute of audio that VOD extracts.
    :param transcription_minute: For each minute of audio that is transcribed.
    """

    currency: str = ""
    extraction: float = 0.0
    extraction_minute: float = 0.0
    transcription_minute: float = 0.0

    @property
    def known(self) -> bool:
        """Whether anything has a price."""
        return bool(self.extraction or self.extraction_minute or self.transcription_minute)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """``[vod] run_limits``: what one run may come to, as JSON. What is left out has no limit.

    :param videos: At most so many.
    :param hours: Of audio.
    :param money: In the currency of the prices.
    """

    videos: float = math.inf
    hours: float = math.inf
    money: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a number of videos come to.

    :param seconds: Of audio; ``None`` when no duration is known.
    :param asked: How many durations that is from.
    :param minutes: That VOD's quota takes for the submissions; 0 without VOD.
    :param money: By the price table; ``None`` without one, or without durations that it needs.
    """

    videos: int
    seconds: float | None = None
    asked: int = 0
    minutes: float = 0.0
    money: float | None = None
    currency: str = ""

    def __str__(self) -> str:
        parts = [f"{self.videos:,} videos"]
        if self.seconds is not None:
            by = f" (by {self.asked} of them)" if self.asked < self.videos else ""
            parts.append(f"about {self.seconds / 3600:,.1f} hours of audio{by}")
        if self.minutes >= 1:
            parts.append(f"at least {self.minutes:,.0f} minutes within VOD's quota")
        if self.money is not None:
            parts.append(f"about {self.money:,.2f} {self.currency}".rstrip())
        return ", ".join(parts)

    def check(self, limits: Limits) -> None:
        """:raises OverLimitError: it is more than that."""
        hours = None if self.seconds is None else self.seconds / 3600
        for name, amount, limit in (
            ("videos", self.videos, limits.videos),
            ("hours of audio", hours, limits.hours),
            (self.currency or "in money", self.money, limits.money),
        ):
            if amount is not None and amount > limit:
                raise OverLimitError(f"The run would come to {self}. At most {limit:,g} {name} are allowed.")


def estimate(
    videos: Sequence[str],
    hook: VodHook,
    *,
    by_vod: bool,
    transcribed: bool,
    durations: Mapping[str, float | None] | None = None,
    prices: Prices | None = None,
) -> Estimate:
    """Estimate what videos come to.

    :param hook: The connection to VOD, which knows how long its videos are. Files alone need none.
    :param by_vod: VOD extracts the audio.
    :param transcribed: It is transcribed as well.
    :param durations: What is known already, in seconds; otherwise VOD is asked for some.
    :raises vod.cloud.errors.CloudError: VOD could not be asked.
    """
    from vod.engines.audio_assets import read_assets  # loads an HTTP client: not to parse a DAG file

    prices = prices_of_site() if prices is None else prices
    if durations is None:
        ids = [video for video in videos if is_asset_id(video)]
        chosen = random.sample(ids, min(ASKED, len(ids)))
        found = read_assets(hook.client, chosen)[0] if chosen else {}
        durations = {asset: found[asset].metadata.duration for asset in found}
    known = [seconds for seconds in durations.values() if seconds is not None]
    seconds = sum(known) / len(known) * len(videos) if known else None
    if not videos:
        seconds = 0.0
    a_minute = prices.transcription_minute * transcribed + prices.extraction_minute * by_vod
    money: float | None = None
    if prices.known and (seconds is not None or not a_minute):
        money = (seconds or 0.0) / 60 * a_minute + len(videos) * prices.extraction * by_vod
    return Estimate(
        videos=len(videos),
        seconds=seconds,
        asked=len(known),
        minutes=len(videos) / hook.client.extractions_per_minute if by_vod else 0.0,
        money=money,
        currency=prices.currency,
    )


def check_run(
    videos: Sequence[str],
    engine: str | None,
    vod_conn_id: str = DEFAULT_CONNECTION,
    *,
    transcribed: bool = False,
    durations: Mapping[str, float | None] | None = None,
) -> None:
    """Say in the log what a run will come to, if the site has prices or limits, and hold the limits.

    :param engine: ``vod`` or ``ffmpeg``; the connection's default engine when empty.
    :raises OverLimitError: it is more than the site allows; nothing was submitted.
    """
    from vod.hooks import VodHook  # loads an HTTP client: not to parse a DAG file

    prices, limits = prices_of_site(), limits_of_site()
    if not prices.known and limits == Limits():
        return
    hook = VodHook(vod_conn_id)
    by_vod = (engine or hook.settings.engine) == "vod"
    found = estimate(videos, hook, by_vod=by_vod, transcribed=transcribed, durations=durations, prices=prices)
    log.info("This run comes to %s.", found)
    found.check(limits)


def prices_of_site() -> Prices:
    """``[vod] prices``.

    :raises InvalidInputError: it is no such JSON.
    """
    return Prices(**_option("prices", Prices))


def limits_of_site() -> Limits:
    """``[vod] run_limits``.

    :raises InvalidInputError: it is no such JSON.
    """
    return Limits(**_option("run_limits", Limits))


def _option(name: str, shape: type[Prices | Limits]) -> dict[str, Any]:
    text = conf.get("vod", name, fallback="").strip()
    try:
        values = json.loads(text) if text else {}
    except ValueError:
        values = None
    known = {each.name: each.default for each in fields(shape)}
    if isinstance(values, dict) and values.keys() <= known.keys():
        numbers = [value for key, value in values.items() if key != "currency"]
        if all(_is_amount(value) for value in numbers) and isinstance(values.get("currency", ""), str):
            return values
    raise InvalidInputError(
        f"[vod] {name} in Airflow's configuration is not what it should be.",
        remedy=f"Write JSON with some of {', '.join(known)}; amounts are numbers from 0.",
    )


def _is_amount(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf
