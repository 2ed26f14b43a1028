"""The expert policy: decides actions from the true positions of all objects, as labels for training.

It acts only on objects that the camera sees now and on its own last action, so that a model with the same frame and
the same last action can learn to imitate it.
"""

from __future__ import annotations

import math
import re

import numpy as np

from spec_decode_ros.actions.action import Action
from spec_decode_ros.actions.commands import TURN_STEP_DEG, Command, number_text
from spec_decode_ros.sim.scene import RADIUS, Scene, bearing_and_distance, head_position

Pose = tuple[float, float, float]
"""Base position x, y in metres and yaw in radians."""

TURN_RATE = 0.8
WALK_SPEED = 0.6
BACK_SPEED = -0.3
FORWARD_STEP_M = 0.2
BACK_STEP_M = 0.1
"""Metres that one action of a third of a second covers."""

REACHED_M = 0.5
REACHED_BEARING = 0.25
DISTANCES = (0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
"""The distances that notes name, metres."""

SIDE_CLEARANCE = 0.38
"""Metres to keep free between the robot's centre and an obstacle's footprint."""

MOST_DETOUR = 0.7
"""Radians between the way past an obstacle and the goal, at most: the goal must stay in the picture."""

VISIBLE_RAYS = 8
"""Rays of the coarse cast that have to hit an object for it to count as visible."""

_COUNTED = re.compile(r"(searching|turning|walking) (-?[0-9.]+)")


def decide(command: Command, scene: Scene, pose: Pose, visible: set[int], last: Action | None) -> Action:
    """The expert's next action.

    Args:
        command: the meaning of the instruction; a ``goto`` has to name its object.
        scene: the room.
        pose: of the robot's base.
        visible: indices of the objects that the camera sees now.
        last: the previous action for the same command, None at the beginning.
    """
    match command.kind:
        case "goto":
            return _goto(command, scene, pose, visible, last)
        case "turn":
            return _turn(command, last)
        case "walk":
            return _walk(command, scene, pose, last)
        case "stop":
            return Action(0.0, 0.0, "stopped")
        case "stand":
            return Action(0.0, 0.0, "stand up")
        case "sit":
            return Action(0.0, 0.0, "sit down")
    return Action(0.0, 0.0, "not understood")


def _counted(last: Action | None, word: str) -> float | None:
    """The number in the last action's note, if the note begins with ``word``."""
    match = _COUNTED.fullmatch(last.note) if last else None
    return float(match[2]) if match and match[1] == word else None


def _turn(command: Command, last: Action | None) -> Action:
    if last and last.note == "done":
        return Action(0.0, 0.0, "done")
    left = _counted(last, "turning")
    if left is None:
        left = max(TURN_STEP_DEG, TURN_STEP_DEG * round(abs(command.amount) / TURN_STEP_DEG))
    else:
        left -= TURN_STEP_DEG
    if left <= 0:
        return Action(0.0, 0.0, "done")
    return Action(0.0, math.copysign(TURN_RATE, command.amount), f"turning {int(left)}")


def _walk(command: Command, scene: Scene, pose: Pose, last: Action | None) -> Action:
    if last and last.note in ("done", "blocked"):
        return Action(0.0, 0.0, last.note)
    speed, step = (WALK_SPEED, FORWARD_STEP_M) if command.amount > 0 else (BACK_SPEED, BACK_STEP_M)
    counted = _counted(last, "walking")
    left = abs(command.amount) if counted is None else counted - step
    if left < step / 2 + 1e-6:
        return Action(0.0, 0.0, "done")
    if speed > 0 and _blocked_ahead(scene, pose):
        return Action(0.0, 0.0, "blocked")
    return Action(speed, 0.0, f"walking {left:.1f}")


def _blocked_ahead(scene: Scene, pose: Pose) -> bool:
    x, y = head_position(pose)
    ahead_x, ahead_y = x + 0.5 * math.cos(pose[2]), y + 0.5 * math.sin(pose[2])
    if abs(ahead_x) > scene.half_x or abs(ahead_y) > scene.half_y:
        return True
    for thing in scene.objects:
        bearing, distance = bearing_and_distance(thing, pose)
        if distance < 0.5 and abs(bearing) < 0.6:
            return True
    return False


def _goto(command: Command, scene: Scene, pose: Pose, visible: set[int], last: Action | None) -> Action:
    name, index = command.target, scene.find(command.target)
    if index not in visible:
        return _search(name, last)
    bearing, distance = bearing_and_distance(scene.objects[index], pose)
    was_reached = last is not None and last.note == f"{name} reached"
    slack = 1.5 if was_reached else 1.0
    if distance < REACHED_M * (1.2 if was_reached else 1.0) and abs(bearing) < REACHED_BEARING * slack:
        return Action(0.0, 0.0, f"{name} reached")
    heading, crowded = _around_obstacles(scene, pose, index, visible, last)
    vx, wz = _steer(heading, distance, crowded)
    side = "ahead" if abs(bearing) < 0.2 else "left" if bearing > 0 else "right"
    near = min(DISTANCES, key=lambda d: abs(math.log(d / max(distance, 0.1))))
    return Action(vx, wz, f"{name} {side} {number_text(near) if near != int(near) else f'{near:.1f}'}")


def _search(name: str, last: Action | None) -> Action:
    if last and last.note == f"{name} not found":
        return last
    counted = _counted(last, "searching")
    turned = 0 if counted is None else int(counted) + TURN_STEP_DEG
    if turned > 360:
        return Action(0.0, 0.0, f"{name} not found")
    return Action(0.0, math.copysign(TURN_RATE, _last_side(last)), f"searching {turned}")


def _last_side(last: Action | None) -> float:
    """1 for left, -1 for right: where the object was last seen, else the direction of the last turn."""
    if last is None:
        return 1.0
    words = last.note.split()
    if "left" in words or "right" in words:
        return 1.0 if "left" in words else -1.0
    return -1.0 if last.wz < 0 else 1.0


def _steer(heading: float, distance: float, crowded: bool) -> tuple[float, float]:
    """Velocities (m/s, rad/s) toward a heading (radians, left positive), in steps of 0.2."""
    wz = max(-4, min(4, round(1.6 * heading / 0.2))) * 0.2
    if distance < REACHED_M or abs(heading) > 0.7:
        # Turn in place, by at least the smallest step: else a heading just outside the tolerance would stay there.
        return 0.0, round(wz if wz else math.copysign(0.2, heading), 1)
    speed = 0.6 if distance > 1.3 else 0.4 if distance > 0.85 else 0.2
    if abs(heading) > 0.35 or crowded:
        speed = min(speed, 0.4 if abs(heading) <= 0.35 else 0.2)
    return speed, round(wz, 1) + 0.0


def _around_obstacles(
    scene: Scene, pose: Pose, target: int, visible: set[int], last: Action | None
) -> tuple[float, bool]:
    """The heading toward the target or past the first obstacle in the way, and whether an obstacle is near."""
    x, y, yaw = pose
    goal = scene.objects[target]
    bearing, distance = bearing_and_distance(goal, pose)
    goal_angle = math.remainder(math.atan2(goal.y - y, goal.x - x) - yaw, 2 * math.pi)
    nearest, heading = math.inf, bearing
    for i in visible - {target}:
        thing = scene.objects[i]
        away = math.hypot(thing.x - x, thing.y - y)
        clearance = RADIUS[thing.kind] + SIDE_CLEARANCE
        angle = math.remainder(math.atan2(thing.y - y, thing.x - x) - yaw, 2 * math.pi)
        off_path = math.remainder(goal_angle - angle, 2 * math.pi)
        in_the_way = (
            away < distance + RADIUS[goal.kind]
            and abs(off_path) < math.pi / 2
            and away * abs(math.sin(off_path)) < clearance
        )
        if not in_the_way or away > 2.2 or away >= nearest:
            continue
        nearest = away
        around = math.asin(min(1.0, (clearance + 0.04) / away))
        turning = -1.0 if last is not None and last.wz < 0 else 1.0
        side = math.copysign(1.0, off_path) if abs(off_path) > 0.08 else turning
        if _outside(scene, thing.x, thing.y, yaw + angle + side * math.pi / 2, clearance):
            side = -side
        heading = math.remainder(angle + side * around, 2 * math.pi)
    # The goal must not leave the picture.
    detour = math.remainder(heading - bearing, 2 * math.pi)
    return bearing + max(-MOST_DETOUR, min(MOST_DETOUR, detour)), nearest < 1.2


def _outside(scene: Scene, x: float, y: float, direction: float, reach: float) -> bool:
    """Whether the way past an obstacle in this direction leads too close to a wall."""
    beside_x, beside_y = x + reach * math.cos(direction), y + reach * math.sin(direction)
    return abs(beside_x) > scene.half_x - 0.3 or abs(beside_y) > scene.half_y - 0.3


def move(pose: Pose, vx: float, wz: float, seconds: float) -> Pose:
    """The pose after some seconds of a robot that tracks its command perfectly."""
    x, y, yaw = pose
    middle = yaw + wz * seconds / 2
    return (
        x + vx * math.cos(middle) * seconds,
        y + vx * math.sin(middle) * seconds,
        math.remainder(yaw + wz * seconds, 2 * math.pi),
    )


def collides(scene: Scene, pose: Pose, margin: float = 0.0) -> bool:
    """Whether the robot, as two circles over its pairs of legs, touches an object or a wall."""
    x, y, yaw = pose
    for along in (0.2, -0.2):
        cx, cy = x + along * math.cos(yaw), y + along * math.sin(yaw)
        reach = 0.2 + margin
        if abs(cx) > scene.half_x - reach or abs(cy) > scene.half_y - reach:
            return True
        if any(math.hypot(cx - o.x, cy - o.y) < RADIUS[o.kind] * 0.9 + reach for o in scene.objects):
            return True
    return False


def visible_objects(hits: np.ndarray) -> set[int]:
    """Objects hit by at least :data:`VISIBLE_RAYS` rays of a coarse cast; ``hits`` are object indices, -1 elsewhere."""
    indices, counts = np.unique(hits[hits >= 0], return_counts=True)
    return {int(i) for i, n in zip(indices, counts, strict=True) if n >= VISIBLE_RAYS}
