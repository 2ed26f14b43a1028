"""Plots of a comparison: the metrics of every method, and the timeline of one typical action."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spec_decode_ros.edge.runtime import ActionResult
from spec_decode_ros.lab.bench.comparison import MethodComparison
from spec_decode_ros.lab.bench.grid_plot import LINES
from spec_decode_ros.viz import style
from spec_decode_ros.viz.timeline import ActionTimeline, Span, draw_timelines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OTHER = (style.GREEN, ":")
_BARS = {
    "cloud_passes": "target passes",
    "cloud_busy_ms": "target compute, ms",
    "uplink_bytes": "bytes up, image apart",
    "downlink_bytes": "bytes down",
}


def draw_methods(document: dict[str, Any], out: str | Path) -> Path:
    """Draw a `bench` document: times over all links, and as bars the other metrics at the last link."""
    links = document["links"]
    methods = list(links[0]["methods"])
    figure = style.new_figure(11.0, 6.4)
    grid = figure.add_gridspec(2, 4)
    times = figure.add_subplot(grid[:, :2])
    _draw_times(times, links, methods)
    for place, (metric, title) in enumerate(_BARS.items()):
        _draw_bars(figure.add_subplot(grid[place // 2, 2 + place % 2]), links[-1], methods, metric, title)
    what = f"suite {document['suite']}, pair {document['pair']}, {links[0]['samples']} samples"
    style.headline(
        figure, "Time to the verified answer", f"{what}; medians and quartiles; bars: {links[-1]['name']}"
    )
    return style.save(figure, out)


def _draw_times(axes: Axes, links: Sequence[dict[str, Any]], methods: Sequence[str]) -> None:
    style.plain_axes(axes)
    places = range(len(links))
    for number, method in enumerate(methods):
        color, dash = LINES.get(method, _OTHER)
        spreads = [link["methods"][method]["ttva_ms"] for link in links]
        # Side by side, so that the quartiles of one method do not hide those of the next.
        at = [place + 0.05 * (number - (len(methods) - 1) / 2) for place in places]
        middle = [spread["median"] for spread in spreads]
        spans = [
            [spread["median"] - spread["p25"] for spread in spreads],
            [spread["p75"] - spread["median"] for spread in spreads],
        ]
        look: dict[str, Any] = {"color": color, "linestyle": dash, "elinewidth": 1, "capsize": 2}
        width = 2.2 if method == "auto" else 1.4
        axes.errorbar(at, middle, spans, linewidth=width, label=method, **look)
    if all(link["bound_ms"] for link in links):
        bounds = [link["bound_ms"]["median"] for link in links]
        axes.plot(places, bounds, color=style.INK, linewidth=1, linestyle=":", label="upload + RTT + prefill")
    axes.set_xticks(list(places), [link["name"].partition(",")[0] for link in links])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ms", fontsize=9)
    axes.grid(axis="y", color=style.GRID, linewidth=0.6)
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _draw_bars(axes: Axes, link: dict[str, Any], methods: Sequence[str], metric: str, title: str) -> None:
    style.plain_axes(axes)
    for place, method in enumerate(methods):
        spread = link["methods"][method][metric]
        if spread:
            color, _ = LINES.get(method, _OTHER)
            draw_bar(axes, place, spread["median"], color, f"{spread['median']:.4g}", 8)
    axes.set_yticks(range(len(methods)), methods, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_title(title, fontsize=9, color=style.MUTED, loc="left")


def draw_bar(axes: Axes, place: int, value: float, color: str, text: str, fontsize: int) -> None:
    """A horizontal bar with a text at its end."""
    axes.barh(place, value, color=color, height=0.66)
    axes.annotate(
        text, (value, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=fontsize,
        color=style.MUTED,
    )  # fmt: skip


def draw_timeline(comparison: MethodComparison, out: Path, caption: str) -> Path:
    """Draw where the milliseconds of a typical action go, by every method."""
    place = comparison.typical()
    actions = []
    for method, results in comparison.results.items():
        stats = results[place].stats
        passes = _count(stats["cloud_passes"], "target pass", "target passes")
        note = f"{passes}, {_count(stats['round_trips'], 'round trip', 'round trips')}"
        verified = float(stats["ttva_ms"] or stats["total_ms"] or 0.0)
        first = stats["ttfa_ms"] if stats["drafted_on_edge"] else None
        spans = tuple(_spans_until(results[place], verified))
        actions.append(ActionTimeline(method, spans, verified, None if first is None else float(first), note))
    return draw_timelines(actions, out, title="Where the milliseconds of one action go", subtitle=caption)


def _count(value: float | int | str | None, one: str, many: str) -> str:
    number = int(value or 0)
    return f"{number} {one if number == 1 else many}"


def _spans_until(result: ActionResult, verified: float) -> list[Span]:
    """What happened until the action was verified; cleaning up afterwards is left out."""
    return [
        (lane, name, max(0.0, start), max(0.0, end))
        for lane, name, start, end in result.timeline
        if start < verified and not name.startswith(("ping", "pong", "opened", "close"))
    ]
