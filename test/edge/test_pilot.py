"""The pilot: memory, early velocities, rest. No ROS and no model."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spec_decode_ros.actions.action import STOP
from spec_decode_ros.edge.odometer import Travel
from spec_decode_ros.edge.pilot import Pilot
from spec_decode_ros.edge.runtime import ActionFailed, ActionResult, Progress


class Script:
    """A runtime that answers what it is told to and shows the texts on the way: (text, committed text)."""

    def __init__(
        self,
        *answers: str,
        verified: bool = True,
        complete: bool = True,
        shown: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.answers = list(answers)
        self.verified, self.complete = verified, complete
        self.shown = shown
        self.prompts: list[str] = []
        self.last_tokens: list[tuple[int, ...]] = []

    def act(self, prompt, images=(), last_tokens=(), *, sampling=None, on_event=None, captured=None):
        self.prompts.append(prompt)
        self.last_tokens.append(tuple(last_tokens))
        for text, committed in self.shown:
            on_event(Progress((), 0, text, committed, False, 0.0))
        text = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if text == "fail":
            raise ActionFailed("no answer")
        tokens = tuple(range(len(self.prompts)))
        return ActionResult(tokens, text, self.verified, self.complete, (), {}, ())


WALK = "vx 0.4 wz 0.0 | red chair ahead 2.0"
NEARER = "vx 0.4 wz 0.0 | red chair ahead 1.0"
REACHED = "vx 0.0 wz 0.0 | red chair reached"


def test_each_decision_is_told_of_the_last_one_until_the_command_changes():
    runtime = Script(WALK, NEARER, NEARER)
    pilot = Pilot(runtime)
    pilot.set_command("Go to the red chair")
    assert pilot.decide(b"").action.vx == 0.4
    pilot.decide(b"")
    pilot.set_command("turn left")
    pilot.decide(b"")
    assert runtime.prompts == [
        "go to the red chair | last none",
        f"go to the red chair | last {WALK}",
        "turn left | last none",
    ]
    assert runtime.last_tokens == [(), (0,), ()]


def test_what_is_no_action_is_reported_and_not_remembered():
    runtime = Script("vx 9 | nonsense", WALK)
    pilot = Pilot(runtime, command="go")
    decision = pilot.decide(b"")
    assert decision.action is None
    assert "is not of the form" in decision.problem
    pilot.decide(b"")
    assert runtime.prompts[1].endswith("| last none")


def test_an_answer_that_the_deadline_cut_off_says_so():
    decision = Pilot(Script("vx 0.4 wz", verified=False, complete=False), command="go").decide(b"")
    assert decision.action is None
    assert "deadline" in decision.problem


def test_velocities_are_told_once_as_a_draft_and_once_confirmed():
    shown = [("vx 0.4", ""), ("vx 0.4 wz 0.2 | red", ""), ("vx 0.4 wz 0.2 | red chair", "vx 0.4"),
             ("vx 0.4 wz -0.2 | red", "vx 0.4 wz -0.2 | red"), (WALK, "vx 0.4 wz -0.2 | red")]  # fmt: skip
    told = []
    Pilot(Script(WALK, shown=shown), command="go").decide(b"", lambda *news: told.append(news))
    assert told == [(0.4, 0.2, False), (0.4, -0.2, True)]


def test_it_rests_after_equal_verified_standing_actions_and_wakes_with_any_command():
    pilot = Pilot(Script(WALK, REACHED), rest_after=3)
    pilot.set_command("go to the red chair")
    rests = []
    for _ in range(4):
        pilot.decide(b"")
        rests.append(pilot.resting)
    assert rests == [False, False, False, True]
    pilot.set_command("go to the red chair")
    assert not pilot.resting


@pytest.mark.parametrize("options", [{"rest_after": 0}, {"verified": False}])
def test_it_does_not_rest_when_told_not_to_or_on_drafts(options):
    runtime = Script(REACHED, verified=options.pop("verified", True))
    pilot = Pilot(runtime, command="go", **{"rest_after": 2, **options})
    for _ in range(5):
        pilot.decide(b"")
    assert not pilot.resting


def test_a_failure_is_passed_on_and_the_memory_kept():
    runtime = Script(WALK, "fail", WALK)
    pilot = Pilot(runtime, command="go")
    pilot.decide(b"")
    with pytest.raises(ActionFailed):
        pilot.decide(b"")
    pilot.decide(b"")
    assert runtime.prompts[2].endswith(f"| last {WALK}")


@pytest.mark.parametrize("command", ["", "stop right now", "don’t move", "don't go to the red chair"])
def test_a_stop_asks_no_model(command):
    runtime = Script(WALK)
    pilot = Pilot(runtime)
    pilot.set_command(command)
    told = []
    decision = pilot.decide(b"", lambda *news: told.append(news))
    assert (decision.action, decision.result.text) == (STOP, "vx 0.0 wz 0.0 | stopped")
    assert not decision.result.verified, "verified is only what the target said"
    assert not runtime.prompts
    assert pilot.resting
    pilot.set_command("go to the red chair")
    assert pilot.decide(b"").action.moves
    assert runtime.prompts == ["go to the red chair | last none"]


def test_a_number_that_the_pair_does_not_know_is_not_understood_and_says_which_it_knows():
    pilot = Pilot(Script(WALK))
    pilot.set_command("walk forward 12 meters")
    decision = pilot.decide(b"")
    assert decision.result.text == "vx 0.0 wz 0.0 | not understood"
    assert "0.5 to 5 metres" in decision.problem
    instructed = Script(WALK)
    Pilot(instructed, "instructed", command="walk forward 12 meters").decide(b"")
    assert "walk forward 12 meters" in instructed.prompts[0]


def test_an_answer_that_says_stopped_and_turns_stands_and_says_why():
    decision = Pilot(Script("vx 0.0 wz -0.8 | stopped"), command="go").decide(b"")
    assert not decision.action.moves
    assert "asks to move; the robot stands" in decision.problem


def test_a_note_that_counts_is_told_as_odometry_has_it():
    turning = "vx 0.0 wz 0.8 | turning {}"
    runtime = Script(turning.format(90), turning.format(75), turning.format(60))
    pilot = Pilot(runtime, command="turn left 90 degrees")
    told = [pilot.decide(b"", travel=Travel(turned, 0.0)).last_action for turned in (0.0, 0.05, 0.8)]
    assert told == [None, turning.format(90), turning.format(60)]
    assert runtime.prompts[2].endswith(f"| last {turning.format(60)}")
    pilot.set_command("turn left")
    assert pilot.decide(b"", travel=Travel(0.9, 0.0)).last_action is None
