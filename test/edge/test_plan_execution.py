"""Which step runs, and what ends it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from spec_decode_ros.actions.action import Action, parse_action
from spec_decode_ros.actions.plan import MAX_STEPS, STOP, Plan, Step, parse_plan
from spec_decode_ros.edge.plan_execution import POSTURE_S, PlanExecution

WALKING = parse_action("vx 0.4 wz 0.0 | walking 1.0")
TURNING = parse_action("vx 0.0 wz 0.8 | turning 45")
DONE = parse_action("vx 0.0 wz 0.0 | done")
REACHED = parse_action("vx 0.0 wz 0.0 | red chair reached")
STOPPED = parse_action("vx 0.0 wz 0.0 | stopped")
FAILURES = ("not found", "blocked", "refused", "not understood")


def execution_of(text: str) -> PlanExecution:
    return PlanExecution(parse_plan(text))


def note(text: str) -> Action:
    return Action(0.0, 0.0, text)


def test_steps_run_one_after_the_other_until_the_plan_is_over():
    execution = execution_of("go to the red chair; turn left 90 degrees; walk forward 2 metres")
    assert execution.states == ["running", "waiting", "waiting"]
    assert not execution.decided("go to the red chair", WALKING, 0.0)
    assert execution.decided("go to the red chair", REACHED, 1.0)
    assert execution.states == ["done", "running", "waiting"]
    assert not execution.decided("turn left 90 degrees", TURNING, 2.0)
    assert execution.decided("turn left 90 degrees", DONE, 3.0)
    assert not execution.decided("walk forward 2 metres", WALKING, 4.0)
    assert execution.decided("walk forward 2 metres", DONE, 5.0)
    assert execution.states == ["done", "done", "done"]
    assert execution.step is None
    assert execution.failure == ""


@pytest.mark.parametrize("step", ["turn left 90 degrees", "walk back 1 metres"])
def test_a_turn_or_a_walk_is_not_done_before_it_has_moved(step):
    execution = execution_of(f"{step}; {step}")
    for _ in range(2):
        assert not execution.decided(step, DONE, 0.0)
        execution.decided(step, TURNING, 0.0)
        assert execution.decided(step, DONE, 0.0)
    assert execution.step is None


def test_an_action_for_another_step_ends_nothing():
    execution = execution_of("go to the red chair; go to the blue ball")
    assert execution.decided("go to the red chair", REACHED, 0.0)
    for late in (REACHED, note("red chair not found"), note("refused")):
        assert not execution.decided("go to the red chair", late, 0.0)
    assert execution.states == ["done", "running"]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("subject", ["", "red chair "])
def test_a_failure_ends_the_whole_plan(failure, subject):
    execution = execution_of("go to the red chair; sit down")
    assert execution.decided("go to the red chair", note(f"{subject}{failure}"), 0.0)
    assert execution.states == [failure, "waiting"]
    assert execution.failure == failure
    assert execution.step is None
    assert not execution.decided("go to the red chair", REACHED, 1.0)
    assert not execution.passed(100.0)


def test_a_posture_takes_its_time_from_the_first_action_that_says_it():
    execution = execution_of("sit down; stand up")
    assert not execution.passed(1000.0), "time alone takes no posture on"
    assert not execution.decided("sit down", note("sit down"), 10.0)
    assert not execution.decided("sit down", note("sit down"), 10.0 + 0.9 * POSTURE_S)
    assert not execution.passed(10.0 + 0.99 * POSTURE_S)
    assert execution.passed(10.0 + POSTURE_S)
    assert execution.states == ["done", "running"]
    assert not execution.passed(1000.0), "the second posture has not begun"
    assert not execution.decided("stand up", note("stand up"), 1000.0)
    assert execution.decided("stand up", note("stand up"), 1000.0 + POSTURE_S)
    assert execution.step is None


def test_a_posture_that_is_not_verified_is_not_taken_on():
    execution = execution_of("sit down")
    assert not execution.decided("sit down", note("sit down"), 0.0, verified=False)
    assert not execution.passed(100.0)
    assert not execution.decided("sit down", note("sit down"), 200.0)
    assert execution.passed(200.0 + POSTURE_S)


def test_a_stop_is_over_when_the_pair_has_stopped():
    execution = PlanExecution(Plan((STOP,)))
    assert not execution.decided("stop", DONE, 0.0)
    assert execution.decided("stop", STOPPED, 0.0)
    assert execution.states == ["done"]


def test_a_stop_from_outside_gives_up_the_step_that_runs():
    execution = execution_of("go to the red chair; sit down")
    execution.stop()
    assert execution.states == ["stopped", "waiting"]
    assert execution.failure == "stopped"
    execution.stop()
    assert execution.states == ["stopped", "waiting"]


def test_a_plan_without_steps_is_over_at_once():
    execution = PlanExecution(Plan((), "refused"))
    assert execution.step is None
    execution.stop()
    assert not execution.decided("", STOPPED, 0.0)


STEPS = st.one_of(
    st.sampled_from(["red chair", "blue ball"]).map(lambda name: Step("go", object=name)),
    st.sampled_from([90.0, -45.0]).map(lambda degrees: Step("turn", amount=degrees)),
    st.sampled_from([1.0, -2.0]).map(lambda metres: Step("walk", amount=metres)),
    st.sampled_from([Step("stand up"), Step("sit down")]),
)
ACTIONS = st.sampled_from(
    [WALKING, TURNING, DONE, REACHED, STOPPED, note("sit down"), note("stand up"), note("red chair blocked")]
)


class Executions(RuleBasedStateMachine):
    """Any actions in any order: at most one step runs, those before it are done, and nothing that ended begins again."""

    @initialize(steps=st.lists(STEPS, min_size=1, max_size=MAX_STEPS))
    def begin(self, steps: list[Step]) -> None:
        self.execution = PlanExecution(Plan(tuple(steps)))
        self.now, self.before, self.ended = 0.0, list(self.execution.states), False

    @rule(action=ACTIONS, place=st.integers(0, MAX_STEPS - 1), verified=st.booleans())
    def decide(self, action: Action, place: int, verified: bool) -> None:
        steps = self.execution.plan.steps
        text = steps[place % len(steps)].text
        running, states = self.execution.step, list(self.execution.states)
        over = self.execution.decided(text, action, self.now, verified=verified)
        assert over == (states != self.execution.states)
        if running is None or text != running.text:
            assert not over

    @rule(seconds=st.floats(0.0, 3.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        running, states = self.execution.step, list(self.execution.states)
        assert self.execution.passed(self.now) == (states != self.execution.states)
        if running is not None and running.kind not in ("stand up", "sit down"):
            assert states == self.execution.states

    @rule()
    def stop(self) -> None:
        self.execution.stop()
        assert self.execution.step is None

    @invariant()
    def one_step_at_most_runs_and_the_order_is_kept(self) -> None:
        states = self.execution.states
        assert states.count("running") == (self.execution.step is not None)
        done = states.count("done")
        assert states[:done] == ["done"] * done
        assert states[done + 1 :] == ["waiting"] * len(states[done + 1 :])
        assert done == len(states) or states[done] == "running" or states[done] == self.execution.failure
        for old, new in zip(self.before, states, strict=True):
            assert old == new or old == "running" or (old == "waiting" and new in ("running", "done"))
        self.before = list(states)


TestExecutions = Executions.TestCase
TestExecutions.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
