"""Compound missions: a person's sentence of several steps about the objects of a room, and the plan that it means.

Only what can be done is asked for: on the straight ways of the plan nothing stands.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS
from spec_decode_ros.actions.plan import Plan, Step, parse_plan
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.episodes.expert import Pose, collides, move
from spec_decode_ros.sim.scene import HEAD, RADIUS, Scene, SceneObject
from spec_decode_ros.sim.task import make_task

# A random stream of its own, so that a room's mission does not depend on what else is drawn for it.
_STREAM = 0x0C0_4D15
_STOPS_AT_M = 0.45
_MARGIN_M = 0.2
_AHEAD_M = 0.6
_STEP_M = 0.05


@dataclass(frozen=True)
class MissionTemplate:
    """A sentence and the text of its plan, both with ``{first}`` and perhaps ``{second}`` for objects."""

    sentence: str
    plan: str

    @property
    def objects(self) -> int:
        """How many objects it names."""
        return sum(slot in self.plan for slot in ("{first}", "{second}"))


@dataclass(frozen=True)
class MissionTask:
    """One mission: what is said in ``scene``, and the plan that it means."""

    seed: int
    scene: Scene
    sentence: str
    plan: Plan


def shipped_missions() -> tuple[MissionTemplate, ...]:
    """The package's own sentences."""
    return read_missions((files("spec_decode_ros") / "config" / "missions.txt").read_text(encoding="utf-8"))


def read_missions(text: str) -> tuple[MissionTemplate, ...]:
    """The missions of a file, one a line; empty lines and lines that begin with ``#`` are skipped.

    Raises:
        SpecDecodeError: a line is not a sentence and its plan.
    """
    lines = (line.strip() for line in text.splitlines())
    return tuple(_template(line) for line in lines if line and not line.startswith("#"))


def _template(line: str) -> MissionTemplate:
    sentence, arrow, plan = line.partition(" => ")
    slots = [{slot for slot in ("{first}", "{second}") if slot in part} for part in (sentence, plan)]
    if not arrow or slots[0] != slots[1]:
        raise SpecDecodeError(
            f"{line[:80]!r} is not a mission: write 'SENTENCE => PLAN', with the same {{first}} and {{second}} in both"
        )
    template = MissionTemplate(sentence, plan)
    _fill(template, ["red chair", "blue ball"])
    return template


def make_mission(seed: int, templates: Sequence[MissionTemplate]) -> MissionTask:
    """A random mission in the room of :func:`~spec_decode_ros.sim.task.make_task`; the same arguments give the same one.

    Raises:
        SpecDecodeError: none of the missions can be carried out in this room.
    """
    rng = np.random.default_rng([_STREAM, seed])
    scene = make_task(seed).scene
    for index in rng.permutation(len(templates)):
        template = templates[int(index)]
        choices = list(itertools.permutations(scene.objects, template.objects))
        for place in rng.permutation(len(choices)):
            things = choices[int(place)]
            plan = _fill(template, [thing.name for thing in things])
            if can_be_done(plan, scene):
                return MissionTask(seed, scene, _say(template, things, rng), plan)
    raise SpecDecodeError(f"none of {len(templates)} missions can be carried out in room {seed}")


def _fill(template: MissionTemplate, names: Sequence[str]) -> Plan:
    return parse_plan(_with_names(template.plan, names))


def _say(template: MissionTemplate, things: Sequence[SceneObject], rng: np.random.Generator) -> str:
    words = [f"{rng.choice(COLOR_WORDS[o.color])} {rng.choice(OBJECT_WORDS[o.kind])}" for o in things]
    return _with_names(template.sentence, words)


def _with_names(text: str, names: Sequence[str]) -> str:
    for slot, name in zip(("{first}", "{second}"), names, strict=False):
        text = text.replace(slot, name)
    return text


def can_be_done(plan: Plan, scene: Scene) -> bool:
    """Whether a robot that does each step exactly, on straight ways, keeps clear of everything."""
    pose: Pose = scene.start
    for step in plan.steps:
        *_, end = way = [pose, *_way(step, scene, pose)]
        if any(collides(scene, place, _MARGIN_M) for place in way):
            return False
        # The acting pair takes what is near ahead for the end of its way.
        beyond = move(end, 1.0, 0.0, _AHEAD_M)
        if step.kind == "walk" and step.amount > 0 and collides(scene, beyond, _MARGIN_M):
            return False
        pose = end
    return True


def _way(step: Step, scene: Scene, pose: Pose) -> Iterator[Pose]:
    """The poses of a step, from behind its beginning to its end."""
    x, y, yaw = pose
    length = 0.0
    if step.kind == "turn":
        yield x, y, math.remainder(yaw + math.radians(step.amount), math.tau)
    elif step.kind == "walk":
        length = step.amount
    elif step.kind == "go":
        thing = scene.objects[scene.find(step.object)]
        yaw = math.atan2(thing.y - y, thing.x - x)
        length = math.hypot(thing.x - x, thing.y - y) - RADIUS[thing.kind] - HEAD[0] - _STOPS_AT_M
    for done in np.linspace(0.0, length, 1 + math.ceil(abs(length) / _STEP_M))[1:]:
        yield move((x, y, yaw), float(done), 0.0, 1.0)
