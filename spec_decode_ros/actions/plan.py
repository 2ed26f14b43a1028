"""Plans: what a language model makes of an operator's sentence, and the strict parser of its text.

A plan is a list of steps, or says why there is none::

    go to the red chair; turn left 90 degrees; sit down
    refused: it would do harm

Each step is the plain command that the acting pair hears. Any other text raises :class:`PlanError` and moves nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from spec_decode_ros.actions.action import NOT_UNDERSTOOD, REFUSED
from spec_decode_ros.actions.commands import COLOR_WORDS, OBJECT_WORDS
from spec_decode_ros.errors import SpecDecodeError

StepKind = Literal["go", "turn", "walk", "stop", "stand up", "sit down"]

MAX_STEPS = 8
MAX_TURN_DEG = 360
MAX_WALK_M = 20.0
MAX_TEXT = 600
"""Characters of a plan, at most."""

SEPARATOR = "; "

_OBJECT = re.compile(r"[a-z](?:[a-z0-9' -]{0,58}[a-z0-9])?", re.ASCII)
_TURN = re.compile(r"turn (left|right) ([1-9][0-9]{0,2}) degrees", re.ASCII)
_WALK = re.compile(r"walk (forward|back) ([0-9]{1,2}(?:\.[0-9]{1,2})?) metres", re.ASCII)
_NO_STEPS = re.compile(rf"({REFUSED}|{NOT_UNDERSTOOD})(?:: ([a-z](?:[a-z ]{{0,58}}[a-z])?))?", re.ASCII)
_GO = "go to the "


class PlanError(SpecDecodeError):
    """A text that is not a plan; the robot does not move."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        kind: what the robot does.
        object: of `go`, as the operator named or described it: `red chair`, `nearest box`, `box left of the blue ball`.
        amount: of `turn` in whole degrees, left positive; of `walk` in metres, forward positive.
    """

    kind: StepKind
    object: str = ""
    amount: float = 0.0

    def __post_init__(self) -> None:
        size, nameless = abs(self.amount), not self.object
        if self.kind == "go":
            good = size == 0 and bool(_OBJECT.fullmatch(self.object))
        elif self.kind == "turn":
            good = nameless and 1 <= size <= MAX_TURN_DEG and float(size).is_integer()
        elif self.kind == "walk":
            good = nameless and 0 < size <= MAX_WALK_M and round(size, 2) == size
        else:
            good = nameless and size == 0 and self.kind in ("stop", "stand up", "sit down")
        if not good:
            raise PlanError(f"{self.kind!r} with {self.object!r} and {self.amount} is not a step")

    @property
    def text(self) -> str:
        """The canonical phrasing, which the acting pair hears."""
        if self.kind == "go":
            return f"{_GO}{self.object}"
        if self.kind == "turn":
            return f"turn {'left' if self.amount > 0 else 'right'} {abs(self.amount):.0f} degrees"
        if self.kind == "walk":
            return f"walk {'forward' if self.amount > 0 else 'back'} {abs(self.amount):g} metres"
        return self.kind

    @property
    def walks(self) -> bool:
        """Whether the legs have to step, which a robot that sits cannot."""
        return self.kind in ("go", "turn", "walk")

    @property
    def names_its_object(self) -> bool:
        """Whether a step `go` says a colour and a kind that the simulator has; a description says something else."""
        color, _, kind = self.object.partition(" ")
        return color in COLOR_WORDS and kind in OBJECT_WORDS


STOP: Final = Step("stop")
STAND_UP: Final = Step("stand up")
SIT_DOWN: Final = Step("sit down")


@dataclass(frozen=True)
class Plan:
    """Steps in their order, or none and the outcome `refused` or `not understood` with a reason in a few words."""

    steps: tuple[Step, ...] = ()
    outcome: Literal["planned", "refused", "not understood"] = "planned"
    reason: str = ""

    def __post_init__(self) -> None:
        if bool(self.steps) != (self.outcome == "planned") or (self.steps and self.reason):
            raise PlanError("a plan has steps, or an outcome that says why there are none")
        if not self.steps and not _NO_STEPS.fullmatch(self.text):
            raise PlanError(
                f"{self.text[:60]!r} is not 'refused' or 'not understood' with a reason in plain words"
            )
        if len(self.steps) > MAX_STEPS:
            raise PlanError(f"the plan has {len(self.steps)} steps, more than {MAX_STEPS}")
        if STOP in self.steps and len(self.steps) > 1:
            raise PlanError("a stop is the only step of its plan")

    @property
    def text(self) -> str:
        """The plan as the models write it."""
        if self.steps:
            return SEPARATOR.join(step.text for step in self.steps)
        return f"{self.outcome}: {self.reason}" if self.reason else self.outcome

    @property
    def moves(self) -> bool:
        """Whether the robot moves or changes its posture."""
        return any(step != STOP for step in self.steps)


def parse_plan(text: str) -> Plan:
    """Parse the text of a plan.

    Raises:
        PlanError: the text is not exactly one plan in its canonical form; the message says why.
    """
    if not isinstance(text, str):
        raise PlanError(f"a plan is text, not {type(text).__name__}; the robot does not move")
    if len(text) > MAX_TEXT:
        raise PlanError(f"the plan has {len(text)} characters, more than {MAX_TEXT}; the robot does not move")
    text = text.strip()
    if none := _NO_STEPS.fullmatch(text):
        return Plan((), none[1], none[2] or "")  # type: ignore[arg-type]
    return Plan(tuple(_step(part) for part in text.split(SEPARATOR)))


def _step(text: str) -> Step:
    try:
        step = _read_step(text)
    except PlanError:
        step = None
    if step is None or step.text != text:
        raise PlanError(f"{text[:60]!r} is not a step such as 'go to the red chair'; the robot does not move")
    return step


def _read_step(text: str) -> Step | None:
    if text.startswith(_GO):
        return Step("go", object=text.removeprefix(_GO))
    if turn := _TURN.fullmatch(text):
        return Step("turn", amount=float(turn[2]) * (1 if turn[1] == "left" else -1))
    if walk := _WALK.fullmatch(text):
        return Step("walk", amount=float(walk[2]) * (1 if walk[1] == "forward" else -1))
    return Step(text) if text in ("stop", "stand up", "sit down") else None  # type: ignore[arg-type]
