"""Processes that share VOD's quota and see of each other only refusals: how much of it they use together.

``python -m benchmarks.pace`` prints the table of docs/performance.md. In virtual time, against the quota that
the stand-in enforces: 100 extractions in any 60 seconds.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence

from vod.cloud.budget import QUOTAS, Budget
from vod.standin.errors import RefusedError
from vod.standin.quotas import Quotas
from vod.standin.settings import Behaviour

_MINUTES = 60
_PROCESSES = (1, 2, 4, 8, 16, 32)
_SETTLED = slice(10, None)


def simulate(
    processes: int,
    minutes: int,
    *,
    share: float = 1.0,
    begin: Sequence[int] = (),
    end: Sequence[int] = (),
    seed: int = 1,
) -> tuple[list[list[int]], list[int]]:
    """Processes that call as often as they may.

    :param begin: Minute in which each process begins; otherwise all begin at once.
    :param end: Minute in which each process ends; otherwise none does.
    :returns: calls of each process that the stand-in passed in each minute, and all that it refused.
    """
    now, dice = 0.0, random.Random(seed)  # noqa: S311 - no secret

    def clock() -> float:
        return now

    gateway = Quotas(Behaviour(), clock=clock)
    budgets: dict[int, Budget] = {}
    passed, refused = [[0] * minutes for _ in range(processes)], [0] * minutes
    starts = begin or [0] * processes
    arrivals = [(starts[number] * 60.0, number, 0) for number in range(processes)]
    heapq.heapify(arrivals)
    while arrivals and arrivals[0][0] < minutes * 60:
        now, number, tries = heapq.heappop(arrivals)
        if end and now >= end[number] * 60:
            continue
        if number not in budgets:
            budgets[number] = Budget(QUOTAS["extract"] * share, clock=clock)
            budgets[number].reserve()
        pause, tries = 0.0, tries + 1
        try:
            gateway.take("extract")
        except RefusedError:
            refused[int(now // 60)] += 1
            budgets[number].throttled()
            pause = dice.uniform(0.0, min(2.0 ** (tries - 1), 30.0))  # as the client repeats itself
        else:
            passed[number][int(now // 60)] += 1
            tries = 0
        arrival = now + pause
        before, now = now, arrival
        heapq.heappush(arrivals, (arrival + budgets[number].reserve(), number, tries))
        now = before
    return passed, refused


def together(passed: list[list[int]]) -> list[int]:
    """Calls that passed in each minute."""
    return [sum(minute) for minute in zip(*passed, strict=True)]


def table() -> str:
    """The figures of several numbers of processes, as Markdown."""
    lines = [
        "| processes | of the quota, from the 10th minute on | refused | refused in the first 5 minutes |",
        "| --: | --: | --: | --: |",
    ]
    for processes in _PROCESSES:
        runs = [simulate(processes, _MINUTES, seed=seed) for seed in (1, 2, 3)]
        used = sum(sum(together(passed)[_SETTLED]) for passed, _ in runs)
        lost = sum(sum(refused[_SETTLED]) for _, refused in runs)
        first = sum(sum(together(passed)[:5]) for passed, _ in runs)
        first_lost = sum(sum(refused[:5]) for _, refused in runs)
        whole = len(runs) * (_MINUTES - 10) * QUOTAS["extract"]
        lines.append(
            f"| {processes} | {used / whole:.0%} | {lost / (used + lost):.1%} "
            f"| {first_lost / (first + first_lost):.0%} |"
        )
    return "\n".join(lines)


def changes() -> str:
    """What becomes of a process that joins three others, and of one that they leave, in words."""
    passed, refused = simulate(4, 40, begin=(0, 0, 0, 10))
    share = sum(passed[3][15:25]) / (10 * QUOTAS["extract"] / 4)
    lost = sum(refused[10:15]) / (sum(together(passed)[10:15]) + sum(refused[10:15]))
    joined = (
        f"A fourth process that joins three gets {share:.0%} of an equal share from the 5th to the 15th "
        f"minute; {lost:.0%} of the calls of its first 5 minutes, all processes together, are refused."
    )
    passed, _ = simulate(4, 40, end=(10, 10, 10, 40))
    taken = next(minute for minute in range(10, 40) if passed[3][minute] >= 0.95 * QUOTAS["extract"])
    return f"{joined}\nOf four processes three end: the last has the whole quota after {taken - 9} minutes."


if __name__ == "__main__":
    print(table())
    print()
    print(changes())
