"""Commands in free English: many ways to ask, objects by description, numbers in words.

:mod:`spec_decode_ros.actions.commands` has the restricted language of the shipped pair `tiny`; these phrasings are for
training a real language model. The held-out wordings (`config/instructions/held_out.txt`) share no template with them.
"""

from __future__ import annotations

import numpy as np

from spec_decode_ros.actions.commands import (
    COLOR_WORDS,
    OBJECT_WORDS,
    Command,
    number_text,
    phrase,
    split_templates,
)
from spec_decode_ros.lab.training.refusals import REFUSED, UNRELATED

FROM_THE_SMALL_LANGUAGE = 0.35
"""Share of the sentences that the tiny pair's language says too."""

MORE_WORDS = {
    "chair": ("seat", "stool", "armchair"),
    "box": ("cube", "crate", "block", "carton"),
    "ball": ("sphere", "orb"),
    "cone": ("pylon", "traffic cone"),
    "cylinder": ("barrel", "drum", "can", "column"),
    "red": ("crimson", "scarlet"),
    "green": ("emerald",),
    "blue": ("navy",),
    "yellow": ("golden",),
    "purple": ("violet", "lilac"),
    "white": ("snow-white",),
}
"""Synonyms, beside those of the small language."""

GOTO = split_templates(
    """
go to {x}; walk to {x}; head to {x}; head over to {x}; could you head over to {x}; can you walk over to {x}
would you go over to {x}; would you mind going to {x}; i want you at {x}; i'd like you to go to {x}
i would like you to walk to {x}; make your way to {x}; make your way over to {x}; get yourself over to {x}
move on over to {x}; take yourself to {x}; please find {x} and go there; find {x}; find {x} for me
go and find {x}; look around for {x}; have a look for {x}; see if you can find {x}; see if you can get to {x}
i need you to find {x}; i need you to go to {x}; your next stop is {x}; next stop, {x}; next up is {x}; off to {x}
off you go to {x}; let's go to {x}; let's head to {x}; let's have you at {x}; stand next to {x}; stand beside {x}
stand in front of {x}; come to a stop in front of {x}; stop by {x}; wait next to {x}; wait for me at {x}
meet me by {x}; position yourself at {x}; place yourself near {x}; get close to {x}
come up to {x}; come close to {x}; approach {x}; approach {x} and stop; walk up to {x}
walk towards {x} until you reach it; keep walking until you get to {x}; steer for {x}; aim for {x}
set off for {x}; set course for {x}; travel to {x}; proceed to {x}; navigate to {x}; drive over to {x}
trot over to {x}; run over to {x}; hurry to {x}; take me to {x}; guide me to {x}; lead the way to {x}
bring me to {x}; show me where {x} is; show me {x}; where is {x}; do you see {x}; can you see {x}, then go there
i am looking for {x}; i am waiting at {x}; i lost {x}, find it; i want to see {x}; the goal is {x}
your goal is {x}; target: {x}; destination: {x}; {x}; {x}, please; {x}, go; to {x}; over to {x}; go visit {x}
pay a visit to {x}; you should be at {x}; you have to get to {x}; you need to be near {x}; try to get to {x}
would you please find {x}; could you find {x}; could you possibly find {x}; could you walk to {x}
will you walk to {x}; are you able to reach {x}; turn to {x} and walk there; search for {x} and stop there
spot {x} and walk up to it; return to {x}; go back to {x}
"""
)

PLAIN = split_templates(
    """
the {c} {k}; the {c} {k}; the {c} {k}; the {c} {k}; that {c} {k}; a {c} {k}; the {k} that is {c}
the {k} which is {c}; the {k} in {c}; the {c} coloured {k}; the {c} colored {k}; the {k} painted {c}; this {c} {k}
"""
)
SIDE = split_templates(
    """
the {k} {s} of the {o}; the {k} to the {s} of the {o}; the {k} on the {s} of the {o}
the {k} on the {s} side of the {o}; the {k} that is {s} of the {o}; the {k} just {s} of the {o}
the {k} that stands {s} of the {o}; the {k} directly {s} of the {o}; the {k} a bit {s} of the {o}
"""
)
NEAREST = split_templates(
    """
the nearest {k}; the closest {k}; the {k} nearest to you; the {k} closest to you; the nearest {k} you see
whichever {k} is nearest; the {k} that is closest
"""
)
FARTHEST = split_templates(
    """
the farthest {k}; the furthest {k}; the most distant {k}; the {k} farthest from you; the {k} that is furthest away
whichever {k} is farthest
"""
)
EXCEPT = split_templates(
    """
not the {c} one, the other {k}; not the {c} {k}, the other one; the other {k}, not the {c} one
the {k} that is not {c}; the {k} that isn't {c}; any {k} but the {c} one; the {k}, but not the {c} one
"""
)
ONLY = split_templates(
    "the {k}; the {k}; that {k}; the only {k}; the {k} here; the {k} in this room; the one {k} there is"
)

