"""How soon actions are verified as more and more robots share a server, in every way to decode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spec_decode_ros.lab.bench.grid_plot import LINES
from spec_decode_ros.viz import style

_DASHES = {"balanced": "--", "cost": ":"}
_OTHER = (style.GREEN, "-")


def draw_fleet(document: dict[str, Any], out: str | Path) -> Path:
    """Draw a `fleet` document: p95 over the number of robots, with the bounds and where each way meets them."""
    fleet = document["fleet"]
    figure = style.new_figure(9.0, 5.4)
    axes, carried = figure.subplots(1, 2, width_ratios=(3, 2))
    style.plain_axes(axes)
    bound_ms = next(iter(fleet["bounds_ms"].values()))
    for way, found in fleet["ways"].items():
        color, dash = _look(way)
        points = [(load["robots"], load["ttva_ms"]["p95"]) for load in found["loads"]]
        seen = [(robots, p95) for robots, p95 in points if p95 is not None]
        axes.plot(*zip(*seen, strict=True), color=color, linestyle=dash, marker="o", markersize=3, label=way)
    for limit in fleet["bounds_ms"].values():
        axes.axhline(limit, color=style.INK, linewidth=0.8, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    robots = sorted({load["robots"] for found in fleet["ways"].values() for load in found["loads"]})
    shown = [number for number in robots if number & (number - 1) == 0]
    axes.set_xticks(shown, [str(number) for number in shown])
    ticks = [ms for ms in (20, 50, 100, 200, 500, 1000, 2000, 5000) if ms <= 4 * bound_ms]
    axes.set_yticks(ticks, [str(ms) for ms in ticks])
    axes.minorticks_off()
    axes.set_ylim(top=4 * bound_ms)
    axes.set_xlabel("robots", fontsize=9)
    axes.set_ylabel("p95 of the time to the verified action, ms", fontsize=9)
    axes.grid(color=style.GRID, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    style.plain_axes(carried)
    first = next(iter(fleet["bounds_ms"]))
    for place, (way, found) in enumerate(fleet["ways"].items()):
        held = found["capacity"][first]
        color, _ = _look(way)
        carried.barh(place, held["robots"], color=color, height=0.66)
        text = f"{'≥ ' if held['more'] else ''}{held['robots']:.1f}"
        carried.annotate(
            text, (held["robots"], place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=9,
            color=style.MUTED,
        )  # fmt: skip
    carried.set_yticks(range(len(fleet["ways"])), list(fleet["ways"]), fontsize=9)
    carried.invert_yaxis()
    carried.margins(x=0.2)
    carried.set_title(
        f"robots with a p95 of at most {bound_ms:.0f} ms", fontsize=9, color=style.MUTED, loc="left"
    )
    rate = fleet["pace"]["rate"]
    style.headline(
        figure,
        "Robots on one server",
        f"pair {document['pair']}, {rate:g} actions a second each, {document['machine']['cores']} cores of "
        f"{document['machine']['processor']}; dotted: the bounds",
    )
    return style.save(figure, out)


def _look(way: str) -> tuple[str, str]:
    method, _, objective = way.partition(", ")
    color, dash = LINES.get(method, _OTHER)
    return color, _DASHES.get(objective, dash)
