"""Tasks: a room, an object in it and the instruction to go there. Plain data, made without a simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spec_decode_ros.actions.commands import Command, phrase
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.scene import KINDS, Scene, random_scene

# A random stream of its own, so that no task's scene is one that models were trained on.
_STREAM = 0x5EED_E7A1


@dataclass(frozen=True)
class Task:
    """One task: go to the object ``target`` of ``scene``, asked for by ``instruction``."""

    seed: int
    scene: Scene
    target: str
    instruction: str


def make_task(seed: int, templates: Sequence[str] = ()) -> Task:
    """A random task; the same seed and templates give the same one.

    Args:
        seed: of the room, the target and the phrasing.
        templates: phrasings with ``{color}`` and ``{kind}``; by default those of :mod:`spec_decode_ros.actions.commands`.
    """
    rng = np.random.default_rng([_STREAM, seed])
    scene = random_scene(rng)
    thing = scene.objects[int(rng.integers(len(scene.objects)))]
    if templates:
        template = templates[int(rng.integers(len(templates)))]
        # Not str.format: other braces in a user's line stay as they are.
        instruction = template.replace("{color}", thing.color).replace("{kind}", thing.kind)
    else:
        instruction = phrase(Command("goto", thing.color, thing.kind), rng, strange=False)
    return Task(seed, scene, thing.name, instruction)


def read_templates(text: str) -> tuple[str, ...]:
    """The phrasings of a file, one a line; empty lines and lines that begin with ``#`` are skipped.

    Raises:
        SpecDecodeError: there is no phrasing, or one does not name the object.
    """
    lines = [line.strip() for line in text.splitlines()]
    templates = tuple(line for line in lines if line and not line.startswith("#"))
    if not templates:
        raise SpecDecodeError(
            "no phrasing in the instructions file: write one a line, such as 'go to the {color} {kind}'"
        )
    for line in templates:
        if "{kind}" not in line and not any(kind in line for kind in KINDS):
            raise SpecDecodeError(
                f"the phrasing {line!r} names no object: put {{color}} and {{kind}} into it"
            )
    return templates
