"""What a fleet needs over its size: GPUs, and the cost of a robot hour; one line a method and objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spec_decode_ros.lab.bench.grid_plot import LINES
from spec_decode_ros.lab.planning.library import VARIANTS, Variant
from spec_decode_ros.lab.planning.plan import TOTAL, Need
from spec_decode_ros.lab.planning.regions import Fleet
from spec_decode_ros.lab.planning.site import LatencyGoal
from spec_decode_ros.viz import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = {None: "-", "latency": "-", "balanced": "--", "cost": ":"}
_MARKERS = {None: "o", "latency": "o", "balanced": "s", "cost": "D"}


def draw_plan(needs: Sequence[Need], fleet: Fleet, goal: LatencyGoal, out: str | Path) -> Path:
    """Draw what `plan_fleet` found; both axes of both panels are logarithmic."""
    totals = [need for need in needs if need.region == TOTAL]
    figure = style.new_figure(10.0, 4.6)
    left, right = figure.subplots(1, 2)
    for variant in VARIANTS:
        mine = sorted((need for need in totals if need.variant == variant), key=lambda need: need.fleet)
        _draw(left, variant, mine, lambda need: need.gpus)
        _draw(right, variant, mine, lambda need: need.cost)
    left.set_ylabel("GPUs", fontsize=9)
    right.set_ylabel(f"{fleet.currency} per robot hour".strip(), fontsize=9)
    for axes in (left, right):
        _dress(axes, sorted({need.fleet for need in totals}))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(VARIANTS), frameon=False, fontsize=9)
    where = ", ".join(f"{region.name} {region.rtt_ms:g} ms" for region in fleet.regions)
    style.headline(
        figure,
        "GPUs that a fleet needs",
        f"{goal.rate:g} actions a second and robot, 95 of 100 verified within {goal.p95_ms:g} ms; {where}",
    )
    return style.save(figure, out)


def _draw(axes: Axes, variant: Variant, needs: Sequence[Need], what: Callable[[Need], float | None]) -> None:
    color, _ = LINES[variant.method]
    points = [(need.fleet, value) for need in needs if (value := what(need)) is not None]
    label = variant.name if points else f"{variant.name} (out of reach)"
    axes.plot(
        [robots for robots, _ in points],
        [value for _, value in points],
        color=color,
        linestyle=_DASHES[variant.objective],
        marker=_MARKERS[variant.objective],
        markersize=4,
        linewidth=2.2 if variant.objective == "latency" else 1.4,
        label=label,
    )


def _dress(axes: Axes, sizes: Sequence[int]) -> None:
    from matplotlib.ticker import LogLocator

    style.plain_axes(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    low, high = axes.get_ylim()
    if high < 100 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.set_xlabel("robots", fontsize=9)
    axes.grid(color=style.GRID, linewidth=0.6)
