"""Referring expressions: which object a description means, by the simulator's truth and by what the camera shows.

"The nearest cone" and "the box left of the blue ball" are meant as the robot sees them now: what is in view counts.
Once the robot has set out for an object, its last action names it, and that is the one it goes on to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from spec_decode_ros.actions.action import Action
from spec_decode_ros.actions.commands import Command
from spec_decode_ros.sim.scene import COLORS, Scene, bearing_and_distance

CLEARLY_NEARER = 1.2
"""How many times as far the second nearest has to be for `nearest` to be beyond doubt."""

CLEARLY_BESIDE = 0.05
"""Radians that an object has to be left of another to be called so."""

Pose = tuple[float, float, float]


@dataclass(frozen=True)
class Referent:
    """What a ``goto`` means now.

    Attributes:
        name: as notes call it: ``red chair``, or ``chair`` while it is only described.
        index: in the scene's objects, -1 while none in view is meant.
        doubtful: several in view fit the description equally well.
    """

    name: str
    index: int
    doubtful: bool = False


def referent(
    command: Command, scene: Scene, pose: Pose, visible: set[int], last: Action | None = None
) -> Referent:
    """The object that a ``goto`` means, seen from base pose (x, y, yaw), after the action ``last``."""
    if not command.relation:
        index = scene.find(command.target)
        return Referent(command.target, index if index in visible else -1)
    if (index := _chosen_before(command, scene, last)) >= 0:
        return Referent(scene.objects[index].name, index if index in visible else -1)
    fitting = _fitting(command, scene, pose, visible)
    if not fitting:
        return Referent(command.object, -1)
    index, doubtful = _best(command, scene, pose, fitting)
    return Referent(scene.objects[index].name, index, doubtful)


def is_clear(command: Command, scene: Scene, pose: Pose, visible: set[int]) -> bool:
    """Whether a description means one object in view beyond doubt, or clearly none."""
    return not referent(command, scene, pose, visible).doubtful


def _chosen_before(command: Command, scene: Scene, last: Action | None) -> int:
    """The object that the last action named, if it could be the one described; -1 otherwise."""
    words = last.note.split() if last else []
    if len(words) < 3 or words[0] not in COLORS or words[1] != command.object or "found" in words:
        return -1
    return (
        -1 if command.relation == "except" and words[0] == command.other else scene.find(" ".join(words[:2]))
    )


def _fitting(command: Command, scene: Scene, pose: Pose, visible: set[int]) -> list[int]:
    """What is in view, of the kind, and on the side or not of the colour."""
    of_kind = [i for i in sorted(visible) if scene.objects[i].kind == command.object]
    if command.relation == "except":
        return [i for i in of_kind if scene.objects[i].color != command.other]
    if command.relation in ("left of", "right of"):
        other = scene.find(command.other)
        if other not in visible:
            return []
        sign = 1.0 if command.relation == "left of" else -1.0
        return [i for i in of_kind if i != other and sign * _beside(scene, pose, i, other) > CLEARLY_BESIDE]
    return of_kind


def _best(command: Command, scene: Scene, pose: Pose, fitting: list[int]) -> tuple[int, bool]:
    """The one that fits best, and whether another fits as well."""
    if command.relation in ("nearest", "farthest"):
        distances = {i: bearing_and_distance(scene.objects[i], pose)[1] + 0.1 for i in fitting}
        farthest_first = command.relation == "farthest"
        order = sorted(fitting, key=distances.__getitem__, reverse=farthest_first)
        if len(order) == 1:
            return order[0], False
        near, far = sorted(distances[i] for i in order[:2])
        return order[0], far < CLEARLY_NEARER * near
    order = sorted(fitting, key=lambda i: abs(bearing_and_distance(scene.objects[i], pose)[0]))
    return order[0], len(order) > 1


def _beside(scene: Scene, pose: Pose, index: int, other: int) -> float:
    """Radians that an object appears left of another."""
    one, two = (bearing_and_distance(scene.objects[i], pose)[0] for i in (index, other))
    return math.remainder(one - two, 2 * math.pi)
