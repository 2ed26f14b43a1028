"""Timeline plot: where the time of an action went, on the robot, on the link and in the cloud, for each method."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spec_decode_ros.edge.recording import Span
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.viz import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LANES = ("robot", "link", "cloud")
_SHADES = {
    "robot": ("#e08a00", "#f3b95f", "#b86e00"),
    "link": ("#7d858e", "#b3b9c0", "#5d646c", "#a5538a"),
    "cloud": ("#0072b2", "#6db4dc", "#00507d"),
}
"""Colours of each lane's span names, in the order of appearance."""

_ROOM = 0.84
"""Height of a lane's bars; lanes are 1 apart."""


@dataclass(frozen=True)
class ActionTimeline:
    """The spans of one action, when it was verified, and when its draft was there (None without a draft)."""

    method: str
    spans: tuple[Span, ...]
    verified_ms: float
    first_ms: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for lane, name, start, end in self.spans:
            if lane not in LANES:
                raise SpecDecodeError(f"a timeline has the lanes {', '.join(LANES)}, not {lane!r}")
            if not 0 <= start <= end:
                raise SpecDecodeError(f"the span {name!r} runs from {start} to {end} ms, which is no time")


def draw_timelines(
    actions: Sequence[ActionTimeline], out: str | Path, *, title: str = "", subtitle: str = ""
) -> Path:
    """Write the plot: a block of three lanes for each action, over the same time axis."""
    if not actions:
        raise SpecDecodeError("a timeline needs at least one action")
    figure = style.new_figure(9.6, 1.6 + 1.6 * len(actions))
    blocks = figure.subplots(len(actions), 1, sharex=True, squeeze=False)[:, 0]
    longest = max(max([action.verified_ms, *(end for *_, end in action.spans)]) for action in actions)
    longest = max(longest, 1.0)
    colors = _span_colors(actions)
    for axes, action in zip(blocks, actions, strict=True):
        axes.set_xlim(-0.008 * longest, longest * 1.02)
        _draw_action(axes, action, colors, longest)
        style.plain_axes(axes, sides=("bottom",) if axes is blocks[-1] else ())
        axes.tick_params(axis="x", length=3 if axes is blocks[-1] else 0)
        axes.tick_params(axis="y", length=0, labelsize=10, labelcolor=style.INK)
    blocks[-1].set_xlabel("milliseconds since the frame was captured")
    _draw_legend(figure, colors)
    style.headline(figure, title, subtitle)
    return style.save(figure, out)


def _span_colors(actions: Sequence[ActionTimeline]) -> dict[tuple[str, str], str]:
    """Colours by lane and kind of span."""
    names: dict[str, list[str]] = {lane: [] for lane in LANES}
    for action in actions:
        for lane, name, *_ in sorted(action.spans, key=lambda span: span[2]):
            if _kind(name) not in names[lane]:
                names[lane].append(_kind(name))
    return {
        (lane, name): _SHADES[lane][place % len(_SHADES[lane])]
        for lane in LANES
        for place, name in enumerate(names[lane])
    }


def _kind(name: str) -> str:
    """The span's name without its count of tokens."""
    return re.sub(r" \d+ tokens?$", "", name)


def _draw_legend(figure: Figure, colors: dict[tuple[str, str], str]) -> None:
    from matplotlib.patches import Patch

    entries = {f"{lane}: {name}": Patch(color=color) for (lane, name), color in colors.items()}
    columns = min(len(entries), 6)
    style.legend_below(figure, entries, columns, handlelength=1.1, handleheight=0.9, columnspacing=1.4)


def _draw_action(
    axes: Axes, action: ActionTimeline, colors: dict[tuple[str, str], str], longest: float
) -> None:
    for row in range(len(LANES)):
        axes.axhspan(row - 0.47, row + 0.47, color="#f4f5f7", lw=0, zorder=0)
    for row, lane in enumerate(LANES):
        spans = [span for span in action.spans if span[0] == lane]
        # Messages travel at the same time. Models compute one thing after the other, even where clocks disagree.
        placed = _stack(spans) if lane == "link" else [(span, 0) for span in spans]
        levels = max((level for _, level in placed), default=0) + 1
        height = _ROOM / levels
        for (_, name, start, end), level in placed:
            top = row - _ROOM / 2 + level * height
            width = max(end - start, 0.002 * longest)
            color = colors[lane, _kind(name)]
            axes.barh(
                top, width, height, left=start, align="edge", color=color, edgecolor="white", lw=0.7, zorder=2
            )
    axes.axvline(action.verified_ms, color=style.GREEN, lw=2, zorder=4)
    at_edge = action.verified_ms > 0.9 * longest
    axes.annotate(
        f"verified {action.verified_ms:.0f} ms",
        (action.verified_ms, -0.5),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right" if at_edge else "center",
        va="bottom",
        fontsize=9.5,
        fontweight="bold",
        color=style.GREEN,
    )
    if action.first_ms is not None and action.first_ms < action.verified_ms:
        axes.axvline(action.first_ms, color=style.RED, lw=1.4, ls=(0, (3, 2)), zorder=4)
        axes.annotate(
            f"draft {action.first_ms:.0f} ms",
            (action.first_ms, LANES.index("robot")),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            fontweight="bold",
            color=style.RED,
            zorder=5,
        )
    axes.set_ylim(len(LANES) - 0.5, -0.5)
    axes.set_yticks(range(len(LANES)), LANES)
    axes.set_title(action.method, loc="left", fontsize=11, fontweight="bold", color=style.INK, pad=6)
    if action.note:
        axes.annotate(
            action.note,
            (0, 1),
            xycoords="axes fraction",
            xytext=(14 + 8 * len(action.method), 6),
            textcoords="offset points",
            fontsize=9,
            color=style.MUTED,
        )


def _stack(spans: list[Span]) -> list[tuple[Span, int]]:
    """Each span with a level, so that spans of one level never overlap."""
    ends: list[float] = []
    placed = []
    for span in sorted(spans, key=lambda span: (span[2], span[3])):
        level = next((i for i, end in enumerate(ends) if end <= span[2] + 1e-9), len(ends))
        if level == len(ends):
            ends.append(span[3])
        else:
            ends[level] = span[3]
        placed.append((span, level))
    return placed
