"""From a decoded text to a plan: what is cut off, what is no plan, and what is done without the cloud."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.edge.outcome import ActionCancelled, ActionFailed, ActionResult
from spec_decode_ros.edge.planner import Planner, problem_of

EOS = 0


class Runtime:
    """Answers every prompt with one text, or fails."""

    def __init__(
        self, text: str = "", ends: bool = True, error: Exception | None = None, verified: bool = True
    ):
        self.prompts: list[str] = []
        self._text, self._ends, self._error, self._verified = text, ends, error, verified

    def act(
        self, prompt: str, images: Sequence[bytes] = (), last_tokens: Sequence[int] = (), **_: object
    ) -> ActionResult:
        self.prompts.append(prompt)
        if self._error:
            raise self._error
        tokens = (*range(1, 4), *((EOS,) if self._ends else ()))
        return ActionResult(tokens, self._text, self._verified, True, (), {}, ())


def test_a_plan_is_parsed():
    runtime = Runtime("go to the red chair; sit down")
    planned = Planner(runtime, {EOS}).plan("Could you   head over there | and sit?")
    assert planned.plan == parse_plan("go to the red chair; sit down")
    assert runtime.prompts == ["could you head over there and sit?\n"]


@pytest.mark.parametrize("text", ["go to the red", "go to the red chair", ""])
def test_a_plan_that_was_cut_off_is_none_even_where_it_reads_as_one(text):
    planned = Planner(Runtime(text, ends=False), {EOS}).plan("go")
    assert planned.plan is None
    assert "cut off" in planned.problem


def test_another_text_is_no_plan_and_the_problem_says_why():
    planned = Planner(Runtime("walk to the red chair"), {EOS}).plan("go")
    assert planned.plan is None
    assert "does not move" in planned.problem


def test_without_the_cloud_the_draft_model_plans_if_it_may():
    gone = Runtime(error=ActionFailed("no verdict"))
    with pytest.raises(ActionFailed):
        Planner(gone, {EOS}).plan("sit")
    planned = Planner(gone, {EOS}, Runtime("sit down", verified=False)).plan("sit")
    assert planned.plan == parse_plan("sit down")
    assert not planned.result.verified


def test_a_cancelled_plan_is_not_planned_again():
    alone = Runtime("sit down", verified=False)
    with pytest.raises(ActionCancelled):
        Planner(Runtime(error=ActionCancelled("cancelled")), {EOS}, alone).plan("sit")
    assert not alone.prompts


@pytest.mark.parametrize(
    ("plan", "goals", "follows"),
    [
        ("go to the red chair; sit down", "named", True),
        ("turn left 90 degrees", "named", True),
        ("stop", "named", True),
        ("refused: it would do harm", "named", True),
        ("go to the nearest chair", "named", False),
        ("go to the red chair; go to the door", "named", False),
        ("go to the orange ball", "named", False),
        ("go to the box left of the blue ball", "any", True),
    ],
)
def test_what_the_acting_pair_cannot_follow_is_known_before(plan, goals, follows):
    assert (problem_of(parse_plan(plan), goals) == "") == follows


def test_an_amount_that_nobody_said_moves_nothing():
    planned = Planner(Runtime("walk forward 12 metres"), {EOS}).plan("walk 2 metres")
    assert planned.plan is None
    assert "nobody said" in planned.problem
