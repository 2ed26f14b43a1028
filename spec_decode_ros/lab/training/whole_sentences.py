"""Sentences that were written whole, with their plans: what joining single steps does not make.

A line of `sentences/whole.txt` or `sentences/no_motion.txt` is a sentence, ``=>`` and its plan. Slots, numbered so that
sentence and plan agree, are drawn: ``{x1}`` an object with its article, ``{o1}`` the same without, ``{d1}`` a side,
``{n1}`` degrees, ``{w1}`` a distance with its unit.
"""

from __future__ import annotations

import re

import numpy as np

from spec_decode_ros.actions.plan import Plan, parse_plan
from spec_decode_ros.lab.training.plan_steps import draw_distance, draw_goal, draw_number, pick
from spec_decode_ros.lab.training.templates import read_lines

SEVERAL, NO_MOTION = read_lines("whole"), read_lines("no_motion")

_SLOT = re.compile(r"\{([xodnw])([1-9])\}")
_ARTICLE = re.compile(r"^(?:the|that|a|an) ")
_DEGREES = (*range(10, 180, 10), 45, 75, 135, 15, 25)


def draw_whole(lines: tuple[str, ...], rng: np.random.Generator) -> tuple[str, Plan]:
    """A sentence from these lines, and its plan."""
    sentence, _, plan = pick(lines, rng).partition(" => ")
    said: dict[str, str] = {}
    meant: dict[str, str] = {}
    for kind, number in dict.fromkeys(_SLOT.findall(sentence)):
        _draw_slot("x" if kind == "o" else kind, number, said, meant, rng)
    return _filled(sentence, said), parse_plan(_filled(plan, meant))


def _draw_slot(
    kind: str, number: str, said: dict[str, str], meant: dict[str, str], rng: np.random.Generator
) -> None:
    name = kind + number
    if name in said:
        return
    match kind:
        case "x":
            goal = draw_goal(rng)
            said[name], meant[name] = goal.said, f"the {goal.object}"
            said[f"o{number}"] = _ARTICLE.sub("", goal.said)
        case "d":
            said[name] = meant[name] = pick(("left", "right"), rng)
        case "n":
            degrees = int(rng.choice(_DEGREES))
            said[name], meant[name] = draw_number(degrees, rng), str(degrees)
        case _:
            metres, said[name] = draw_distance(rng)
            meant[name] = f"{metres:g}"


def _filled(template: str, values: dict[str, str]) -> str:
    return _SLOT.sub(lambda slot: values[slot[1] + slot[2]], template)
