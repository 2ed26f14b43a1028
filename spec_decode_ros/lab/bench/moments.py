"""Moments of missions in rooms that no model was trained on: what the camera sees, what was asked, what was said last."""

from __future__ import annotations

from collections.abc import Iterator

from spec_decode_ros.actions.action import ACTION_PERIOD_S, Action, format_action
from spec_decode_ros.actions.commands import Command
from spec_decode_ros.lab.bench.comparison import Sample
from spec_decode_ros.lab.episodes.expert import decide, move, visible_objects
from spec_decode_ros.lab.episodes.stage import Stage
from spec_decode_ros.sim.render import to_jpeg
from spec_decode_ros.sim.task import make_task

EVERY = 4
"""So many actions lie between one moment of a mission and the next."""

A_MISSION = 5
"""Moments of one mission, at most."""


def moments(count: int, seed: int = 0, backend: str = "auto") -> list[Sample]:
    """`count` moments, the expert walking; the same seed gives the same."""
    stage, room = Stage(backend), seed
    found: list[Sample] = []
    while len(found) < count:
        found += list(_mission(stage, room))[: count - len(found)]
        room += 1
    return found


def _mission(stage: Stage, seed: int) -> Iterator[Sample]:
    task = make_task(seed)
    color, _, kind = task.target.partition(" ")
    command = Command("goto", color, kind)
    stage.lay_out(task.scene)
    pose, last = task.scene.start, None
    for step in range(EVERY * A_MISSION):
        stage.look(pose)
        action: Action = decide(command, task.scene, pose, visible_objects(stage.hits()), last)
        if step % EVERY == 0:
            jpeg = to_jpeg(stage.camera.rgb(stage.data))
            yield Sample(jpeg, task.instruction, format_action(last) if last else None, pose)
        if action.note.endswith("reached"):
            return
        pose, last = move(pose, action.vx, action.wz, ACTION_PERIOD_S), action
