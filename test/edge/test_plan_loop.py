"""The plan loop with a planner that answers when the test lets it: what is sent when, and what is not sent any more."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spec_decode_ros.actions.action import Action, parse_action
from spec_decode_ros.actions.plan import PlanError, parse_plan
from spec_decode_ros.edge.outcome import ActionCancelled, ActionFailed, ActionResult
from spec_decode_ros.edge.plan_execution import POSTURE_S
from spec_decode_ros.edge.plan_loop import NO, YES, PlanLoop, PlanStatus
from spec_decode_ros.edge.planner import Planned
from spec_decode_ros.robots.reflex import is_stop

WAIT_S = 20.0
PLAN = "go to the red chair; turn left 90 degrees"
WALKING = parse_action("vx 0.4 wz 0.0 | red chair ahead 2.0")
REACHED = parse_action("vx 0.0 wz 0.0 | red chair reached")
DONE = parse_action("vx 0.0 wz 0.0 | done")


class Rig:
    """A loop, what it sends, and a planner in its hands.

    As with `EdgeRuntime.cancel`, a cancel ends the decoding that runs when it comes, and none that begins later.
    """

    def __init__(self, *, goals: str = "any", trusts_draft: bool = False, heeds_cancel: bool = True) -> None:
        self.now = 0.0
        self.steps: list[str] = []
        self.statuses: list[PlanStatus] = []
        self.planned: list[Planned] = []
        self.progress: list[tuple[str, str, str]] = []
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self._answers: queue.Queue[tuple[str | Exception, bool]] | None = None
        self._heeds_cancel = heeds_cancel
        self.before_decoding: Callable[[], None] = lambda: None
        self.loop = PlanLoop(self, self.cancel, goals, trusts_draft, self, lambda: self.now)

    # -- the planner ----------------------------------------------------------------------------------------

    def plan(self, sentence: str, on_text: Callable[[str, str], None]) -> Planned:
        self.before_decoding()
        self._answers = answers = queue.Queue()
        self.begun.append(sentence)
        on_text("", "go to")
        text, verified = answers.get(timeout=WAIT_S)
        self._answers = None
        if isinstance(text, ActionCancelled):
            self.cancelled.append(sentence)
        if isinstance(text, Exception):
            raise text
        on_text(text, text)
        result = ActionResult((1,), text, verified, True, ("accepted",), {}, ())
        try:
            return Planned(sentence, result, parse_plan(text))
        except PlanError as error:
            return Planned(sentence, result, None, str(error))

    def cancel(self) -> None:
        answers = self._answers
        if answers is not None and self._heeds_cancel:
            answers.put((ActionCancelled("The action was cancelled."), False))

    def answer(self, text: str | Exception, verified: bool = True) -> None:
        """Let the decoding that runs end."""
        assert self._answers is not None
        self._answers.put((text, verified))

    # -- the output -----------------------------------------------------------------------------------------

    def send_step(self, text: str) -> None:
        self.steps.append(text)

    def send_status(self, status: PlanStatus) -> None:
        self.statuses.append(status)

    def send_progress(self, sentence: str, committed: str, text: str) -> None:
        self.progress.append((sentence, committed, text))

    def send_planned(self, planned: Planned) -> None:
        self.planned.append(planned)

    # -- the test -------------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, (what, self.steps, self.statuses)
            time.sleep(0.001)

    def say(self, sentence: str) -> None:
        """Say a sentence and wait until it is being decoded."""
        self.loop.take_command(sentence)
        self.wait(lambda: self.begun[-1:] == [sentence] and self._answers is not None, f"decoding {sentence}")

    def run(self, sentence: str, plan: str, verified: bool = True) -> None:
        """Say a sentence and wait until its plan is there."""
        count = len(self.planned)
        self.say(sentence)
        self.answer(plan, verified)
        self.wait(lambda: len(self.planned) > count and self.summary != "planning", f"the plan of {sentence}")

    @property
    def summary(self) -> str:
        return self.loop.status.summary

    @property
    def states(self) -> list[str]:
        return [state for _, state in self.loop.status.steps]


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    rigs: list[Rig] = []

    def rig(**options: object) -> Rig:
        rigs.append(Rig(**options))
        rigs[-1].loop.start()
        return rigs[-1]

    yield rig
    for each in rigs:
        if each._answers is not None:
            each.answer(ActionCancelled("the test is over"))
        each.loop.close()


def test_a_sentence_becomes_steps_that_follow_one_another(make):
    rig = make()
    assert rig.loop.status == PlanStatus()
    rig.run("off to the chair and have a look at the left", PLAN)
    assert rig.steps == ["stop", "go to the red chair"]
    assert rig.summary == "step 1 of 2: go to the red chair"
    assert rig.loop.status.steps == (("go to the red chair", "running"), ("turn left 90 degrees", "waiting"))
    assert rig.loop.status.verified
    rig.loop.take_action("go to the red chair", REACHED)
    assert rig.steps[2:] == ["turn left 90 degrees"]
    rig.loop.take_action("go to the red chair", REACHED)
    rig.loop.take_action("turn left 90 degrees", DONE)
    assert rig.states == ["done", "running"], "late and early actions end nothing"
    rig.loop.take_action("turn left 90 degrees", WALKING)
    rig.loop.take_action("turn left 90 degrees", DONE)
    assert rig.summary == "done"
    assert rig.states == ["done", "done"]
    assert not rig.loop.status.ended_badly
    assert rig.steps[3:] == []
    texts = [text for _, _, text in rig.progress]
    assert texts == ["go to", PLAN]


def test_the_same_step_twice_is_told_apart_by_a_stop(make):
    rig = make()
    rig.run("twice", "turn left 90 degrees; turn left 90 degrees")
    rig.loop.take_action("turn left 90 degrees", WALKING)
    rig.loop.take_action("turn left 90 degrees", DONE)
    assert rig.steps == ["stop", "turn left 90 degrees", "stop", "turn left 90 degrees"]


def test_a_new_sentence_replaces_the_plan_and_the_robot_stands_meanwhile(make):
    rig = make()
    rig.run("first", PLAN)
    rig.say("second")
    assert rig.steps == ["stop", "go to the red chair", "stop"]
    assert [status.summary for status in rig.statuses[-2:]] == ["go to the red chair: stopped", "planning"]
    rig.loop.take_action("go to the red chair", REACHED)
    assert rig.steps[3:] == []
    rig.answer("sit down")
    rig.wait(lambda: rig.states == ["running"], "the second plan")
    assert rig.steps[3:] == ["sit down"]


def test_a_new_sentence_ends_the_decoding_of_the_old_one_and_not_its_own(make):
    rig = make()
    for number in range(50):
        rig.say(f"sentence {number}")
    assert rig.cancelled == [f"sentence {number}" for number in range(49)]
    rig.answer(PLAN)
    rig.wait(lambda: rig.states, "the last plan")
    assert rig.loop.status.sentence == "sentence 49"
    assert len(rig.planned) == 1


def test_a_decoding_that_was_about_to_begin_is_ended_by_the_next_tick(make):
    rig = make()
    arrived, go_on = threading.Event(), threading.Event()

    def about_to_begin() -> None:
        arrived.set()
        assert go_on.wait(WAIT_S)

    rig.before_decoding = about_to_begin
    rig.loop.take_command("old")
    assert arrived.wait(WAIT_S)
    rig.loop.take_command("new")
    go_on.set()
    rig.wait(lambda: rig.begun == ["old"], "the decoding that nothing has ended yet")

    def ended() -> bool:
        rig.loop.tick()
        return rig.cancelled == ["old"] and rig.begun == ["old", "new"]

    rig.wait(ended, "the end of the old decoding")
    rig.loop.tick()
    rig.answer("sit down")
    rig.wait(lambda: rig.states == ["running"], "the plan")


@pytest.mark.parametrize("word", ["stop", "Please halt!", "don't move", ""])
def test_a_stop_ends_the_plan_at_once(make, word):
    rig = make()
    rig.run("go", PLAN)
    rig.loop.take_command(word)
    assert rig.steps[2:] == ["stop"]
    assert rig.loop.status == PlanStatus(word, "stopped")
    assert rig.statuses[-2].steps == (("go to the red chair", "stopped"), ("turn left 90 degrees", "waiting"))
    rig.loop.take_action("go to the red chair", REACHED)
    assert rig.steps[3:] == []


def test_a_stop_does_not_wait_for_a_planning_that_hangs(make):
    rig = make(heeds_cancel=False)
    rig.say("go")
    rig.loop.take_command("stop")
    assert rig.steps == ["stop", "stop"]
    assert rig.summary == "stopped"
    rig.loop.take_command("sit down, please")
    assert rig.summary == "planning"
    count = len(rig.progress)
    rig.answer(PLAN)
    rig.wait(lambda: rig.begun == ["go", "sit down, please"], "the next decoding")
    assert rig.planned == [], "what was planned for a sentence of the past is dropped"
    assert [sentence for sentence, _, _ in rig.progress[count:]] in ([], ["sit down, please"])
    rig.answer("sit down")
    rig.wait(lambda: rig.states == ["running"], "the plan")
    assert rig.steps[3:] == ["sit down"]


@pytest.mark.parametrize("note", ["red chair not found", "blocked", "refused", "not understood"])
def test_a_step_that_fails_ends_the_plan_and_stops_the_robot(make, note):
    rig = make()
    rig.run("go", PLAN)
    rig.loop.take_action("go to the red chair", Action(0.0, 0.0, note))
    assert rig.steps[2:] == ["stop"]
    failure = note.removeprefix("red chair ")
    assert rig.summary == f"go to the red chair: {failure}"
    assert rig.states == [failure, "waiting"]
    assert rig.loop.status.ended_badly
    rig.loop.take_action("go to the red chair", REACHED)
    assert rig.steps[3:] == []


def test_a_posture_ends_with_the_clock(make):
    rig = make()
    rig.run("rest a little", "sit down; stand up")
    sitting = Action(0.0, 0.0, "sit down")
    rig.loop.take_action("sit down", sitting, verified=False)
    rig.now += 100.0
    rig.loop.tick()
    assert rig.states == ["running", "waiting"]
    rig.loop.take_action("sit down", sitting)
    rig.now += 0.9 * POSTURE_S
    rig.loop.tick()
    assert rig.states == ["running", "waiting"]
    rig.now += 0.2 * POSTURE_S
    rig.loop.tick()
    assert rig.states == ["done", "running"]
    assert rig.steps[-1] == "stand up"


def test_an_unverified_plan_waits_for_a_yes(make):
    rig = make()
    rig.run("go", PLAN, verified=False)
    assert rig.steps == ["stop"]
    assert "say yes" in rig.summary
    assert rig.states == ["waiting", "waiting"]
    assert rig.loop.status.ended_badly
    assert rig.loop.status.verified is False
    rig.loop.take_action("go to the red chair", REACHED)
    rig.loop.take_command("Yes, please!")
    assert rig.steps[1:] == ["go to the red chair"]
    rig.loop.take_command("yes")
    assert rig.steps[2:] == [], "an impatient second yes is no news"
    assert rig.states == ["running", "waiting"]


@pytest.mark.parametrize("word", [*sorted(NO), "stop"])
def test_a_no_drops_an_unverified_plan(make, word):
    rig = make()
    rig.run("go", PLAN, verified=False)
    rig.loop.take_command(word)
    assert rig.summary == "stopped"
    rig.loop.take_command("yes")
    assert rig.steps == ["stop", "stop"]
    assert rig.begun == ["go"]


def test_another_sentence_drops_an_unverified_plan(make):
    rig = make()
    rig.run("go", PLAN, verified=False)
    rig.say("no, sit down instead")
    rig.loop.take_command("yes")
    assert rig.steps == ["stop", "stop"]
    assert rig.summary == "planning", "a yes while another plan is made confirms nothing, and ends nothing"
    rig.answer("sit down", verified=False)
    rig.wait(lambda: "say yes" in rig.summary, "the question")
    assert rig.steps[2:] == []


def test_no_yes_is_a_stop_for_the_motion_node():
    assert not [word for word in YES if is_stop(word)]


def test_a_trusted_draft_and_a_stop_need_no_yes(make):
    trusting = make(trusts_draft=True)
    trusting.run("go", PLAN, verified=False)
    assert trusting.steps == ["stop", "go to the red chair"]
    careful = make()
    careful.run("that will be all for today", "stop", verified=False)
    assert careful.steps == ["stop", "stop"]
    careful.loop.take_action("stop", Action(0.0, 0.0, "stopped"))
    assert careful.summary == "done"


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("refused: it would do harm", "refused: it would do harm"),
        ("not understood", "not understood"),
        ("fly to the moon", "'fly to the moon' is not a step such as 'go to the red chair'"),
    ],
)
def test_what_is_no_plan_is_told_and_moves_nothing(make, text, summary):
    rig = make()
    rig.run("go", text)
    assert rig.summary.startswith(summary)
    assert rig.loop.status.ended_badly
    assert rig.steps == ["stop"]


def test_a_step_that_the_acting_pair_cannot_follow_is_told_before_anything_moves(make):
    rig = make(goals="named")
    rig.run("go", "turn left 90 degrees; go to the nearest box")
    assert "not to the nearest box" in rig.summary
    assert rig.states == ["waiting", "waiting"]
    assert rig.steps == ["stop"]


@pytest.mark.parametrize(
    ("error", "summary"),
    [
        (ActionFailed("The verifier does not answer."), "The verifier does not answer."),
        (ValueError("boom"), "planning failed: ValueError: boom"),
    ],
)
def test_an_exception_is_told_and_the_thread_lives_on(make, error, summary):
    rig = make()
    rig.say("go")
    rig.answer(error)
    rig.wait(lambda: rig.summary == summary, "the error")
    assert rig.loop.status.ended_badly
    rig.run("go", "sit down")
    assert rig.steps[-1] == "sit down"


def test_an_output_that_fails_is_told_and_stops_the_robot(make):
    rig = make()
    rig.send_planned = lambda planned: 1 / 0
    rig.say("go")
    rig.answer(PLAN)
    rig.wait(lambda: "ZeroDivisionError" in rig.summary, "the error")
    assert rig.steps[-1] == "stop"
    del rig.send_planned
    rig.run("go", "sit down")


def test_after_the_end_nothing_is_sent(make):
    rig = make()
    rig.run("go", PLAN)
    rig.loop.close()
    assert rig.steps[2:] == ["stop"], "whoever planned is gone, so the robot stands"
    assert rig.states == ["stopped", "waiting"]
    sent = (len(rig.steps), len(rig.statuses), len(rig.progress), len(rig.planned))
    rig.loop.take_command("go")
    rig.loop.take_command("stop")
    rig.loop.take_action("go to the red chair", REACHED)
    rig.loop.tick()
    rig.loop.close()
    assert (len(rig.steps), len(rig.statuses), len(rig.progress), len(rig.planned)) == sent


@pytest.mark.parametrize("begun", [True, False])
def test_the_end_while_planning_waits_for_nobody(make, begun):
    rig = make()
    if not begun:
        ready = threading.Event()
        # The decoding begins when the first cancel of the end has passed.
        rig.before_decoding = lambda: (ready.set(), time.sleep(0.2))
        rig.loop.take_command("go")
        assert ready.wait(WAIT_S)
    else:
        rig.say("go")
    rig.loop.close()
    assert not rig.loop._thread.is_alive()
    assert rig.cancelled == ["go"]
    assert rig.steps == ["stop", "stop"]
    assert rig.planned == []


def test_a_loop_that_never_began_can_be_closed():
    Rig().loop.close()


ANSWERS = st.sampled_from(
    [PLAN, "sit down", "turn left 90 degrees; turn left 90 degrees", "refused", "nonsense", ActionFailed("x")]
)
NOTES = st.sampled_from(["done", "red chair reached", "stopped", "blocked", "sit down", "walking 1.0"])


class PlanLoops(RuleBasedStateMachine):
    """An operator, a planner and an acting pair who do what they like, each of them one thing at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.rig.loop.start()
        self.number = 0
        self.planning = False
        self.confirmed = False

    @rule()
    def say(self) -> None:
        self.number += 1
        self.rig.say(f"sentence {self.number}")
        self.planning = True
        assert self.rig.steps[-1] == "stop"
        assert self.rig.summary == "planning"

    @rule(word=st.sampled_from(["stop", "no", "halt"]))
    def stop(self, word: str) -> None:
        self.rig.loop.take_command(word)
        self.planning = False
        assert self.rig.steps[-1] == "stop"
        assert self.rig.summary == "stopped"

    @rule()
    def confirm(self) -> None:
        asked, before = "say yes" in self.rig.summary, list(self.rig.steps)
        self.rig.loop.take_command("yes")
        assert (self.rig.steps != before) == asked

    @precondition(lambda self: self.planning)
    @rule(text=ANSWERS, verified=st.booleans())
    def answer(self, text: str | Exception, verified: bool) -> None:
        self.rig.answer(text, verified)
        self.rig.wait(lambda: self.rig.summary != "planning", "the end of the planning")
        self.planning = False
        moved = self.rig.steps[-1] != "stop"
        assert not moved or verified

    @rule(note=NOTES, moves=st.booleans(), late=st.booleans(), verified=st.booleans())
    def act(self, note: str, moves: bool, late: bool, verified: bool) -> None:
        running = next((step for step, state in self.rig.loop.status.steps if state == "running"), "")
        about = "go to the blue ball" if late or not running else running
        before, status = list(self.rig.steps), self.rig.loop.status
        self.rig.loop.take_action(about, Action(0.4 if moves else 0.0, 0.0, note), verified)
        if about != running:
            assert (self.rig.steps, self.rig.loop.status) == (before, status)

    @rule(seconds=st.floats(0.0, 3.0))
    def wait(self, seconds: float) -> None:
        self.rig.now += seconds
        self.rig.loop.tick()

    @invariant()
    def the_acting_pair_has_the_step_that_runs_and_no_other(self) -> None:
        status, sent = self.rig.loop.status, self.rig.steps
        running = [step for step, state in status.steps if state == "running"]
        assert len(running) <= 1
        if running:
            assert sent[-1] == running[0]
        elif sent and status.summary != "done":
            assert sent[-1] == "stop"
        if self.planning:
            assert not status.steps

    def teardown(self) -> None:
        if self.rig._answers is not None:
            self.rig.answer(ActionCancelled("the test is over"))
        self.rig.loop.close()
        assert not self.rig.loop._thread.is_alive()
        assert self.rig.steps[-1] == "stop"


TestPlanLoops = PlanLoops.TestCase
TestPlanLoops.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
