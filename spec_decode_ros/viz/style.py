"""Style of all pictures: a palette for colour-blind readers, and how figures are made, labelled and saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spec_decode_ros.json_output import writing

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette of Okabe and Ito, darkened a little where white text is on it.
INK = "#22262b"
MUTED = "#6b7178"
GRID = "#e3e6ea"
BLUE = "#0072b2"
SKY = "#56b4e9"
GREEN = "#009e73"
ORANGE = "#e08a00"
RED = "#c8432b"
PURPLE = "#a5538a"
GREY = "#a9afb6"

OUTCOME_COLORS = {"accepted": GREEN, "recovered": RED, "bonus": BLUE, "unverified": GREY}
"""Colours of a token's outcome, see `decoding.messages.TokenOutcome`."""

DPI = 160


def new_figure(width: float, height: float) -> Figure:
    """A figure of `width` x `height` inches, outside of pyplot's windows and global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes, sides: tuple[str, ...] = ("left", "bottom")) -> None:
    """Leave only the named sides of the frame, thin and grey, with small tick labels."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(GREY)
        spine.set_linewidth(0.8)
    axes.tick_params(colors=MUTED, labelsize=9, length=3, width=0.8)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)


def headline(figure: Figure, title: str, subtitle: str = "") -> None:
    """Write a bold title and a grey subtitle above everything else in the figure."""
    width, height = figure.get_size_inches()
    used = 0.08
    for text, size, weight, color in ((title, 13, "bold", INK), (subtitle, 10, "normal", MUTED)):
        if text:
            figure.text(
                0.1 / width, 1 - used / height, text, fontsize=size, fontweight=weight, color=color, va="top"
            )
            used += size * 1.55 / 72 * len(text.splitlines())
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, 0, 1, 1 - used / height))  # type: ignore[call-arg]


def legend_below(
    figure: Figure, entries: Mapping[str, Artist], columns: int, color: str = INK, **options: Any
) -> None:
    """Draw a legend of labels and their handles below everything else in the figure."""
    figure.legend(
        handles=list(entries.values()),
        labels=list(entries),
        loc="outside lower center",
        ncols=max(1, columns),
        frameon=False,
        fontsize=9,
        labelcolor=color,
        **options,
    )


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure in the format of the file's suffix, and make its folder. Raises SpecDecodeError."""
    path = Path(path)
    with writing(path):
        figure.savefig(path, dpi=DPI)
    return path
