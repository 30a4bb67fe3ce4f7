"""The figures as tables and a plot for the docs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import ceil, floor, log10
from typing import Any

from dev import stack

DOCUMENT = stack.ROOT / "docs" / "performance.md"
PLOT = stack.ROOT / "docs" / "scaling.png"

Figures = dict[str, Any]


def renew(name: str, text: str) -> None:
    """Put *text* between the markers of *name* in docs/performance.md."""
    pattern = rf"(<!-- {name}: made by [^>]* -->\n).*?(<!-- end -->)"
    found = re.subn(
        pattern, lambda match: f"{match[1]}\n{text}\n{match[2]}", DOCUMENT.read_text(), flags=re.S
    )
    if found[1] != 1:
        raise ValueError(f"docs/performance.md has no place for {name}")
    DOCUMENT.write_text(found[0])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first are figures."""
    lines = [head, ["--"] + ["-:"] * (len(head) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(figures: Figures) -> None:
    """Renew what docs/performance.md says between its markers, as far as it was measured, and the plot."""
    for name, make in (
        ("side_by_side", _side_by_side),
        ("under_quota", _under_quota),
        ("waiting", _waiting),
        ("growth", _growth),
    ):
        if name in figures:
            renew(name, make(figures))
    if {"side_by_side", "waiting", "growth"} <= figures.keys():
        _plot(figures)


def _side_by_side(figures: Figures) -> str:
    ours, rival = figures["side_by_side"]["ours"], figures["side_by_side"]["rival"]
    rows = []
    for label, name, digits in (
        ("wall", "wall", 0),
        ("wall beyond the extraction itself", "overhead", 0),
        ("CPU of all Airflow processes", "cpu", 0),
        ("CPU of PostgreSQL", "database_cpu", 1),
        ("task instances", "task_instances", 0),
        ("failed task instances", "failed_tasks", 0),
        ("calls of VOD an asset", "calls_per_asset", 2),
        ("rows in Airflow's database", "rows", 0),
    ):
        unit = " s" if name in ("wall", "overhead", "cpu", "database_cpu") else ""
        mine, theirs = ours[name], rival[name]
        factor = f"{theirs / mine:.1f}" if mine and name != "calls_per_asset" else ""
        rows.append((label, f"{mine:,.{digits}f}{unit}", f"{theirs:,.{digits}f}{unit}", factor))
    return table(("300 assets", "this plugin", "HttpOperator, HttpSensor", "times"), rows)


def _under_quota(figures: Figures) -> str:
    found = figures["under_quota"]
    return table(
        (f"{found['assets']:,} assets, 4 tasks, quota 1,000 a minute", ""),
        [
            ("submissions accepted a minute, first to last", f"{found['accepted_per_minute']:,.0f}"),
            ("of the quota", f"{found['quota_share']:.0%}"),
            ("refused with 429", f"{found['refused_429']:,}"),
            ("assets not submitted", f"{found['not_submitted']:,}"),
            ("assets submitted twice", f"{found['submitted_twice']:,}"),
            ("failed tasks", f"{found['failed_tasks']:,}"),
        ],
    )


def _waiting(figures: Figures) -> str:
    quiet, waiting = figures["waiting"]["quiet"], figures["waiting"]["waiting"]
    rows = [
        ("CPU, share of a core", f"{quiet['cpu_share']:.1%}", f"{waiting['cpu_share']:.1%}"),
        ("memory", f"{quiet['memory_mb']:,.0f} MB", f"{waiting['memory_mb']:,.0f} MB"),
        *(
            (f"event loop late, {label}", f"{quiet[name]:.1f} ms", f"{waiting[name]:.1f} ms")
            for label, name in (("median", "lag_p50_ms"), ("p99", "lag_p99_ms"), ("worst", "lag_max_ms"))
        ),
        (
            "asset/info calls a minute, of 1,500",
            f"{quiet['calls_per_minute']:,.0f}",
            f"{waiting['calls_per_minute']:,.0f}",
        ),
    ]
    return table(("the triggerer", "nothing to do", "10,000 assets in 100 tasks"), rows)


def _growth(figures: Figures) -> str:
    ours, rival = _points(figures)
    rows = [
        (
            f"{point['assets']:,}",
            who,
            f"{point['overhead']:,.0f} s",
            f"{point['cpu']:,.0f} s",
            f"{point['task_instances']:,}",
            f"{point['calls_per_asset']:.2f}",
            f"{point['rows']:,}",
        )
        for who, points in (("this plugin", ours), ("HttpOperator, HttpSensor", rival))
        for point in points
    ]
    return table(("assets", "", "wall overhead", "CPU", "task instances", "calls an asset", "rows"), rows)


def _points(figures: Figures) -> tuple[list[Figures], list[Figures]]:
    growth, beside = figures["growth"], figures["side_by_side"]
    ours = [*growth["ours"], beside["ours"], *([figures["waiting"]] if "waiting" in figures else [])]
    rival = [*growth["rival"], beside["rival"]]
    return sorted(ours, key=_size), sorted(rival, key=_size)


def _size(point: Figures) -> int:
    return int(point["assets"])


def _plot(figures: Figures) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter

    ours, rival = _points(figures)
    panels = (
        ("overhead", "wall beyond the extraction, seconds"),
        ("cpu", "CPU of Airflow, seconds"),
        ("rows", "database rows"),
    )
    figure, axes = pyplot.subplots(1, len(panels), figsize=(11, 3.8), layout="constrained")
    for axis, (name, title) in zip(axes, panels, strict=True):
        for points, label, style in (
            (rival, "HttpOperator and HttpSensor", "s--"),
            (ours, "this plugin, batches of 100", "o-"),
        ):
            axis.plot(
                [_size(point) for point in points], [point[name] for point in points], style, label=label
            )
        axis.set(title=title, xlabel="assets", xscale="log", yscale="log")
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            scale.set_minor_formatter(NullFormatter())
        values = [point[name] for point in (*ours, *rival)]
        axis.set_ylim(10 ** floor(log10(min(values))), 10 ** ceil(log10(max(values))))
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(PLOT, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
