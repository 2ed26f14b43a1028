"""Bird's-eye plot of a walk: room, objects, path, and whether the draft of each action was accepted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.scene import COLORS, Scene, SceneObject, parts
from spec_decode_ros.viz import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patheffects import AbstractPathEffect

_FLOOR = "#f6f5f2"

_ROBOT = (0.70, 0.31)
"""Length and width of a Go2, metres."""


@dataclass(frozen=True)
class VerifiedAction:
    """Position of the robot (metres) when an action was verified, and whether the cloud corrected its draft."""

    x: float
    y: float
    corrected: bool


def draw_path(
    scene: Scene,
    path: np.ndarray,
    out: str | Path,
    *,
    target: str | None = None,
    decisions: Sequence[VerifiedAction] = (),
    title: str = "",
    subtitle: str = "",
) -> Path:
    """Write the bird's-eye plot of one walk.

    Args:
        scene: the room.
        path: (N, 3) array of x, y in metres and yaw in radians, in order of time.
        out: the file to write, in the format of its suffix.
        target: the requested object, such as ``red chair``, which is drawn with a ring.
        decisions: marks on the path.
        title: the operator's sentence.
        subtitle: a line below it.
    """
    path = np.asarray(path, dtype=float)
    if path.ndim != 2 or path.shape[1] != 3 or len(path) == 0:
        raise SpecDecodeError(f"a path is an array of shape (N, 3) with N > 0, not {path.shape}")
    width = 6.6
    figure = style.new_figure(width, width * scene.half_y / scene.half_x * 0.92 + 1.35)
    axes = figure.add_subplot()
    _draw_room(axes, scene)
    for thing in scene.objects:
        robot_below = math.hypot(*(path[-1, :2] - (thing.x, thing.y))) < 1.4 and path[-1, 1] < thing.y
        _draw_object(axes, thing, thing.name == target, label_above=robot_below)
    _draw_walk(axes, path, decisions)
    axes.set_aspect("equal")
    axes.set_xlim(-scene.half_x - 0.15, scene.half_x + 0.15)
    axes.set_ylim(-scene.half_y - 0.15, scene.half_y + 0.15)
    axes.set_xlabel("x, metres")
    axes.set_ylabel("y, metres")
    style.plain_axes(axes, sides=())
    style.headline(figure, title, subtitle)
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.075),
        ncols=4,
        frameon=False,
        fontsize=9,
        labelcolor=style.INK,
        handletextpad=0.4,
        columnspacing=1.6,
    )
    return style.save(figure, out)


def _draw_room(axes: Axes, scene: Scene) -> None:
    from matplotlib.patches import Rectangle

    corner = (-scene.half_x, -scene.half_y)
    size = (2 * scene.half_x, 2 * scene.half_y)
    axes.add_patch(Rectangle(corner, *size, facecolor=_FLOOR, edgecolor="none", zorder=0))
    for metre in range(-math.floor(scene.half_x), math.floor(scene.half_x) + 1):
        axes.plot([metre, metre], [-scene.half_y, scene.half_y], color=style.GRID, lw=0.7, zorder=0.5)
    for metre in range(-math.floor(scene.half_y), math.floor(scene.half_y) + 1):
        axes.plot([-scene.half_x, scene.half_x], [metre, metre], color=style.GRID, lw=0.7, zorder=0.5)
    axes.add_patch(Rectangle(corner, *size, facecolor="none", edgecolor="#54585d", lw=3.5, zorder=1))


def _draw_object(axes: Axes, thing: SceneObject, wanted: bool, label_above: bool) -> None:
    from matplotlib.patches import Circle, Polygon

    color = COLORS[thing.color]
    edge = tuple(0.62 * c for c in color)
    largest = 0.0
    for part in parts(thing.kind):
        high = part.position[2] > 0.6 and thing.kind == "chair"
        face = edge if high else color
        if part.shape == "box":
            if part.position[2] < 0.3 and thing.kind == "chair":
                continue
            half_x, half_y = part.size[:2]
            corners = np.array([(-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y)])
            corners = (corners + part.position[:2]) @ _rotation(thing.yaw).T + (thing.x, thing.y)
            axes.add_patch(Polygon(corners, facecolor=face, edgecolor=edge, lw=1.2, zorder=3))
            largest = max(largest, math.hypot(half_x, half_y))
        else:
            radius = part.size[0]
            axes.add_patch(
                Circle((thing.x, thing.y), radius, facecolor=face, edgecolor=edge, lw=1.2, zorder=3)
            )
            if part.shape == "cone":
                axes.plot(thing.x, thing.y, ".", color=edge, ms=5, zorder=3.1)
            if part.shape == "sphere":
                glint = (thing.x - radius * 0.35, thing.y + radius * 0.35)
                axes.add_patch(Circle(glint, radius * 0.16, facecolor="white", alpha=0.75, zorder=3.1))
            largest = max(largest, radius)
    if wanted:
        ring = Circle(
            (thing.x, thing.y), largest + 0.16, fill=False, edgecolor=style.INK, lw=1.4, ls=(0, (4, 2))
        )
        axes.add_patch(ring)
    gap = largest + (0.22 if wanted else 0.07)
    axes.text(
        thing.x,
        thing.y + gap if label_above else thing.y - gap,
        thing.name,
        ha="center",
        va="bottom" if label_above else "top",
        fontsize=9,
        fontweight="bold" if wanted else "normal",
        color=style.INK,
        zorder=7,
        path_effects=_halo(),
    )


def _draw_walk(axes: Axes, path: np.ndarray, decisions: Sequence[VerifiedAction]) -> None:
    axes.plot(path[:, 0], path[:, 1], color="white", lw=5.5, solid_capstyle="round", zorder=4)
    axes.plot(
        path[:, 0], path[:, 1], color=style.INK, lw=2, solid_capstyle="round", zorder=4.1, label="walked path"
    )
    for corrected, color, label in (
        (False, style.OUTCOME_COLORS["accepted"], "draft accepted"),
        (True, style.OUTCOME_COLORS["recovered"], "draft corrected"),
    ):
        marks = [d for d in decisions if d.corrected == corrected]
        if marks:
            x, y = [d.x for d in marks], [d.y for d in marks]
            axes.plot(x, y, "o", color=color, mec="white", mew=0.8, ms=5.5, zorder=5, label=label)
    _draw_robot(axes, path[0], style.GREY, "start")
    _draw_robot(axes, path[-1], style.INK, "end")


def _draw_robot(axes: Axes, pose: np.ndarray, color: str, label: str) -> None:
    """The robot's outline with a nose that shows the heading."""
    from matplotlib.patches import Polygon

    length, width = _ROBOT
    nose = 0.12
    outline = np.array(
        [
            (-length / 2, -width / 2),
            (length / 2 - nose, -width / 2),
            (length / 2, 0.0),
            (length / 2 - nose, width / 2),
            (-length / 2, width / 2),
        ]
    )
    corners = outline @ _rotation(pose[2]).T + pose[:2]
    solid = label == "end"
    axes.add_patch(
        Polygon(
            corners,
            facecolor=color if solid else "white",
            edgecolor=color,
            lw=1.6,
            joinstyle="round",
            zorder=6 if solid else 3.5,
        )
    )
    # Labels off the path, which leaves the start in front and reaches the end from behind.
    beside = (0.0, -width / 2 - 0.2) if solid else (-length / 2 - 0.2, 0.0)
    x, y = pose[:2] + _rotation(pose[2]) @ beside
    axes.text(
        x,
        y,
        label,
        color=color if solid else style.MUTED,
        fontsize=8.5,
        ha="center",
        va="center",
        zorder=7,
        path_effects=_halo(),
    )


def _halo() -> list[AbstractPathEffect]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.5, foreground=_FLOOR)]


def _rotation(yaw: float) -> np.ndarray:
    cos, sin = math.cos(yaw), math.sin(yaw)
    return np.array([[cos, -sin], [sin, cos]])
