"""Judges when a mission is over and whether it succeeded, from the robot's true pose and the model's own words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spec_decode_ros.actions.action import REFUSED
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.body import BodyState
from spec_decode_ros.lab.demo.step_judge import FACING_DEG, REACH_M, JudgedStep, judge_place
from spec_decode_ros.sim.scene import Scene, bearing_and_distance

REACHED = "reached"
_GIVING_UP = ("not found", "not understood", REFUSED, "done", "stopped")


@dataclass(frozen=True)
class MissionGoal:
    """An object of the room, such as ``red chair``, to stand in front of.

    The robot has to stand still for `still_s` seconds, by the model's word and in fact, with its head camera within
    `reach_m` of the object's surface and its heading within `facing_deg` of it.
    """

    scene: Scene
    target: str
    instruction: str
    reach_m: float = REACH_M
    facing_deg: float = FACING_DEG
    still_s: float = 1.0
    time_out_s: float = 75.0

    def __post_init__(self) -> None:
        if self.scene.find(self.target) < 0:
            there = ", ".join(thing.name for thing in self.scene.objects)
            raise SpecDecodeError(f"there is no {self.target} in this room; there are: {there}")
        if not self.time_out_s > 0:
            raise SpecDecodeError(f"the time-out is {self.time_out_s} s, but must be above 0")

    def watch(self) -> GoalWatch:
        """A watch on this goal."""
        return GoalWatch(self)


@dataclass(frozen=True)
class MissionResult:
    """How a mission ended.

    Attributes:
        success: whether all that was wanted was done.
        reason: why, in a few words.
        distance_m, facing_deg: to the target; None for a mission of several steps.
        steps: of a plan; none without a planner.
    """

    success: bool
    reason: str
    distance_m: float | None = None
    facing_deg: float | None = None
    steps: tuple[JudgedStep, ...] = ()


class GoalWatch:
    """Gets the events of a mission and returns its result once it is over.

    Times are in seconds of one clock; the mission begins with the first one.
    """

    def __init__(self, goal: MissionGoal) -> None:
        self._goal = goal
        self._began: float | None = None
        self._still_since: float | None = None
        self._note = ""

    def said(self, text: str) -> None:
        """The text of a verified action."""
        note = text.partition("|")[2].strip()
        if _ending(note) != _ending(self._note):
            self._still_since = None
        self._note = note

    def moved(self, body: BodyState) -> MissionResult | None:
        """The robot's true state; the result if this is the end."""
        now = body.t
        self._began = now if self._began is None else self._began
        still = body.still and _ending(self._note) is not None
        if not still:
            self._still_since = None
        elif self._still_since is None:
            self._still_since = now
        if self._still_since is not None and now - self._still_since >= self._goal.still_s:
            return self._judge(body.pose)
        if now - self._began >= self._goal.time_out_s:
            return self._outcome(body.pose, False, f"not there after {self._goal.time_out_s:.0f} s")
        return None

    def _judge(self, pose: tuple[float, float, float]) -> MissionResult:
        goal = self._goal
        if _ending(self._note) != REACHED:
            return self._outcome(pose, False, f"the model gave up: {self._note}")
        return self._outcome(pose, *judge_place(goal.scene, goal.target, pose, goal.reach_m, goal.facing_deg))

    def _outcome(self, pose: tuple[float, float, float], success: bool, reason: str) -> MissionResult:
        thing = self._goal.scene.objects[self._goal.scene.find(self._goal.target)]
        angle, distance = bearing_and_distance(thing, pose)
        return MissionResult(success, reason, distance, abs(math.degrees(angle)))


def _ending(note: str) -> str | None:
    """The part of a note that ends a mission, if there is one."""
    return next((ending for ending in (REACHED, *_GIVING_UP) if note.endswith(ending)), None)
