"""Plot of the fleet suite: p95 of the time to the verified action over the number of robots, and capacities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spec_decode_ros.lab.bench.comparison_plot import draw_bar
from spec_decode_ros.lab.bench.grid_plot import LINES, log_axes
from spec_decode_ros.viz import style

_DASHES = {"balanced": "--", "cost": ":"}
_OTHER = (style.GREEN, "-")


def draw_fleet(document: dict[str, Any], out: str | Path) -> Path:
    """Draw a `fleet` document, with the bounds and the capacity of each variant at the first of them."""
    fleet = document["fleet"]
    figure = style.new_figure(9.0, 5.4)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw_times(left, fleet)
    _draw_capacities(right, fleet)
    rate = fleet["pace"]["rate"]
    style.headline(
        figure,
        "Robots on one server",
        f"pair {document['pair']}, {rate:g} actions a second each, {document['machine']['cores']} cores of "
        f"{document['machine']['processor']}; dotted: the bounds",
    )
    return style.save(figure, out)


def _draw_times(axes: Any, fleet: dict[str, Any]) -> None:
    bound_ms = next(iter(fleet["bounds_ms"].values()))
    for way, found in fleet["ways"].items():
        color, dash = _look(way)
        points = [(load["robots"], load["ttva_ms"]["p95"]) for load in found["loads"]]
        seen = [(robots, p95) for robots, p95 in points if p95 is not None]
        axes.plot(*zip(*seen, strict=True), color=color, linestyle=dash, marker="o", markersize=3, label=way)
    for limit in fleet["bounds_ms"].values():
        axes.axhline(limit, color=style.INK, linewidth=0.8, linestyle=":")
    robots = sorted({load["robots"] for found in fleet["ways"].values() for load in found["loads"]})
    powers = [number for number in robots if number & (number - 1) == 0]
    log_axes(axes, powers, "robots", "p95 of the time to the verified action, ms")
    ticks = [ms for ms in (20, 50, 100, 200, 500, 1000, 2000, 5000) if ms <= 4 * bound_ms]
    axes.set_yticks(ticks, [str(ms) for ms in ticks])
    axes.set_ylim(top=4 * bound_ms)
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _draw_capacities(axes: Any, fleet: dict[str, Any]) -> None:
    style.plain_axes(axes)
    bound, bound_ms = next(iter(fleet["bounds_ms"].items()))
    for place, (way, found) in enumerate(fleet["ways"].items()):
        held = found["capacity"][bound]
        text = f"{'≥ ' if held['more'] else ''}{held['robots']:.1f}"
        draw_bar(axes, place, held["robots"], _look(way)[0], text, 9)
    axes.set_yticks(range(len(fleet["ways"])), list(fleet["ways"]), fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.2)
    axes.set_title(
        f"robots with a p95 of at most {bound_ms:.0f} ms", fontsize=9, color=style.MUTED, loc="left"
    )


def _look(way: str) -> tuple[str, str]:
    method, _, objective = way.partition(", ")
    color, dash = LINES.get(method, _OTHER)
    return color, _DASHES.get(objective, dash)
