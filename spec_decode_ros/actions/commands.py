"""Commands that an operator can give, and the phrasings of each.

The models are trained on these phrasings; the robot does not match against them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

CommandKind = Literal["goto", "turn", "walk", "stop", "stand", "sit", "unknown"]

TURN_STEP_DEG = 15
"""Degrees that one action of turning at full rate counts in the notes."""

OBJECT_WORDS = {
    "chair": ("chair", "chair", "chair", "seat", "stool"),
    "box": ("box", "box", "box", "cube", "crate"),
    "ball": ("ball", "ball", "ball", "sphere"),
    "cone": ("cone", "cone", "cone", "pylon"),
    "cylinder": ("cylinder", "cylinder", "barrel", "can", "drum"),
}
COLOR_WORDS = {
    "red": ("red", "red", "red", "crimson"),
    "green": ("green",),
    "blue": ("blue",),
    "yellow": ("yellow",),
    "purple": ("purple", "purple", "violet"),
    "white": ("white",),
}


def split_templates(templates: str) -> tuple[str, ...]:
    """Split text into templates, which are separated by semicolons or line ends."""
    return tuple(t.strip() for line in templates.splitlines() for t in line.split(";") if t.strip())


_TEXTS = {
    "goto": """go to the {o}; find the {o}; walk to the {o}; walk over to the {o}; head to the {o}; head for the {o}
head over to the {o}; move to the {o}; move over to the {o}; approach the {o}; navigate to the {o}; drive to the {o}
run to the {o}; come to the {o}; get to the {o}; look for the {o}; search for the {o}; locate the {o}; reach the {o}
take me to the {o}; bring me to the {o}; lead me to the {o}; show me the {o}; where is the {o}; go stand by the {o}
go and stand next to the {o}; go near the {o}; stop at the {o}; stop in front of the {o}; go up to the {o}
visit the {o}; proceed to the {o}; make your way to the {o}; step up to the {o}; i want you to go to the {o}
i need you at the {o}; can you find the {o}; can you go to the {o}; could you go to the {o}
could you walk to the {o}; would you walk to the {o}; will you go over to the {o}; the {o}; {o}; your goal is the {o}
meet me at the {o}; wait by the {o}; wait at the {o}; you should go to the {o}; get close to the {o}
get closer to the {o}; move towards the {o}; move toward the {o}; walk towards the {o}; advance to the {o}
travel to the {o}; go over to the {o}; go towards the {o}; find a {o}; find me a {o}; find me the {o}; go to a {o}
go to that {o}; walk to that {o}; follow the path to the {o}; let us go to the {o}; try to find the {o}
try to reach the {o}; go find the {o}; go and find the {o}; go look for the {o}; seek the {o}; seek out the {o}
turn to the {o} and go there; walk until you reach the {o}; walk up to the {o}; trot to the {o}; march to the {o}
i would like you to find the {o}; is there a {o} go to it; do you see the {o} go there; {o} is your target
the target is the {o}; next go to the {o}; now go to the {o}; move close to the {o}
park at the {o}; park in front of the {o}; return to the {o}; go back to the {o}; go to the {k} that is {c}
find the {k} that is {c}; go to the {k} which is {c}; walk to the {k} in {c}""",
    "turn": """turn {d} {n} degrees; turn {n} degrees {d}; turn {n} degrees to the {d}; turn {d} by {n} degrees
rotate {d} {n} degrees; rotate {n} degrees {d}; rotate {d} by {n} degrees; rotate {n} degrees to the {d}
spin {d} {n} degrees; make a {n} degree turn to the {d}; make a {d} turn of {n} degrees; face {n} degrees {d}
turn to the {d} by {n} degrees; turn yourself {n} degrees to the {d}; swing {d} {n} degrees; {d} {n} degrees""",
    "quarter": """turn {d}; turn to the {d}; face {d}; rotate {d}; turn {d} a quarter; make a quarter turn {d}
look {d}; look to the {d}; a quarter turn to the {d}; go {d}; take a {d} turn""",
    "around": "turn around; turn back; face the other way; make a half turn; look behind you; about face; turn half around",
    "walk": """walk {d} {n} {u}; go {d} {n} {u}; move {d} {n} {u}; walk {n} {u} {d}; go {n} {u} {d}; move {n} {u} {d}
walk {d} for {n} {u}; move {d} by {n} {u}; go {d} by {n} {u}; step {d} {n} {u}; advance {n} {u} {d}; {n} {u} {d}
take me {n} {u} {d}; proceed {n} {u} {d}; drive {d} {n} {u}; drive {n} {u} {d}""",
    "step": "walk {d}; go {d}; move {d}; step {d}; move a bit {d}; walk {d} a little; go a little {d}; take a step {d}",
    "stop": """stop; halt; freeze; stay; stay there; stay here; stand still; do not move; don't move; wait; hold position
