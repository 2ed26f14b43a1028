"""From an operator's sentence to a plan, decoded by a pair of language models like an action. No ROS."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from spec_decode_ros.actions.plan import Plan, PlanError, parse_plan
from spec_decode_ros.actions.prompt import PromptStyle, build_plan_prompt
from spec_decode_ros.actions.said_amounts import unsaid_amount
from spec_decode_ros.actions.synonyms import plainly_named
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.outcome import ActionCancelled, ActionFailed, ActionResult, Progress
from spec_decode_ros.edge.pilot import OnText, Runtime


@dataclass(frozen=True)
class Planned:
    """A sentence and what came of it.

    Attributes:
        sentence: what the operator said.
        result: the decoding.
        plan: None where the text is not one; `problem` then says why.
    """

    sentence: str
    result: ActionResult
    plan: Plan | None
    problem: str = ""


@dataclass
class Planner:
    """Plans one sentence at a time.

    Args:
        runtime: decodes with the cloud.
        eos_ids: the pair's end tokens; a plan that does not end with one was cut off, and `go to the red` would be a step.
        alone: decodes with the draft model alone when the cloud fails; None raises instead.
        style: how the pair is prompted.
        sampling: greedy if None.
    """

    runtime: Runtime
    eos_ids: Collection[int]
    alone: Runtime | None = None
    style: PromptStyle = "trained"
    sampling: Sampling | None = None

    def plan(self, sentence: str, on_text: OnText | None = None) -> Planned:
        """Decode a plan. Raises ActionFailed where nobody answers, or when it was cancelled."""
        try:
            result = self._decode(self.runtime, sentence, on_text)
        except ActionCancelled:
            raise
        except ActionFailed:
            if self.alone is None:
                raise
            result = self._decode(self.alone, sentence, on_text)
        cut = f"the plan was cut off after {result.text[:60]!r}; the robot does not move"
        if not result.tokens or result.tokens[-1] not in self.eos_ids:
            return Planned(sentence, result, None, cut)
        try:
            plan = plainly_named(parse_plan(result.text))
        except PlanError as error:
            return Planned(sentence, result, None, str(error))
        if unsaid := unsaid_amount(plan, sentence):
            problem = f"the plan has {unsaid!r}, which nobody said: say it again with figures; the robot does not move"
            return Planned(sentence, result, None, problem)
        return Planned(sentence, result, plan)

    def _decode(self, runtime: Runtime, sentence: str, on_text: OnText | None) -> ActionResult:
        def show(progress: Progress) -> None:
            if on_text is not None:
                on_text(progress.committed_text, progress.text)

        return runtime.act(build_plan_prompt(sentence, self.style), sampling=self.sampling, on_event=show)


def problem_of(plan: Plan, goals: str) -> str:
    """Why the acting pair cannot follow a plan, before anything moves; empty if it can.

    Args:
        plan: what is wanted.
        goals: of the acting pair's file: `any`, or `named` if it goes to objects by colour and kind alone.
    """
    if goals == "named":
        for step in plan.steps:
            if step.kind == "go" and not step.names_its_object:
                return f"the acting pair goes to objects by colour and kind only, not to the {step.object}"
    return ""
