"""Plot of a fleet plan: GPUs, and cost per robot hour, over the size of the fleet; one line per method variant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from spec_decode_ros.lab.bench.grid_plot import LINES, log_axes
from spec_decode_ros.lab.bench.variants import MethodVariant
from spec_decode_ros.lab.planning.library import VARIANTS
from spec_decode_ros.lab.planning.plan import TOTAL, Need
from spec_decode_ros.lab.planning.regions import Fleet
from spec_decode_ros.lab.planning.site import LatencyGoal
from spec_decode_ros.viz import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DASHES = {None: "-", "latency": "-", "balanced": "--", "cost": ":"}
_MARKERS = {None: "o", "latency": "o", "balanced": "s", "cost": "D"}


def draw_plan(needs: Sequence[Need], fleet: Fleet, goal: LatencyGoal, out: str | Path) -> Path:
    """Draw the result of `plan_fleet`; all axes are logarithmic."""
    from matplotlib.ticker import LogLocator

    totals = [need for need in needs if need.region == TOTAL]
    figure = style.new_figure(10.0, 4.6)
    left, right = figure.subplots(1, 2)
    for variant in VARIANTS:
        mine = sorted((need for need in totals if need.variant == variant), key=lambda need: need.fleet)
        _draw(left, variant, mine, lambda need: need.gpus)
        _draw(right, variant, mine, lambda need: need.cost)
    sizes = sorted({need.fleet for need in totals})
    for axes, ylabel in ((left, "GPUs"), (right, f"{fleet.currency} per robot hour".strip())):
        log_axes(axes, sizes, "robots", ylabel)
        low, high = axes.get_ylim()
        if high < 100 * low:
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(VARIANTS), frameon=False, fontsize=9)
    where = ", ".join(f"{region.name} {region.rtt_ms:g} ms" for region in fleet.regions)
    style.headline(
        figure,
        "GPUs that a fleet needs",
        f"{goal.rate:g} actions a second and robot, 95 of 100 verified within {goal.p95_ms:g} ms; {where}",
    )
    return style.save(figure, out)


def _draw(
    axes: Axes, variant: MethodVariant, needs: Sequence[Need], what: Callable[[Need], float | None]
) -> None:
    points = [(need.fleet, value) for need in needs if (value := what(need)) is not None]
    axes.plot(
        [robots for robots, _ in points],
        [value for _, value in points],
        color=LINES[variant.method][0],
        linestyle=_DASHES[variant.objective],
        marker=_MARKERS[variant.objective],
        markersize=4,
        linewidth=2.2 if variant.objective == "latency" else 1.4,
        label=variant.label if points else f"{variant.label} (out of reach)",
    )
