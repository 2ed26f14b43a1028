"""One look for every picture: a palette that colour-blind readers can tell apart, and how files are written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, lightly darkened where white text stands on it.
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
"""What became of a token: see `decoding.messages.TokenOutcome`."""

DPI = 160


def new_figure(width: float, height: float) -> Figure:
    """A figure of `width` x `height` inches that belongs to no window and to no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Axes, sides: tuple[str, ...] = ("left", "bottom")) -> None:
    """Only the named frame sides, thin and grey, with small tick labels."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(GREY)
        spine.set_linewidth(0.8)
    axes.tick_params(colors=MUTED, labelsize=9, length=3, width=0.8)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)


def headline(figure: Figure, title: str, subtitle: str = "") -> None:
    """A bold first line and a quiet second one, above everything else in the figure."""
    width, height = figure.get_size_inches()
    used = 0.08
    for text, size, weight, color in ((title, 13, "bold", INK), (subtitle, 10, "normal", MUTED)):
        if text:
            figure.text(
                0.1 / width, 1 - used / height, text, fontsize=size, fontweight=weight, color=color, va="top"
            )
            used += size * 1.55 / 72
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0, 0, 1, 1 - used / height))  # type: ignore[call-arg]


def save(figure: Figure, path: str | Path) -> Path:
    """Write the figure as PNG (or whatever the suffix says), making its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    return path
