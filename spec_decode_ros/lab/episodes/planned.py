"""Episodes with a planner: a sentence becomes a plan first, whose steps the acting pair then carries out."""

from __future__ import annotations

from spec_decode_ros.actions.action import ACTION_PERIOD_S, ActionError, format_action, parse_action
from spec_decode_ros.actions.action import STOP as STAND_STILL
from spec_decode_ros.edge.plan_execution import PlanExecution
from spec_decode_ros.edge.planner import Planner, problem_of
from spec_decode_ros.lab.episodes.episode import Policy


class PlannedPolicy:
    """A policy that hears a free sentence and asks another one, which knows plain steps only.

    Args:
        acting: decides for one step.
        planner: makes the steps.
        goals: of the acting pair's file.

    Attributes:
        plans: by sentence the text of its plan, or why there is none.
    """

    def __init__(self, acting: Policy, planner: Planner, goals: str) -> None:
        self._acting, self._planner, self._goals = acting, planner, goals
        self._sentence = ""
        self._execution: PlanExecution | None = None
        self._decisions = 0
        self._fresh = True
        self.plans: dict[str, str] = {}

    def __call__(self, jpeg: bytes, instruction: str, last_action: str | None) -> str:
        if last_action is None or instruction != self._sentence:
            self._begin(instruction)
        step = self._execution.step if self._execution else None
        if step is None:
            return last_action or format_action(STAND_STILL)
        text = self._acting(jpeg, step.text, None if self._fresh else last_action)
        self._decisions += 1
        self._fresh = False
        try:
            action = parse_action(text)
        except ActionError:
            return text
        assert self._execution is not None
        self._fresh = self._execution.decided(step.text, action, self._decisions * ACTION_PERIOD_S)
        return text

    def _begin(self, sentence: str) -> None:
        self._sentence, self._fresh = sentence, True
        planned = self._planner.plan(sentence)
        problem = problem_of(planned.plan, self._goals) if planned.plan else planned.problem
        self.plans[sentence] = problem or (planned.plan.text if planned.plan else "")
        runs = planned.plan is not None and not problem
        self._execution = PlanExecution(planned.plan) if runs and planned.plan else None