TURN = split_templates(
    """
turn {d} {n} degrees; turn {n} degrees {d}; turn {n} degrees to the {d}; turn {d} by {n} degrees; turn {d} by {n}
could you turn {n} degrees to the {d}; would you turn {d} {n} degrees; please rotate {n} degrees {d}
rotate {d} by {n} degrees; rotate yourself {n} degrees to the {d}; spin {n} degrees to the {d}
swing round {n} degrees to the {d}; {n} degrees {d}; {n} degrees to the {d}; i want a {d} turn of {n} degrees
make a turn of {n} degrees to the {d}; do a {n} degree turn {d}; change your heading by {n} degrees to the {d}
face {n} degrees further {d}
"""
)
QUARTER = split_templates(
    """
turn {d}; turn to the {d}; turn {d} please; could you turn {d}; face {d}; face to the {d}; a quarter turn {d}
make a quarter turn to the {d}; rotate to your {d}; look to your {d}; would you look {d}; turn to your {d}; go {d}
"""
)
AROUND = split_templates(
    """
turn around; could you turn around; turn right round and face the other way; about turn; do a half turn
make an about face; face the opposite way; look behind you; spin around half way; turn your back to me
"""
)
WALK = split_templates(
    """
walk {d} {n} {u}; walk {n} {u} {d}; go {n} {u} {d}; go {d} {n} {u}; move {d} by {n} {u}; {n} {u} {d}
could you walk {n} {u} {d}; could you move {n} {u} {d}; would you go {d} for {n} {u}; please go {d} for {n} {u}
take {n} {u} {d}; advance {n} {u} {d}; i want you to move {d} {n} {u}; i want you {n} {u} {d}; step {n} {u} {d}
keep going {d} for {n} {u}; travel {n} {u} {d}; cover {n} {u} {d}; proceed {d} for {n} {u}; shift {d} by {n} {u}
"""
)
STEP = split_templates(
    """
walk {d}; go {d}; move {d}; move {d} a little; go a bit {d}; a little {d}; could you move a bit {d}
just a step {d}; take a step {d}; one step {d} please; step {d}
"""
)
STOP = split_templates(
    """
stop; stop right there; stop please; please stop; could you stop; stop it; stop moving please; halt
hold it right there; hold on; stay put; stay where you are; don't move; do not move a muscle; wait there
wait a moment; freeze; stand still; that's enough; enough; that will do; cancel that; abort; no more walking
stop what you are doing; forget it; don't go anywhere; never mind, stay here; keep still; rest where you are
do not go to the {o}; don't walk to the {o}; stay away from the {o}; forget about the {o}
i don't want you at the {o}; leave the {o} alone
"""
)
STAND = split_templates(
    """
stand up; get up; get up please; could you get up; up on your feet; rise please; stand on your legs; up you get
please stand; would you stand up; get back up; raise yourself up; time to get up; stand up straight
"""
)
SIT = split_templates(
    """
sit down; sit; please sit; could you sit down; have a seat; take a seat on the floor; lie down; lie down please
get down on the floor; down you go; would you sit; lower your body; rest on the ground; settle down; crouch down
"""
)

OPENERS = (
    *("please", "hey", "hi", "hello", "ok", "okay", "so", "well", "now", "robot", "hey robot"),
    *(
        "hi there",
        "hello robot",
        "good dog",
        "buddy",
        "hey buddy",
        "excuse me",
        "listen",
        "alright",
        "and now",
    ),
    *("next", "sorry", "ok robot", "dear robot", "um", "uh", "if you can", "when you are ready", "quick"),
)
CLOSERS = (
    *("please", "now", "thanks", "thank you", "would you", "will you", "ok", "okay", "buddy", "my friend"),
    *("for me", "if you can", "quickly", "slowly", "carefully", "as soon as you can", "robot"),
    *("and stop there", "when you are ready", "and be careful", "no rush"),
)
FORWARD = ("forward", "forwards", "ahead", "straight ahead", "straight on", "to the front")
BACKWARD = ("back", "backward", "backwards", "to the rear")

