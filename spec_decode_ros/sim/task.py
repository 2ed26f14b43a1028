"""What an episode asks for, in which room. Data only: no simulator is needed to make a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spec_decode_ros.actions.commands import Command, phrase
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.sim.scene import KINDS, Scene, random_scene

# Episodes draw from their own random stream, so that no episode's scene is one that models were trained on.
_STREAM = 0x5EED_E7A1


@dataclass(frozen=True)
class Task:
    """What one episode asks for, in which room."""

    seed: int
    scene: Scene
    target: str
    instruction: str


def make_task(seed: int, templates: Sequence[str] = (), **scene_options: Any) -> Task:
    """The task of an episode: the same seed and templates give the same one.

    Args:
        seed: of the room, the target and the phrasing.
        templates: phrasings with ``{color}`` and ``{kind}``; the project's own variety where there are none.
        scene_options: passed on to :func:`~spec_decode_ros.sim.scene.random_scene`.
    """
    rng = np.random.default_rng([_STREAM, seed])
    scene = random_scene(rng, **scene_options)
    thing = scene.objects[int(rng.integers(len(scene.objects)))]
    if templates:
        template = templates[int(rng.integers(len(templates)))]
        # Not str.format: whatever else a user's line holds stays as it is.
        instruction = template.replace("{color}", thing.color).replace("{kind}", thing.kind)
    else:
        instruction = phrase(Command("goto", thing.color, thing.kind), rng)
    return Task(seed, scene, thing.name, instruction)


def read_templates(text: str) -> tuple[str, ...]:
    """Phrasings of a file, one a line; empty lines and lines that begin with ``#`` are left out.

    Raises:
        SpecDecodeError: no phrasing at all, or one that doesn't name the object.
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
