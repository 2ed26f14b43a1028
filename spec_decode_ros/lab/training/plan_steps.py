"""Single steps drawn at random, each with a way to say it: objects by name or description, turns, walks, numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS, number_text
from spec_decode_ros.actions.plan import Step
from spec_decode_ros.actions.synonyms import TAUGHT
from spec_decode_ros.lab.training import phrasings as words

_ONES = (
    *"zero one two three four five six seven eight nine ten eleven twelve".split(),
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


class Goal(NamedTuple):
    """An object as it is said (`the crimson seat`), and as the plan calls it (`red chair`)."""

    said: str
    object: str


def pick(options: Sequence[str], rng: np.random.Generator) -> str:
    """One of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def draw_goal(rng: np.random.Generator) -> Goal:
    """An object: two of three are named by a colour and a kind of the simulator, the others are described or foreign."""
    kind, color = pick(list(OBJECT_WORDS), rng), pick(list(COLOR_WORDS), rng)
    chance = rng.random()
    if chance < 0.64:
        return _named_goal(color, kind, rng)
    if chance < 0.82:
        return _foreign_goal(color, kind, rng)
    return _described_goal(color, kind, rng)


def _named_goal(color: str, kind: str, rng: np.random.Generator) -> Goal:
    """An object by its colour and kind."""
    said = pick(words.PLAIN, rng).format(c=_word(color, rng), k=_word(kind, rng))
    return Goal(said, f"{color} {kind}")


def _foreign_goal(color: str, kind: str, rng: np.random.Generator) -> Goal:
    if rng.random() < 0.3:
        color = pick(words.OTHER_COLORS, rng)
        spoken = "gray" if color == "grey" and rng.random() < 0.5 else color
        return Goal(f"the {spoken} {_word(kind, rng)}", f"{color} {kind}")
    kind = pick(words.OTHER_OBJECTS, rng)
    if rng.random() < 0.5:
        article = pick(["the", "the", "the", "that", "a"], rng)
        return Goal(f"{article} {kind}", kind)
    color = pick([*words.OTHER_COLORS, *COLOR_WORDS], rng)
    return Goal(f"the {color} {kind}", f"{color} {kind}")


def _described_goal(color: str, kind: str, rng: np.random.Generator) -> Goal:
    if rng.random() < 0.2:
        kind = pick(words.OTHER_OBJECTS[:24], rng)
    k, c = _word(kind, rng), _word(color, rng)
    match int(rng.integers(5)):
        case 0:
            side = pick(["left", "right"], rng)
            other = pick(list(OBJECT_WORDS), rng)
            said = pick(words.SIDE, rng).format(k=k, s=side, o=f"{c} {_word(other, rng)}")
            return Goal(said, f"{kind} {side} of the {color} {other}")
        case 1:
            return Goal(pick(words.NEAREST, rng).format(k=k), f"nearest {kind}")
        case 2:
            return Goal(pick(words.FARTHEST, rng).format(k=k), f"farthest {kind}")
        case 3:
            return Goal(pick(words.EXCEPT, rng).format(k=k, c=c), f"other {kind}")
        case _:
            return Goal(pick(words.ONLY, rng).format(k=k), kind)


def _word(name: str, rng: np.random.Generator) -> str:
    """The name itself in three of five cases, else a synonym."""
    known = COLOR_WORDS.get(name) or OBJECT_WORDS.get(name)
    if known is None or rng.random() < 0.6:
        return name
    return pick(sorted({*known, *TAUGHT[name]} - {name}), rng)


def draw_turn(rng: np.random.Generator) -> tuple[Step, str]:
    """A turn and a way to say it that begins with its verb, or nearly so."""
    side = pick(["left", "right"], rng)
    degrees = int(rng.choice([90, 90, 90, 180, 45, 30, 60, 360, 15, 120, *range(5, 180, 5), 1, 37, 72, 12]))
    number = draw_number(degrees, rng)
    family = words.TURN
    if degrees == 90 and rng.random() < 0.7:
        family = words.QUARTER
    elif degrees == 180 and rng.random() < 0.6:
        family, side = words.AROUND, "left"
    elif degrees == 360 and rng.random() < 0.7:
        family, side = words.CIRCLE, "left"
    elif rng.random() < 0.12:
        family = words.LEFTWARDS if side == "left" else words.RIGHTWARDS
    text = pick(family, rng).format(d=side, n=number)
    if "degrees" in text and number.isdigit() and rng.random() < 0.2:
        text = text.replace(" degrees", pick(["°", " deg", " degs"], rng))
    return Step("turn", amount=degrees if side == "left" else -degrees), text


def draw_walk(rng: np.random.Generator) -> tuple[Step, str]:
    """A walk and a way to say it."""
    ahead = bool(rng.random() < 0.65)
    sign = 1 if ahead else -1
    direction = pick(words.FORWARD if ahead else words.BACKWARD, rng)
    if rng.random() < 0.12:
        return Step("walk", amount=sign), pick(words.STEP, rng).format(d=direction)
    if rng.random() < 0.05:
        back = int(rng.integers(1, 6))
        return Step("walk", amount=-back), f"walk {pick(('-', 'minus '), rng)}{back} metres"
    metres, spoken = draw_distance(rng)
    number, unit = spoken.rsplit(" ", 1) if " " in spoken else (spoken, "")
    if ahead and rng.random() < 0.15:
        return Step("walk", amount=metres), pick(words.NO_DIRECTION, rng).format(n=number, u=unit)
    family = words.WALK if ahead or rng.random() < 0.6 else words.RETREAT
    text = pick(family, rng).format(d=direction, n=number, u=unit)
    return Step("walk", amount=sign * metres), " ".join(text.split())


def draw_distance(rng: np.random.Generator) -> tuple[float, str]:
    """Metres, and how they may be said, with the unit at the end."""
    chance = rng.random()
    if chance < 0.12:
        centimetres = int(rng.choice([*range(10, 110, 10), 25, 75, 120, 150, 200]))
        unit = pick(["cm", "centimetres", "centimeters"], rng)
        return centimetres / 100, f"{draw_number(centimetres, rng)} {unit}"
    if chance < 0.24:
        number, _, said = pick(words.SAID_DISTANCES, rng).partition(" = ")
        return float(number), said
    decimals = (0.5, 1.5, 2.5, 3.5, 0.2, 0.3, 0.8, 1.2, 1.8, 2.2, 4.5)
    metres = float(rng.choice([*range(1, 11), *decimals, 12, 15, 20, 0.75, 2.75]))
    unit = pick(["metre", "meter"] if metres <= 1 else ["metres", "meters", "metres", "meters", "m"], rng)
    whole_or_half = (2 * metres).is_integer()
    if whole_or_half and rng.random() < 0.5:
        return metres, f"{number_words(metres)} {unit}"
    digits = f"{metres:g}"
    return metres, f"{digits.replace('.', ',') if rng.random() < 0.25 else digits} {unit}"


def draw_number(value: float, rng: np.random.Generator) -> str:
    """A way to say a number from 0 to 999: in words or in digits."""
    return number_words(value) if rng.random() < 0.4 else number_text(value)
