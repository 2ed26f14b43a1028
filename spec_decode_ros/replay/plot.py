"""Plot of a replay: recorded and replayed velocities over time, and the latency of each action."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from spec_decode_ros.replay.compare import ComparedAction, ReplayComparison
from spec_decode_ros.viz import style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_LONGEST_LABEL = 40
_LETTER = 0.0075
"""Width of a label's letter as a share of the panel's width."""


def draw_replay(comparison: ReplayComparison, out: str | Path, subtitle: str) -> Path:
    """Write the plot and return its path."""
    if comparison.recorded:
        same = comparison.compared - comparison.differences
        title = f"{same} of {comparison.compared} replayed actions are as recorded"
    else:
        title = f"{comparison.replayed} actions on recorded frames"
    figure = style.new_figure(9.6, 6.0)
    panels = figure.subplots(3, 1, sharex=True, height_ratios=(1.0, 1.0, 0.9))
    rows = comparison.rows
    for panel, axis, label in ((panels[0], 0, "vx, m/s"), (panels[1], 1, "wz, rad/s")):
        _draw_velocity(panel, rows, axis)
        panel.set_ylabel(label)
    _draw_latency(panels[2], rows)
    panels[2].set_ylabel("latency, ms")
    panels[2].set_xlabel("seconds since the beginning of the bag")
    for panel in panels:
        style.plain_axes(panel)
        panel.grid(axis="y", color=style.GRID, lw=0.8)
        panel.set_axisbelow(True)
    figure.align_ylabels()
    _draw_instructions(panels[0], panels, rows)
    handles: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    style.legend_below(figure, handles, len(handles))
    style.headline(figure, title, _plain(subtitle))
    return style.save(figure, out)


def _draw_velocity(panel: Axes, rows: tuple[ComparedAction, ...], axis: int) -> None:
    recorded = [(row.at_s, row.recorded_velocities[axis]) for row in rows if row.recorded_velocities]
    if recorded:
        panel.step(*zip(*recorded, strict=True), where="post", color=style.GREY, lw=2.4, label="recorded")

    for same, color, label, size in (
        (True, style.BLUE, "replayed, the same", 18),
        (None, style.ORANGE, "replayed, not compared", 18),
        (False, style.RED, "replayed, differs", 34),
    ):
        points = [
            (row.at_s, row.replayed_velocities[axis])
            for row in rows
            if row.replayed_velocities and row.same is same
        ]
        if points:
            times, values = zip(*points, strict=True)
            panel.scatter(times, values, s=size, color=color, label=label, zorder=3, lw=0)


def _draw_latency(panel: Axes, rows: tuple[ComparedAction, ...]) -> None:
    recorded = [(row.at_s, row.recorded_ms) for row in rows if row.recorded_ms is not None]
    replayed = [(row.at_s, row.replayed_ms) for row in rows if row.replayed_ms is not None]
    if recorded:
        panel.plot(*zip(*recorded, strict=True), color=style.GREY, lw=1.6)
    if replayed:
        panel.plot(*zip(*replayed, strict=True), color=style.BLUE, lw=1.2)
    panel.set_ylim(bottom=0)


def _draw_instructions(top: Axes, panels: tuple[Axes, ...], rows: tuple[ComparedAction, ...]) -> None:
    """A line at the beginning of each instruction, with the instruction above it if there is room."""
    left, right = top.get_xlim()
    told, free = None, left
    for row in rows:
        if row.instruction == told:
            continue
        told = row.instruction
        for panel in panels:
            panel.axvline(row.at_s, color=style.MUTED, lw=0.8, ls=(0, (2, 2)), zorder=0)
        if row.at_s < free:
            continue
        short = told if len(told) <= _LONGEST_LABEL else told[: _LONGEST_LABEL - 1] + "…"
        free = row.at_s + (len(short) + 3) * _LETTER * (right - left)
        top.annotate(
            _plain(f"“{short}”"),
            (row.at_s, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(4, 2),
            textcoords="offset points",
            fontsize=9,
            color=style.MUTED,
        )


def _plain(text: str) -> str:
    """Text with dollar signs escaped, which begin formulas in matplotlib."""
    return text.replace("$", r"\$")
