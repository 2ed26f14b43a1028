"""Velocity plot of a walk: commanded and actual velocities with the actions that asked for them; its smoothness."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.viz import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Sample = tuple[float, float, float]
"""Seconds, forward speed in m/s, turn rate in rad/s, left positive."""


@dataclass(frozen=True)
class Walk:
    """The velocities of one walk, in the order of time and with one origin of time.

    Attributes:
        commanded: as the motion guard let them through.
        actual: of the robot.
        verified, drafts: of the models' actions, when they were published.
    """

    commanded: tuple[Sample, ...]
    actual: tuple[Sample, ...]
    verified: tuple[Sample, ...] = ()
    drafts: tuple[Sample, ...] = ()

    def __post_init__(self) -> None:
        if len(self.commanded) < 2:
            raise SpecDecodeError("a walk without commanded velocities cannot be drawn")


@dataclass(frozen=True)
class Smoothness:
    """Smoothness of a walk.

    Attributes:
        span_s: seconds from the first moving verified action to the last.
        actions: number of moving verified actions.
        halts: number of commanded stops in that span that no verified action asked for.
        longest_halt_s: the longest of these.
        max_ax, max_aw: largest commanded accelerations in m/s² and rad/s², stops excluded.
    """

    span_s: float
    actions: int
    halts: int
    longest_halt_s: float
    max_ax: float
    max_aw: float


def smoothness(walk: Walk) -> Smoothness:
    """Measure a walk."""
    moving = [sample for sample in walk.verified if sample[1] or sample[2]]
    first, last = (moving[0][0], moving[-1][0]) if moving else (math.inf, -math.inf)
    halts = _halts(walk, first, last)
    return Smoothness(
        span_s=max(0.0, last - first),
        actions=len(moving),
        halts=len(halts),
        longest_halt_s=max(halts, default=0.0),
        max_ax=_steepest(walk.commanded, 1),
        max_aw=_steepest(walk.commanded, 2),
    )


def _halts(walk: Walk, first: float, last: float) -> list[float]:
    """Seconds of each commanded stop that no verified action asked for."""
    halts: list[float] = []
    began: float | None = None
    for t, vx, wz in walk.commanded:
        stands = vx == 0.0 and wz == 0.0
        if stands and began is None:
            began = t
        elif not stands and began is not None:
            if began > first and t <= last and not _asked_to_stand(walk.verified, began):
                halts.append(t - began)
            began = None
    return halts


def _asked_to_stand(verified: Sequence[Sample], t: float) -> bool:
    before = [sample for sample in verified if sample[0] <= t]
    return bool(before) and before[-1][1:] == (0.0, 0.0)


def _steepest(samples: Sequence[Sample], column: int) -> float:
    steepest = 0.0
    for before, after in itertools.pairwise(samples):
        # Two messages within 20 ms are a repetition: no time to measure an acceleration over.
        if after[column] != 0.0 and after[0] - before[0] > 0.02:
            steepest = max(steepest, abs(after[column] - before[column]) / (after[0] - before[0]))
    return steepest


def draw_velocity(walk: Walk, out: str | Path, *, title: str = "", subtitle: str = "") -> Path:
    """Write the plot: forward speed above, turn rate below, over the same time axis."""
    figure = style.new_figure(10.0, 5.6)
    upper, lower = figure.subplots(2, 1, sharex=True)
    _draw(upper, walk, 1, "forward, m/s")
    _draw(lower, walk, 2, "turning left, rad/s")
    lower.set_xlabel("seconds")
    handles, labels = upper.get_legend_handles_labels()
    style.legend_below(figure, dict(zip(labels, handles, strict=True)), 4, style.MUTED)
    style.headline(figure, title, subtitle)
    return style.save(figure, out)


def _draw(axes: Axes, walk: Walk, column: int, label: str) -> None:
    def points(samples: Sequence[Sample]) -> tuple[list[float], list[float]]:
        return [sample[0] for sample in samples], [sample[column] for sample in samples]

    axes.plot(*points(walk.actual), color=style.GREY, linewidth=1.4, label="actual")
    if walk.drafts:
        axes.plot(*points(walk.drafts), ".", color=style.ORANGE, markersize=4, label="drafted")
    if walk.verified:
        axes.plot(*points(walk.verified), "o", color=style.GREEN, markersize=4.5, label="verified")
    axes.plot(
        *points(walk.commanded), color=style.BLUE, linewidth=1.8, drawstyle="steps-post", label="commanded"
    )
    axes.axhline(0.0, color=style.GRID, linewidth=1.0, zorder=0)
    axes.set_ylabel(label, fontsize=9)
    style.plain_axes(axes)
