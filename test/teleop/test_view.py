"""Colours that can be read in the sun, and texts for every state of the robot."""

from __future__ import annotations

import pytest

pytest.importorskip("rich", reason="rich is not installed")

from spec_decode_ros.teleop import view
from spec_decode_ros.teleop.palette import BANNER, NIGHT, PAPER, TOKEN
from spec_decode_ros.teleop.port import PartReport, PlanReport, PlanText, Velocity
from spec_decode_ros.teleop.robot_status import ANSWER_S, BannerKind, RobotStatus
from spec_decode_ros.viz.contrast import contrast, text_on
from spec_decode_ros.viz.decoded_action import DecodedAction, Piece


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("ground", [*TOKEN.values(), *BANNER.values(), PAPER.calm, NIGHT.calm])
def test_text_on_every_ground_meets_the_standard_for_small_text(ground):
    assert contrast(text_on(ground), ground) >= 4.5


@pytest.mark.parametrize("palette", [PAPER, NIGHT])
def test_ink_of_every_strength_meets_it_too(palette):
    for ink in (palette.ink, palette.muted, palette.alarm):
        assert contrast(ink, palette.ground) >= 4.5


def test_outcomes_differ_without_colour():
    answer = DecodedAction(
        "", tuple(Piece(outcome, outcome) for outcome in ("accepted", "recovered", "unverified")), "verified"
    )
    status = RobotStatus()
    status.take(answer, 0.0)
    text = view.answers(status, PAPER, 0.0, 80, 4)
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    assert "underline" in styles["recovered"]
    assert "italic" in styles["unverified"]
    assert "underline" not in styles["accepted"]


@pytest.mark.parametrize(
    ("rtt", "connected", "word", "bars"),
    [
        ("20", "True", "good", 4),
        ("120", "True", "fair", 3),
        ("250", "True", "slow", 2),
        ("900", "True", "poor", 1),
        ("", "True", "connecting", 1),
        ("20", "False", "cloud gone", 0),
    ],
)
def test_the_link_in_words_and_bars(rtt, connected, word, bars):
    status = RobotStatus()
    status.take(PartReport("drafter", 0, "", {"connected": connected, "rtt_ms": rtt}), 0.0)
    link = status.link(0.0)
    assert (link.word, link.bars) == (word, bars)


@pytest.mark.parametrize(
    ("values", "velocity", "kind"),
    [
        ({"state": "idle"}, None, BannerKind.RESTING),
        ({"state": "verified action"}, Velocity(0.4, 0.0), BannerKind.MOVING),
        ({"state": "verified action"}, Velocity(0.0, 0.0), BannerKind.RESTING),
        ({"state": "unverified action"}, Velocity(0.2, 0.0), BannerKind.UNVERIFIED),
        ({"state": "held", "holds": "operator"}, Velocity(0.0, 0.0), BannerKind.STOPPED),
        ({"state": "held", "holds": "start, sitting"}, Velocity(0.0, 0.0), BannerKind.STOPPED),
        ({"state": "held", "holds": "start"}, Velocity(0.0, 0.0), BannerKind.RESTING),
        ({"state": "emergency stop", "emergency_stop": "True"}, Velocity(0.0, 0.0), BannerKind.EMERGENCY),
        ({"state": "a state of next year"}, Velocity(0.0, 0.0), BannerKind.RESTING),
        ({}, None, BannerKind.RESTING),
    ],
)
def test_the_banner_for_every_state_of_the_guard(values, velocity, kind):
    status = RobotStatus()
    status.take(PartReport("motion", 0, "because", values), 0.0)
    if velocity:
        status.take(velocity, 0.0)
    assert status.banner(0.0).kind is kind


def test_a_motion_node_that_is_silent_on_purpose_sends_zero():
    status = RobotStatus()
    status.take(Velocity(0.0, 0.0), 0.0)
    assert status.velocity(5.0) is None, "nothing is heard, and nobody says why"
    status.take(PartReport("motion", 0, "stands", {"silent": "True"}), 5.0)
    assert status.velocity(5.0) == Velocity(0.0, 0.0)
    status.take(Velocity(0.4, 0.0), 5.1)
    assert status.velocity(5.1) == Velocity(0.4, 0.0)
    assert status.velocity(9.0) is None, "it is gone"


def test_an_answer_that_no_longer_counts_stands_with_the_old_ones():
    status = RobotStatus()
    status.take(DecodedAction("", (Piece("vx 0.4", "accepted"),), "verified"), 0.0)
    assert view.answers(status, PAPER, ANSWER_S, 80, 4).plain.splitlines()[1] == "verified   vx 0.4"
    old = view.answers(status, PAPER, ANSWER_S + 0.1, 80, 4)
    assert old.plain.splitlines()[1:] == ["verified   ·", "           vx 0.4"]
    assert not any(" on " in str(span.style) for span in old.spans)


