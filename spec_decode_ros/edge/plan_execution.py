"""Carries a plan out, one step after the other: which step the acting pair gets, and when it is over. No clock, no ROS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from spec_decode_ros.actions.action import Action
from spec_decode_ros.actions.plan import SIT_DOWN, STAND_UP, STOP, Plan, Step

StepState = Literal[
    "waiting", "running", "done", "not found", "blocked", "refused", "not understood", "stopped"
]

POSTURE_S = 3.0
"""Seconds that standing up or sitting down takes, in which the robot is not told anything else. A walking Go2 comes to rest
before it sits down; the simulated one lies after 2.2."""

_FAILURES: tuple[StepState, ...] = ("not found", "blocked", "refused", "not understood")


def with_stand_ups(steps: Iterable[Step], sits: bool = False) -> tuple[Step, ...]:
    """The steps, and a step `stand up` before each that moves a robot that sits.

    The motion guard holds a sitting robot whatever a model says, and rightly: only what the operator said may raise it. A
    sentence that says where to go next does.

    Args:
        steps: in their order.
        sits: whether the robot sits before the first.
    """
    result: list[Step] = []
    for step in steps:
        if sits and step.walks:
            result.append(STAND_UP)
        sits = step == SIT_DOWN
        result.append(step)
    return tuple(result)


@dataclass
class PlanExecution:
    """The steps of one plan, with those that :func:`with_stand_ups` adds, and how far they are.

    A step is over when the acting pair says `reached` or `done`, or the posture is taken on. Where it says that an object
    is not found, that the way is blocked, or that it refuses or does not understand, the whole plan ends: the
    steps behind it were asked for on the assumption that this one succeeds.

    Attributes:
        plan: what is carried out.
        sits: whether the robot sits now, as far as its plans have told it to.
        steps: of the plan, and the added ones.
        states: one for each step.
    """

    plan: Plan
    sits: bool = False
    steps: tuple[Step, ...] = field(init=False)
    states: list[StepState] = field(init=False)
    _index: int = field(default=0, init=False)
    _moved: bool = field(default=False, init=False)
    _posture_since: float | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.steps = with_stand_ups(self.plan.steps, self.sits)
        self.states = ["waiting"] * len(self.steps)
        if self.states:
            self.states[0] = "running"

    @property
    def step(self) -> Step | None:
        """The step that runs; None when the plan is over."""
        running = self._index < len(self.states) and self.states[self._index] == "running"
        return self.steps[self._index] if running else None

    @property
    def failure(self) -> str:
        """Why the plan ended early: the state of the step that failed; empty otherwise."""
        return next((state for state in self.states if state in (*_FAILURES, "stopped")), "")

    def stop(self) -> None:
        """The operator or a guard stopped the robot: the step that runs and those behind it are given up."""
        if self.step is not None:
            self.states[self._index] = "stopped"

    def decided(self, instruction: str, action: Action, now: float, *, verified: bool = True) -> bool:
        """Take an action of the acting pair.

        Args:
            instruction: what the action was decided for; one for another step is ignored.
            action: what the pair said.
            now: seconds on a steady clock.
            verified: whether the target has confirmed it; a posture is taken on only then.

        Returns:
            Whether the running step ended with it; `step` is then the next one, or None.
        """
        step = self.step
        if step is None or instruction != step.text:
            return False
        failure = next((f for f in _FAILURES if action.note == f or action.note.endswith(f" {f}")), None)
        if failure is not None:
            self.states[self._index] = failure
            return True
        if step.kind in ("stand up", "sit down"):
            if verified and action.posture == step.kind and self._posture_since is None:
                self._posture_since = now
                self.sits = self.sits or step == SIT_DOWN
            return self.passed(now)
        # A late answer to the step before, which may have had the same words, cannot end a step that has to move first.
        self._moved = self._moved or action.moves
        over = (
            action.note.endswith(" reached")
            if step.kind == "go"
            else action.note == "stopped"
            if step == STOP
            else action.note == "done" and self._moved
        )
        if over:
            self._next()
        return over

    def passed(self, now: float) -> bool:
        """Time has passed; whether the running step, a posture, ended with it."""
        if self.step is None or self._posture_since is None or now - self._posture_since < POSTURE_S:
            return False
        self._next()
        return True

    def _next(self) -> None:
        self.states[self._index] = "done"
        self.sits = self.sits and self.steps[self._index] != STAND_UP
        self._index += 1
        self._moved, self._posture_since = False, None
        if self._index < len(self.states):
            self.states[self._index] = "running"
