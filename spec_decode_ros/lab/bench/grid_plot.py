"""Plot of a grid: time to the verified action over the round-trip time by method, one panel per pair of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spec_decode_ros.lab.bench.grid import Cell, MethodFigures
from spec_decode_ros.viz import style

LINES = {
    "cloud": (style.GREY, "-"),
    "colocated": (style.PURPLE, "-"),
    "sync": (style.SKY, "--"),
    "early_exit": (style.BLUE, "--"),
    "pipelined": (style.ORANGE, "-"),
    "auto": (style.RED, "-"),
}
"""Colour and dash of each method."""


def draw_grid(rows: Sequence[tuple[Cell, dict[str, MethodFigures]]], out: str | Path) -> Path:
    """Draw one row of panels per acceptance and one column per ratio; both axes are logarithmic."""
    acceptances = sorted({cell.acceptance for cell, _ in rows})
    ratios = sorted({cell.ratio for cell, _ in rows})
    rtts = sorted({cell.rtt_ms for cell, _ in rows})
    figure = style.new_figure(3.2 * len(ratios) + 0.6, 1.9 * len(acceptances) + 1.2)
    panels = figure.subplots(len(acceptances), len(ratios), squeeze=False, sharex=True, sharey=True)
    for i, acceptance in enumerate(acceptances):
        for j, ratio in enumerate(ratios):
            axes = panels[i][j]
            here = [(c, row) for c, row in rows if c.acceptance == acceptance and c.ratio == ratio]
            for name, (color, dash) in LINES.items():
                points = zip(*sorted((cell.rtt_ms, row[name].ttva_ms) for cell, row in here), strict=True)
                width = 2.2 if name == "auto" else 1.2
                axes.plot(*points, color=color, linestyle=dash, linewidth=width, label=name)
            log_axes(
                axes, rtts, "round-trip time, ms" if i == len(acceptances) - 1 else "", "ms" if j == 0 else ""
            )
            axes.set_yticks([200, 500, 1000, 3000], ["200", "500", "1000", "3000"])
            title = f"acceptance {acceptance:g}, draft/target {ratio:g}"
            axes.set_title(title, fontsize=9, color=style.MUTED, loc="left")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(LINES), frameon=False, fontsize=9)
    style.headline(
        figure,
        "Time to the verified action",
        "in virtual time; target: prefill 100 ms, step 40 ms; answers of 16 tokens",
    )
    return style.save(figure, out)


def log_axes(axes: Any, xticks: Sequence[float], xlabel: str, ylabel: str) -> None:
    """Logarithmic axes with these ticks, labels and a grid."""
    style.plain_axes(axes)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(xticks, [f"{tick:,.10g}" for tick in xticks])
    axes.minorticks_off()
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.grid(color=style.GRID, linewidth=0.6)
