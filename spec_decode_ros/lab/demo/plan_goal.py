"""Judges a mission of several steps: the plan by what the sentence means, each step by the robot's true motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.actions.plan import STAND_UP, Plan, parse_plan
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.body import BodyState
from spec_decode_ros.lab.demo.goal import MissionResult
from spec_decode_ros.lab.demo.step_judge import JudgedStep, judge_step
from spec_decode_ros.sim.scene import Scene

_OPEN = ("waiting", "running")
_COMES_TO_REST_S = 1.0


@dataclass(frozen=True)
class PlanGoal:
    """A sentence whose plan is to be carried out.

    Attributes:
        scene: the room.
        instruction: the sentence.
        expected: the plan that it means; None takes the planner's for granted.
        time_out_s: seconds until the mission has failed.
        target: the object that pictures of the mission show; empty: none.
    """

    scene: Scene
    instruction: str
    expected: Plan | None = None
    time_out_s: float = 120.0
    target: str = ""

    def __post_init__(self) -> None:
        if not self.time_out_s > 0:
            raise SpecDecodeError(f"the time-out is {self.time_out_s} s, but must be above 0")
        steps = self.expected.steps if self.expected else ()
        for name in filter(None, (self.target, *(step.object for step in steps))):
            if self.scene.find(name) < 0:
                there = ", ".join(thing.name for thing in self.scene.objects)
                raise SpecDecodeError(f"there is no {name} in this room; there are: {there}")

    def watch(self) -> PlanWatch:
        """A watch on this goal."""
        return PlanWatch(self)


@dataclass(frozen=True)
class PlanProgress:
    """What the planner says at a time: a line, and the steps with their states."""

    t: float
    summary: str
    steps: tuple[tuple[str, str], ...]
    ended_badly: bool

    @property
    def over(self) -> bool:
        """Whether no step runs any more, or none ever will."""
        return self.ended_badly or (bool(self.steps) and all(state not in _OPEN for _, state in self.steps))


class PlanWatch:
    """Gets the events of a mission and returns its result once it is over; times are seconds of one clock."""

    def __init__(self, goal: PlanGoal) -> None:
        self._goal = goal
        self._track: list[BodyState] = []
        self._progress: PlanProgress | None = None
        self._ends: list[float] = []

    def said(self, text: str) -> None:
        """The text of a verified action, which counts only as far as it ends a step."""

    def planned(self, progress: PlanProgress) -> None:
        """What the planner says of this goal's sentence."""
        self._progress = progress
        ended = sum(state not in _OPEN for _, state in progress.steps)
        self._ends += [progress.t] * (ended - len(self._ends))

    def moved(self, body: BodyState) -> MissionResult | None:
        """The robot's true state; the result if this is the end."""
        self._track.append(body)
        progress = self._progress
        if progress is not None and progress.over:
            waited = body.t - progress.t
            return self._judge() if waited >= _COMES_TO_REST_S or (body.still and waited > 0.0) else None
        if body.t - self._track[0].t >= self._goal.time_out_s:
            return self._result(f"not done after {self._goal.time_out_s:.0f} s")
        return None

    def _judge(self) -> MissionResult:
        progress, expected = self._progress, self._goal.expected
        assert progress is not None
        if progress.ended_badly:
            return self._result(progress.summary)
        steps = [text for text, _ in progress.steps]
        if expected is not None and not means(steps, expected):
            return self._result(f"planned: {'; '.join(steps)}")
        return self._result("")

    def _result(self, problem: str) -> MissionResult:
        steps = self._judge_steps()
        bad = next((step for step in steps if not step.success), None)
        if not problem and bad is not None:
            problem = f"{bad.step}: {bad.reason}"
        return MissionResult(not problem, problem or "done", steps=steps)

    def _judge_steps(self) -> tuple[JudgedStep, ...]:
        results = []
        begin = 0
        for index, (text, state) in enumerate(self._progress.steps if self._progress else ()):
            began = self._track[begin].t
            if index >= len(self._ends) or state != "done":
                ended = began if state == "waiting" else self._track[-1].t
                results.append(JudgedStep(text, state, False, state, began, ended))
                continue
            end = max(begin, self._at_rest(self._ends[index]))
            (step,) = parse_plan(text).steps
            verdict = judge_step(step, self._goal.scene, self._track[begin : end + 1])
            results.append(JudgedStep(text, state, *verdict, began, self._track[end].t))
            begin = end
        return tuple(results)

    def _at_rest(self, t: float) -> int:
        """Where in the track the robot has come to rest after a time: a step's end is said while it still sways on."""
        for index, body in enumerate(self._track):
            if body.t >= t and (body.still or body.t >= t + _COMES_TO_REST_S):
                return index
        return len(self._track) - 1


def means(steps: Sequence[str], plan: Plan) -> bool:
    """Whether steps are those of a plan, but for standing up more often than the plan says."""
    wanted = [step.text for step in plan.steps]
    for step in steps:
        if wanted and step == wanted[0]:
            wanted.pop(0)
        elif step != STAND_UP.text:
            return False
    return not wanted
