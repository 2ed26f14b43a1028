"""Judges one step of a plan by what the robot's body really did from its beginning to its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from spec_decode_ros.actions.plan import Step
from spec_decode_ros.lab.demo.body import BodyState
from spec_decode_ros.robots.go2_state import STANDS_M
from spec_decode_ros.sim.scene import Scene, bearing_and_distance

REACH_M = 0.6
"""Metres from the head camera to the surface of an object that is reached, at most."""

FACING_DEG = 25.0
"""Degrees between the heading and an object that is reached, at most."""

TURN_WITHIN_DEG = 20.0
WALK_WITHIN = 0.3
"""How far a turn may be off, in degrees, and a walk, as a part of its length."""


@dataclass(frozen=True)
class JudgedStep:
    """A step's text, its state by the planner, and by the robot's body whether it succeeded and how it ended.

    `began` and `ended` are seconds of time.monotonic().
    """

    step: str
    state: str
    success: bool
    reason: str
    began: float = 0.0
    ended: float = 0.0

    def as_row(self) -> dict[str, object]:
        """For JSON."""
        return {
            "step": self.step,
            "state": self.state,
            "success": self.success,
            "reason": self.reason,
            "seconds": round(self.ended - self.began, 2),
        }


def judge_step(step: Step, scene: Scene, track: Sequence[BodyState]) -> tuple[bool, str]:
    """Whether a step succeeded, and how it ended in a few words.

    Args:
        step: what was to be done.
        scene: the room.
        track: the states of the body from the beginning of the step to its end, one at least.
    """
    begin, end = track[0], track[-1]
    stands = end.height >= STANDS_M
    if step.kind == "sit down":
        return not stands, "stands" if stands else "lies"
    if not stands:
        return False, "lies"
    if step.kind == "go":
        return judge_place(scene, step.object, end.pose)
    if step.kind == "turn":
        turned = math.degrees(sum(math.remainder(b.yaw - a.yaw, math.tau) for a, b in pairwise(track)))
        return abs(turned - step.amount) <= TURN_WITHIN_DEG, f"turned {turned:.0f} degrees"
    if step.kind == "walk":
        walked = (end.x - begin.x) * math.cos(begin.yaw) + (end.y - begin.y) * math.sin(begin.yaw)
        return abs(walked - step.amount) <= WALK_WITHIN * abs(step.amount), f"walked {walked:.2f} m"
    return True, "stands"


def judge_place(
    scene: Scene,
    target: str,
    pose: tuple[float, float, float],
    reach_m: float = REACH_M,
    facing_deg: float = FACING_DEG,
) -> tuple[bool, str]:
    """Whether a robot that stands at a pose has reached an object, and where it stands."""
    index = scene.find(target)
    if index < 0:
        return False, f"there is no {target}"
    angle, distance = bearing_and_distance(scene.objects[index], pose)
    if distance > reach_m:
        nearest = min(scene.objects, key=lambda thing: bearing_and_distance(thing, pose)[1]).name
        return False, f"stopped at the {nearest}" if nearest != target else f"stopped {distance:.1f} m away"
    if abs(math.degrees(angle)) > facing_deg:
        return False, f"stopped facing {abs(math.degrees(angle)):.0f} degrees past it"
    return True, f"reached the {target}"
