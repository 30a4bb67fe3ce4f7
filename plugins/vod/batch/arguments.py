"""Reads what an operator is given by an author, a template or a form: assets, choices, switches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from vod.errors import InvalidInputError
from vod.text import printable

MAX_ASSETS_PER_TASK = 1000
"""Assets that one task takes."""


class TooManyAssetsError(InvalidInputError):
    """The list is longer than what one task or run takes."""

    outcome = "too_many_assets"


def asset_list(assets: Any, *, max_assets: int = MAX_ASSETS_PER_TASK, taker: str = "task") -> list[str]:
    """Make a list of assets, without blanks and duplicates, from what an author, a template or a form gives.

    :param assets: A list, or a string with a JSON list or one asset a line.
    :param max_assets: How many may be left.
    :param taker: What takes so many, for the message: ``task`` or ``run``.
    :raises InvalidInputError: nothing is left, or it is not text.
    :raises TooManyAssetsError: more than *max_assets* are left.
    """
    if isinstance(assets, str):
        try:
            assets = json.loads(assets) if assets.lstrip().startswith("[") else assets.splitlines()
        except ValueError as error:
            raise InvalidInputError(
                f"The list of assets is not valid JSON ({error}).",
                remedy="Give a JSON list, or one asset a line.",
            ) from error
    if isinstance(assets, Mapping) or not isinstance(assets, Iterable):
        raise InvalidInputError(
            f"Assets must be a list, not {type(assets).__name__}.",
            remedy="Give a list of asset ids or paths.",
        )
    wanted: dict[str, None] = {}
    for asset in assets:
        if not isinstance(asset, str):
            raise InvalidInputError(
                f"An asset must be text, not {type(asset).__name__}.",
                asset=printable(str(asset))[:100],
                remedy="Put it in quotes.",
            )
        if asset.strip():
            wanted[asset.strip()] = None
    if not wanted:
        raise InvalidInputError("No assets were given.", remedy="Give at least one asset id, path or URL.")
    if len(wanted) > max_assets:
        raise TooManyAssetsError(
            f"{len(wanted)} assets are more than the {max_assets} that one {taker} takes.",
            remedy="Split the list and map over its parts." if taker == "task" else "Split the list.",
        )
    return list(wanted)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Refuse an unknown value; a template or an XComArg is only known later.

    :raises InvalidInputError: the value is not one of the choices.
    """
    if isinstance(value, str) and "{{" not in value and value not in choices:
        raise InvalidInputError(f"{name} {value!r} is unknown.", remedy=f"Use one of {', '.join(choices)}.")


def choices(name: str, value: str | Sequence[str], known: Sequence[str]) -> list[str]:
    """Read a list of choices, which may be a string with commas or blanks between them.

    :raises InvalidInputError: one of them is unknown; a template is only known later.
    """
    if isinstance(value, str):
        value = [value] if "{{" in value else value.replace(",", " ").split()
    for choice in value:
        check_choice(name, choice, known)
    return list(dict.fromkeys(value))


def is_true(name: str, value: Any) -> bool:
    """Read a switch that a template may have made text.

    :raises InvalidInputError: it is neither true nor false.
    """
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "none": False}
    answer = words.get(str(value).strip().lower() or "false")
    if answer is None:
        raise InvalidInputError(f"{name} is {value!r}.", remedy="Use true or false.")
    return answer


def time_limit(timeout: float, execution_timeout: timedelta | None) -> float:
    """Seconds that a task may take: the shorter of its own timeout and Airflow's ``execution_timeout``.

    Airflow 3.3 does not enforce an ``execution_timeout`` while a task is deferred.
    """
    return min(timeout, execution_timeout.total_seconds()) if execution_timeout else timeout