hold it; stop walking; stop moving; stop there; stop now; hold still; stay where you are; whoa; pause
do not go to the {o}; don't go to the {o}; do not walk to the {o}; don't walk to the {o}; do not find the {o}
stay away from the {o}; keep away from the {o}; never go to the {o}; don't go near the {o}; no; cancel; abort""",
    "stand": (
        "stand up; get up; rise; up; stand; get on your feet; on your feet; stand tall; raise yourself; wake up"
    ),
    "sit": """sit down; sit; lie down; lie; rest; take a rest; sit on the floor; lower yourself; crouch; get down; down
relax""",
    "unknown": """what is the weather; sing a song; dance; open the door; tell me a joke; who are you; hello; good morning
what time is it; make me a coffee; close the window; read a book; what is your name; how are you; play music; thanks
call my mother; write a letter; go to the moon; go to the kitchen; jump; fly; swim to the island; buy some milk
wash the car; paint it {c}; i like {c}; what do you think of {k}; the weather is good; why; yes; ok; go; walk to; find
go to the {k}; find the {k}; find something {c}; the {c}; the {k}; go to; is it; what; my favourite color is {c}; to the""",
}
TEMPLATES = {family: split_templates(text) for family, text in _TEXTS.items()}
"""Phrasings by family: the kind of a command, or one of ``quarter``, ``around`` and ``step`` for special amounts."""

OPENERS = split_templates(
    "please; hey robot; robot; hey; ok; ok robot; now; hi; hello robot; dog; could you please"
)
CLOSERS = split_templates("please; now; thanks; thank you; quickly; slowly; carefully; for me; my friend")

STRANGE_WORDS = ("zorp", "blee", "quux", "fnord", "wibble")
"""Words outside the shipped vocabulary: training on them teaches the models to ignore unknown words."""
FORWARD = ("forward", "forward", "ahead", "forwards", "straight ahead", "straight")
BACKWARD = ("back", "backward", "backwards", "back")
METRES = ("metres", "meters", "m", "metre", "meter")


@dataclass(frozen=True)
class Command:
    """The meaning of an instruction: ``color`` and ``object`` of a goto; ``amount`` in degrees (left positive) or metres."""

    kind: CommandKind
    color: str = ""
    object: str = ""
    amount: float = 0.0

    @property
    def target(self) -> str:
        """The object's name, ``red chair``, empty for other commands."""
        return f"{self.color} {self.object}".strip()


def number_text(value: float) -> str:
    """``90`` for whole numbers, ``1.5`` otherwise."""
    return str(int(value)) if float(value).is_integer() else f"{value:.1f}"


def phrase(command: Command, rng: np.random.Generator, strange: bool = True) -> str:
    """A random phrasing of a command, sometimes with polite words and, if `strange`, with :data:`STRANGE_WORDS`."""
    text = _core(command, rng)
    if command.kind != "unknown" and rng.random() < 0.25:
        text = f"{rng.choice(OPENERS)} {text}"
    if command.kind != "unknown" and rng.random() < 0.15:
        text = f"{text} {rng.choice(CLOSERS)}"
    return _with_strange_words(text, command, rng) if strange else text


def _core(command: Command, rng: np.random.Generator) -> str:
    color = str(rng.choice(COLOR_WORDS.get(command.color, ("red",))))
    kind = str(rng.choice(OBJECT_WORDS.get(command.object, ("chair",))))
    words = {"c": color, "k": kind, "o": f"{color} {kind}"}
    family: str = command.kind
    if command.kind == "turn":
        words |= {"d": "left" if command.amount > 0 else "right", "n": number_text(abs(command.amount))}
        if abs(command.amount) == 90 and rng.random() < 0.5:
            family = "quarter"
        elif abs(command.amount) == 180 and command.amount > 0 and rng.random() < 0.5:
            family = "around"
    elif command.kind == "walk":
        direction = rng.choice(FORWARD if command.amount > 0 else BACKWARD)
        words |= {"d": str(direction), "n": number_text(abs(command.amount)), "u": str(rng.choice(METRES))}
        if abs(command.amount) == 1 and rng.random() < 0.4:
            family = "step"
    return str(rng.choice(TEMPLATES[family])).format(**words)


def _with_strange_words(text: str, command: Command, rng: np.random.Generator) -> str:
    """Sometimes replace or insert words by unknown ones, where the meaning stays the same."""
    if command.kind not in ("goto", "unknown") or rng.random() > 0.25:
        return text
    words = text.split()
    meaningful = {w for options in (*OBJECT_WORDS.values(), *COLOR_WORDS.values()) for w in options}
    for i, word in enumerate(words):
        if word not in meaningful and rng.random() < 0.5:
            words[i] = str(rng.choice(STRANGE_WORDS))
    if rng.random() < 0.5:
        words.insert(0, str(rng.choice(STRANGE_WORDS)))
    return " ".join(words)


def vocabulary() -> list[str]:
    """All words of phrasings and answers, sorted; :data:`STRANGE_WORDS` are left out on purpose.

    Metres are in it as ``2.0`` and not as ``2``: the tokenizer reads both as the first.
    """
    words = {w for family in TEMPLATES.values() for t in family for w in t.split() if "{" not in w}
    for options in (
        *OBJECT_WORDS.values(),
        *COLOR_WORDS.values(),
        OPENERS,
        CLOSERS,
        FORWARD,
        BACKWARD,
        METRES,
    ):
        words.update(w for option in options for w in option.split())
    words.update("vx wz | left right ahead reached not found searching turning walking done stopped".split())
    words.update("stand up sit down understood blocked last none".split())
    words.update(number_text(n) for n in range(0, 365, 5))
    words.update(f"{n / 10:.1f}" for n in range(-10, 51))
    return sorted(words)
