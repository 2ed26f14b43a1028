"""What the small pair is asked about a view: objects by name and by description, and requests that are refused."""

from __future__ import annotations

from typing import get_args

import numpy as np

from spec_decode_ros.actions.commands import Command, Relation
from spec_decode_ros.lab.training.frames import View, draw_commands, other_command
from spec_decode_ros.sim.referring import referent
from spec_decode_ros.sim.scene import COLORS, KINDS, Scene

DESCRIBED = 0.4
"""Share of the questions about objects in view that describe theirs."""

UNSEEN = 0.2
"""Share of the descriptions that fit nothing in view which are asked all the same."""

REFUSED = 0.25
"""Share of the commands that are not about an object which have to be refused."""

TRIES = 20


def draw_spoken(scene: Scene, focus: int, view: View, rng: np.random.Generator) -> list[Command]:
    """Commands as :func:`~spec_decode_ros.lab.training.frames.draw_commands` has them, some objects described instead."""
    first, second, third, fourth = draw_commands(scene, focus, view.visible, rng)
    if rng.random() < DESCRIBED:
        first = description(scene, view, rng) or first
    if rng.random() < DESCRIBED:
        second = description(scene, view, rng) or second
    if rng.random() < 0.6:
        fourth = _other(rng)
    elif rng.random() < 0.5:
        fourth = description(scene, view, rng) or fourth
    return [first, second, third, fourth]


def _other(rng: np.random.Generator) -> Command:
    if rng.random() < REFUSED:
        return Command("refuse", str(rng.choice(list(COLORS))), str(rng.choice(KINDS)))
    return other_command(rng)


def description(scene: Scene, view: View, rng: np.random.Generator) -> Command | None:
    """A random description that means one object in view beyond doubt, or now and then none; None if none was found."""
    for _ in range(TRIES):
        command = _random(scene, rng)
        meant = referent(command, scene, view.pose, view.visible)
        if not meant.doubtful and (meant.index >= 0 or rng.random() < UNSEEN):
            return command
    return None


def _random(scene: Scene, rng: np.random.Generator) -> Command:
    things = scene.objects
    kind = str(rng.choice(KINDS)) if rng.random() < 0.1 else things[int(rng.integers(len(things)))].kind
    relation: Relation = rng.choice([name for name in get_args(Relation) if name])
    other = ""
    if relation in ("left of", "right of"):
        other = things[int(rng.integers(len(things)))].name
    elif relation == "except":
        colors = [thing.color for thing in things if thing.kind == kind] or list(COLORS)
        other = str(rng.choice(colors))
    return Command("goto", "", kind, relation=relation, other=other)
