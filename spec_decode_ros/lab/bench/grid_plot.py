"""The time to a verified action over the round-trip time, every method, one panel for each pair of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from spec_decode_ros.lab.bench.grid import Cell, Figures
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


def draw_grid(rows: Sequence[tuple[Cell, dict[str, Figures]]], out: str | Path) -> Path:
    """Write the picture; rows are acceptances, columns draft times over target times, the y axis is logarithmic."""
    acceptances = sorted({cell.acceptance for cell, _ in rows})
    ratios = sorted({cell.ratio for cell, _ in rows})
    figure = style.new_figure(3.2 * len(ratios) + 0.6, 1.9 * len(acceptances) + 1.2)
    panels = figure.subplots(len(acceptances), len(ratios), squeeze=False, sharex=True, sharey=True)
    for i, acceptance in enumerate(acceptances):
        for j, ratio in enumerate(ratios):
            axes = panels[i][j]
            style.plain_axes(axes)
            here = [(c, row) for c, row in rows if c.acceptance == acceptance and c.ratio == ratio]
            for name, (color, dash) in LINES.items():
                points = sorted((cell.rtt_ms, row[name].ttva_ms) for cell, row in here)
                width = 2.2 if name == "auto" else 1.2
                axes.plot(
                    *zip(*points, strict=True), color=color, linestyle=dash, linewidth=width, label=name
                )
            axes.set_xscale("log")
            axes.set_yscale("log")
            rtts = sorted({cell.rtt_ms for cell, _ in rows})
            axes.set_xticks(rtts, [f"{rtt:g}" for rtt in rtts])
            axes.minorticks_off()
            axes.set_yticks([200, 500, 1000, 3000], ["200", "500", "1000", "3000"])
            axes.grid(color=style.GRID, linewidth=0.6)
            axes.set_title(
                f"acceptance {acceptance:g}, draft/target {ratio:g}",
                fontsize=9,
                color=style.MUTED,
                loc="left",
            )
            if i == len(acceptances) - 1:
                axes.set_xlabel("round-trip time, ms", fontsize=9)
            if j == 0:
                axes.set_ylabel("ms", fontsize=9)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(LINES), frameon=False, fontsize=9)
    style.headline(
        figure,
        "Time to the verified action",
        "in virtual time; target: prefill 100 ms, step 40 ms; answers of 16 tokens",
    )
    return style.save(figure, out)