def planned(*steps: tuple[str, str], summary: str = "", urgent: bool = False) -> RobotStatus:
    status = RobotStatus()
    status.take(PartReport("planner", 0, ""), 0.0)
    status.take(PlanReport("off you go", summary, steps, urgent), 0.0)
    return status


def test_a_plan_is_its_sentence_its_steps_and_its_tokens():
    status = planned(("sit down", "done"), ("stand up", "running"), ("turn left 90 degrees", "waiting"))
    pieces = (Piece("sit", "accepted"), Piece(" down", "recovered"))
    status.take(PlanText(DecodedAction("off you go", pieces, "verified")), 0.0)
    lines = view.plan(status, PAPER, 0.0, 80, 3).plain.splitlines()
    assert lines == [
        "said       off you go",
        "steps      ✓ sit down · ▶ stand up · turn left 90 degrees",
        "plan       sit down",
    ]
    assert view.plan(status, PAPER, 0.0, 80, 1).plain == lines[1]
    assert view.plan(status, PAPER, 0.0, 50, 1).plain == "steps      ✓ 1 of 3 · ▶ stand up · turn left 90 d…"
    assert "nothing is heard from the planner" in view.plan(status, PAPER, 9.0, 80, 1).plain
    status.take(PlanReport("another sentence", "planning"), 0.0)
    assert view.plan(status, PAPER, 0.0, 80, 3).plain.splitlines()[1:] == [
        "steps      planning",
        "plan       ·",
    ]


def test_a_step_that_failed_says_how():
    status = planned(("go to the red chair", "not found"), ("sit down", "waiting"), urgent=True)
    text = view.plan(status, PAPER, 0.0, 80, 1)
    assert text.plain == "steps      ✗ go to the red chair: not found · sit down"
    assert any(PAPER.alarm in str(span.style) for span in text.spans)


def test_the_plans_summary_is_logged_once():
    status = planned(("sit down", "running"), summary="step 1 of 1: sit down")
    status.take(status.plan, 1.0)
    status.take(PlanReport("off you go", "sit down: blocked", (("sit down", "blocked"),), True), 2.0)
    assert [(line.kind, line.text) for line in status.log] == [
        ("robot", "step 1 of 1: sit down"),
        ("alarm", "sit down: blocked"),
    ]
    assert view.plan(RobotStatus(), PAPER, 0.0, 80, 3).plain == ""


def test_a_long_line_of_the_log_goes_on_below_itself():
    status = RobotStatus()
    status.note(0.0, "you", "sit down")
    status.note(0.0, "alarm", "the verifier at tcp://192.0.2.7:5555 does not answer: the draft model drives")
    rows = view.log(status, PAPER, 60, 5, ["12:00:00"] * 2).plain.splitlines()
    assert rows == [
        "you   sit down",
        "!     the verifier at tcp://192.0.2.7:5555 does not answer:",
        "      the draft model drives",
    ]
    assert view.log(status, PAPER, 60, 2, ["12:00:00"] * 2).plain.splitlines() == rows[1:]
    assert view.log(status, PAPER, 60, 0, ["12:00:00"] * 2).plain == ""


def test_the_troubles_of_a_part_are_logged_once_and_their_end_too():
    status = RobotStatus()
    for level, message in (
        (0, "deciding"),
        (1, "frame 0.6 s old"),
        (1, "frame 0.7 s old"),
        (2, "gone"),
        (0, "deciding"),
    ):
        status.take(PartReport("drafter", level, message, {}), 0.0)
    assert [(line.kind, line.text) for line in status.log] == [
        ("note", "drafter: frame 0.6 s old"),
        ("alarm", "drafter: gone"),
        ("note", "drafter: deciding"),
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("87", 87.0), ("87 %", 87.0), ("nan", None), ("inf", None), ("", None), ("300", None), ("full", None)],
)
def test_the_battery_is_shown_if_it_makes_sense(value, shown):
    status = RobotStatus()
    status.take(PartReport("motion", 0, "", {"battery_percent": value}), 0.0)
    assert status.battery(1.0) == shown


@pytest.mark.parametrize("width", [1, 5, 20, 60, 200])
def test_every_part_fits_every_width(width):
    status = RobotStatus()
    status.take(
        PartReport("motion", 0, "x" * 300, {"state": "verified action", "battery_percent": "50"}), 0.0
    )
    status.take(
        PartReport("drafter", 0, "", {"connected": "True", "rtt_ms": "62", "acceptance_rate": "1"}), 0.0
    )
    status.take(Velocity(-9.0, 9.0), 0.0)
    status.take(DecodedAction("", (Piece("界" * 200, "bonus"),), "verified", "a problem " * 30), 0.0)
    for part in (
        view.answers(status, PAPER, 0.0, width, 3),
        view.banner(status, PAPER, 0.0, width, high=True),
        view.legend(PAPER, width),
        view.log(status, PAPER, width, 3, ["12:00:00"] * len(status.log)),
        view.options(["walk to the"], PAPER, width),
        view.footer([("ESC", "stop")], PAPER, width),
    ):
        assert all(line.cell_len <= width for line in part.split("\n"))
