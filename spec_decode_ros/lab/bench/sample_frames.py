"""Samples for benchmarks: camera frames of simulated missions in rooms that no model was trained on."""

from __future__ import annotations

from collections.abc import Iterator

from spec_decode_ros.actions.action import ACTION_PERIOD_S, Action, format_action
from spec_decode_ros.actions.commands import Command
from spec_decode_ros.lab.bench.comparison import Sample
from spec_decode_ros.lab.episodes.expert import decide, move, visible_objects
from spec_decode_ros.lab.episodes.stage import Stage
from spec_decode_ros.sim.render import to_jpeg
from spec_decode_ros.sim.task import make_task

_EVERY = 4
"""Actions between two samples of a mission."""

_PER_MISSION = 5
"""Samples of one mission, at most."""


def sample_frames(count: int, seed: int = 0) -> list[Sample]:
    """`count` samples of missions that the expert walks; the same seed gives the same ones."""
    stage, room = Stage(), seed
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
    for step in range(_EVERY * _PER_MISSION):
        stage.look(pose)
        action: Action = decide(command, task.scene, pose, visible_objects(stage.hits()), last)
        if step % _EVERY == 0:
            jpeg = to_jpeg(stage.camera.rgb(stage.data))
            yield Sample(jpeg, task.instruction, format_action(last) if last else None, pose)
        if action.note.endswith("reached"):
            return
        pose, last = move(pose, action.vx, action.wz, ACTION_PERIOD_S), action
