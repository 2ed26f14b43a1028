"""A plan is carried out step by step, and a robot that sits is stood up before it walks."""

from __future__ import annotations

import pytest

from spec_decode_ros.actions.action import parse_action
from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.edge.plan_execution import POSTURE_S, PlanExecution, with_stand_ups


def texts(plan: str, sits: bool = False) -> list[str]:
    return [step.text for step in with_stand_ups(parse_plan(plan).steps, sits)]


def say(execution: PlanExecution, text: str, now: float = 0.0) -> bool:
    """The acting pair's action for the step that runs."""
    assert execution.step is not None
    return execution.decided(execution.step.text, parse_action(text), now)


@pytest.mark.parametrize(
    ("plan", "sits", "steps"),
    [
        ("sit down; go to the red chair", False, "sit down; stand up; go to the red chair"),
        ("sit down; stand up; go to the red chair", False, "sit down; stand up; go to the red chair"),
        ("go to the red chair; sit down", False, "go to the red chair; sit down"),
        ("turn left 90 degrees; sit down", True, "stand up; turn left 90 degrees; sit down"),
        ("sit down; turn left 90 degrees; walk back 1 metres", False, None),
        ("sit down", True, "sit down"),
        ("stop", True, "stop"),
    ],
)
def test_a_robot_that_sits_is_stood_up_before_it_walks(plan: str, sits: bool, steps: str | None):
    expected = steps or "sit down; stand up; turn left 90 degrees; walk back 1 metres"
    assert "; ".join(texts(plan, sits)) == expected


def test_every_step_that_is_added_is_carried_out_and_shown():
    execution = PlanExecution(parse_plan("sit down; go to the red chair"))
    assert not say(execution, "vx 0.0 wz 0.0 | sit down", now=0.0)
    assert execution.sits
    assert not execution.passed(POSTURE_S - 0.1)
    assert execution.passed(POSTURE_S)
    assert execution.step is not None
    assert execution.step.text == "stand up"
    assert not say(execution, "vx 0.0 wz 0.0 | stand up", now=10.0)
    assert execution.sits, "it has not got up yet"
    assert execution.passed(10.0 + POSTURE_S)
    assert not execution.sits
    assert say(execution, "vx 0.0 wz 0.0 | red chair reached")
    assert execution.states == ["done"] * 3
    assert execution.step is None


def test_a_robot_that_is_stopped_while_it_gets_up_counts_as_sitting():
    execution = PlanExecution(parse_plan("go to the red chair"), sits=True)
    say(execution, "vx 0.0 wz 0.0 | stand up")
    execution.stop()
    assert execution.sits
    assert execution.states == ["stopped", "waiting"]