_ONES = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *(f"{stem}teen" for stem in ("thir", "four", "fif", "six", "seven", "eigh", "nine")),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def number_words(value: float) -> str:
    """A number from 0 to 999, whole or a half, as it is spoken: ``ninety``, ``one and a half``, ``half a``."""
    whole, half = int(value), value - int(value)
    if half:
        return f"{number_words(whole)} and a half" if whole else "half a"
    if whole < 20:
        return _ONES[whole]
    if whole < 100:
        return _TENS[whole // 10] + (f" {_ONES[whole % 10]}" if whole % 10 else "")
    rest = f" and {number_words(whole % 100)}" if whole % 100 else ""
    return f"{_ONES[whole // 100]} hundred{rest}"


def say(command: Command, rng: np.random.Generator) -> str:
    """One of the many ways to say a command, drawn at random, in lower case."""
    described = command.relation or command.kind in ("unknown", "refuse")
    if not described and rng.random() < FROM_THE_SMALL_LANGUAGE:
        return phrase(command, rng)
    text = _core(command, rng)
    if command.kind != "unknown":
        if rng.random() < 0.3:
            text = f"{rng.choice(OPENERS)}{',' if rng.random() < 0.4 else ''} {text}"
        if rng.random() < 0.2:
            text = f"{text}{',' if rng.random() < 0.4 else ''} {rng.choice(CLOSERS)}"
    return text + str(rng.choice(["", "", ".", "!", "?"], p=[0.35, 0.35, 0.15, 0.08, 0.07]))


def _core(command: Command, rng: np.random.Generator) -> str:
    match command.kind:
        case "goto":
            return str(rng.choice(GOTO)).format(x=noun_phrase(command, rng))
        case "turn":
            return _turn(command, rng)
        case "walk":
            return _walk(command, rng)
    families = {"stop": STOP, "stand": STAND, "sit": SIT, "refuse": REFUSED, "unknown": UNRELATED}
    name = f"{_word(command.color or 'red', rng)} {_word(command.object or 'chair', rng)}"
    return str(rng.choice(families[command.kind])).format(o=name)


def noun_phrase(command: Command, rng: np.random.Generator) -> str:
    """How the object of a ``goto`` may be called, by name or by its relation to others."""
    words = {"k": _word(command.object, rng)}
    match command.relation:
        case "left of" | "right of":
            color, _, kind = command.other.partition(" ")
            words |= {"s": command.relation.split()[0], "o": f"{_word(color, rng)} {_word(kind, rng)}"}
            family = SIDE
        case "except":
            words |= {"c": _word(command.other, rng)}
            family = EXCEPT
        case "":
            words |= {"c": _word(command.color, rng)}
            family = PLAIN
        case relation:
            family = {"nearest": NEAREST, "farthest": FARTHEST, "only": ONLY}[relation]
    return str(rng.choice(family)).format(**words)


def _word(name: str, rng: np.random.Generator) -> str:
    """The name itself in three of five cases, else a synonym."""
    known = COLOR_WORDS.get(name) or OBJECT_WORDS[name]
    others = sorted({*known, *MORE_WORDS[name]} - {name})
    return name if rng.random() < 0.6 else str(rng.choice(others))


def _turn(command: Command, rng: np.random.Generator) -> str:
    degrees = abs(command.amount)
    words = {"d": "left" if command.amount > 0 else "right", "n": _number(degrees, rng)}
    family = TURN
    if degrees == 90 and rng.random() < 0.5:
        family = QUARTER
    elif degrees == 180 and command.amount > 0 and rng.random() < 0.5:
        family = AROUND
    return str(rng.choice(family)).format(**words)


def _walk(command: Command, rng: np.random.Generator) -> str:
    metres = abs(command.amount)
    direction = str(rng.choice(FORWARD if command.amount > 0 else BACKWARD))
    if metres == 1 and rng.random() < 0.3:
        return str(rng.choice(STEP)).format(d=direction)
    number = _number(metres, rng)
    unit = str(rng.choice(["metre", "meter"] if metres <= 1 else ["metres", "meters"]))
    return str(rng.choice(WALK)).format(d=direction, n=number, u=unit)


def _number(value: float, rng: np.random.Generator) -> str:
    return number_words(value) if rng.random() < 0.5 else number_text(value)
