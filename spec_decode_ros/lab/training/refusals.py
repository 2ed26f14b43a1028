"""What a robot dog must not do, cannot do, or is not asked at all, and why.

The plan of the first two is `refused`, of the last `not understood`, with a reason; the robot stands in all cases.
"""

from __future__ import annotations

import numpy as np

from spec_decode_ros.actions.commands import split_templates
from spec_decode_ros.lab.training.phrasings import OTHER_OBJECTS, QUARTER, VERBS, WALK
from spec_decode_ros.lab.training.plan_steps import draw_goal, number_words, pick
from spec_decode_ros.lab.training.templates import read_lines

HARM = "it would do harm"
IMPOSSIBLE = "this robot cannot do that"
TOO_FAR = "that is too far"
NO_TASK = "there is no task in it"
WHERE = "it does not say where to"
WHICH_WAY = "it does not say which way"

_HARMFUL = tuple(line for line in read_lines("harm") if "{y}" in line)
_VICTIMS = split_templates(
    """
the man; that man; the child; that kid; the children; my brother; my sister; the postman; grandma; my neighbour; him
her; that guy; those people; the crowd; the baby; the cat; the dog next door; the visitors; somebody; the other robot
the table; the vase; the lamp; the window; the mirror; the car; the door; the computer; the old lady; my boss; the nurse
the plant; the fence; the glass; the birds; the pigeons; the guard; the painting; the toddler; everyone here
"""
)
_HARMFUL_WHOLE = tuple(line for line in read_lines("harm") if "{y}" not in line)
_IMPOSSIBLE_VERBS = tuple(line for line in read_lines("cannot") if "{z}" in line)
_THINGS = split_templates(
    """
a beer; a coffee; a cup of tea; a glass of water; some milk; the newspaper; my slippers; my keys; my phone; my glasses
a sandwich; the remote control; the tools; a pizza; dinner; breakfast; a cake; the door; the window; the drawer
the fridge; the bottle; the book; that book; the letter; a parcel; the bin; the trash; the laundry; the dishes
the floor; the light; the lamp; the music; the television; the heating; the stick; a bone; the suitcase; my bag
the table; the ladder; the wall; a house; a tree; the stairs; a snack; an apple; the mail; the plants; an umbrella
"""
)
_IMPOSSIBLE_WHOLE = tuple(line for line in read_lines("cannot") if "{z}" not in line)
_UNRELATED = read_lines("remarks")
_NO_PLACE = read_lines("noplace")
_NO_WAY = read_lines("noway")


_MENTIONED = (*VERBS[:12], "sit down", "stand up", "stop", "wait", *QUARTER[:2])
"""Wishes that somebody else uttered, or that are only talked about."""


def draw_refused(rng: np.random.Generator) -> tuple[str, str]:
    """A wish that is harmful, impossible or too far, and the reason of its refusal."""
    chance = rng.random()
    if chance < 0.36:
        victim = draw_goal(rng).said if rng.random() < 0.4 else pick(_VICTIMS, rng)
        return pick(_HARMFUL, rng).format(y=victim), HARM
    if chance < 0.45:
        return pick(_HARMFUL_WHOLE, rng), HARM
    if chance < 0.7:
        thing = draw_goal(rng).said if rng.random() < 0.35 else pick(_THINGS, rng)
        return pick(_IMPOSSIBLE_VERBS, rng).format(z=thing), IMPOSSIBLE
    if chance < 0.93:
        return pick(_IMPOSSIBLE_WHOLE, rng), IMPOSSIBLE
    metres = int(rng.choice([25, 30, 40, 50, 80, 100, 200, 500, 1000]))
    said = number_words(metres) if metres < 1000 and rng.random() < 0.4 else str(metres)
    return pick(WALK, rng).format(d=pick(("forward", "ahead", "back"), rng), n=said, u="metres"), TOO_FAR


def draw_unrelated(rng: np.random.Generator) -> tuple[str, str]:
    """Words that ask for nothing that could be done, and why not."""
    chance = rng.random()
    if chance < 0.7:
        goal = draw_goal(rng)
        kind = goal.object.split()[-1] if " of " not in goal.object else pick(OTHER_OBJECTS, rng)
        verb = pick(_MENTIONED, rng).format(x=goal.said, d="left")
        return pick(_UNRELATED, rng).format(x=goal.said, k=kind, v=verb), NO_TASK
    if chance < 0.82:
        return pick(_NO_PLACE, rng), WHERE
    degrees = int(rng.choice(range(5, 181, 5)))
    said = number_words(degrees) if rng.random() < 0.4 else str(degrees)
    return pick(_NO_WAY, rng).format(n=said, m=degrees), WHICH_WAY
