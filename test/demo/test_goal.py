"""A mission is over when the robot stands in front of the right thing and says so; everything else is no success."""

from __future__ import annotations

import pytest

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.body import BodyState
from spec_decode_ros.lab.demo.goal import GoalWatch, MissionGoal, MissionResult
from spec_decode_ros.sim.scene import Scene, SceneObject

SCENE = Scene((SceneObject("red", "chair", 2.0, 0.0), SceneObject("blue", "box", 0.0, 2.0)))
GOAL = MissionGoal(SCENE, "red chair", "go to the red chair", time_out_s=20.0)
AT_CHAIR = (1.1, 0.0, 0.0)
AT_BOX = (0.0, 1.1, 1.5708)
REACHED = "vx 0.0 wz 0.0 | red chair reached"


def watch(
    *events: tuple[float, tuple[float, float, float], float, str | None], goal: MissionGoal = GOAL
) -> MissionResult | None:
    """Feed (time, pose, speed, text said just before)."""
    watching = GoalWatch(goal)
    for now, pose, speed, text in events:
        if text is not None:
            watching.said(text)
        outcome = watching.moved(BodyState(now, *pose, 0.3, speed, 0.0))
        if outcome is not None:
            return outcome
    return None


def test_standing_at_the_target_and_saying_so_is_success():
    outcome = watch((0.0, AT_CHAIR, 0.0, REACHED), (0.5, AT_CHAIR, 0.0, REACHED), (1.0, AT_CHAIR, 0.0, None))
    assert outcome is not None
    assert outcome.success
    assert outcome.distance_m == pytest.approx(2.0 - 0.22 - 1.1 - 0.33)
    assert outcome.facing_deg == pytest.approx(0.0)


def test_it_must_stand_for_a_while():
    assert watch((0.0, AT_CHAIR, 0.0, REACHED), (0.9, AT_CHAIR, 0.0, None)) is None
    assert (
        watch((0.0, AT_CHAIR, 0.0, REACHED), (0.9, AT_CHAIR, 0.3, None), (1.5, AT_CHAIR, 0.0, None)) is None
    )


def test_standing_there_without_the_word_is_not_the_end():
    said = "vx 0.0 wz 0.0 | red chair ahead 0.5"
    assert watch((0.0, AT_CHAIR, 0.0, said), (5.0, AT_CHAIR, 0.0, said)) is None


def test_taking_the_word_back_begins_anew():
    events = [(0.0, AT_CHAIR, 0.0, REACHED), (0.9, AT_CHAIR, 0.0, "vx 0.0 wz 0.2 | red chair left 0.6")]
    assert watch(*events, (1.2, AT_CHAIR, 0.0, REACHED), (2.0, AT_CHAIR, 0.0, None)) is None


@pytest.mark.parametrize(
    ("pose", "text", "reason"),
    [
        (AT_BOX, REACHED, "stopped at the blue box"),
        ((0.2, 0.0, 0.0), REACHED, "stopped 1.2 m away"),
        ((1.1, 0.0, 1.0), REACHED, "degrees past it"),
        (AT_CHAIR, "vx 0.0 wz 0.0 | red chair not found", "gave up: red chair not found"),
        (AT_CHAIR, "vx 0.0 wz 0.0 | not understood", "gave up: not understood"),
    ],
)
def test_ends_that_are_no_success(pose: tuple[float, float, float], text: str, reason: str):
    outcome = watch((0.0, pose, 0.0, text), (1.0, pose, 0.0, None))
    assert outcome is not None
    assert not outcome.success
    assert reason in outcome.reason


def test_time_out_counts_from_the_first_news():
    walking = (0.0, 0.0, 0.0)
    assert watch((100.0, walking, 0.4, None), (119.9, walking, 0.4, None)) is None
    outcome = watch((100.0, walking, 0.4, None), (120.0, walking, 0.4, None))
    assert outcome is not None
    assert not outcome.success
    assert outcome.reason == "not there after 20 s"


def test_a_goal_that_is_not_in_the_room_is_refused():
    with pytest.raises(SpecDecodeError, match="red chair, blue box"):
        MissionGoal(SCENE, "green ball", "go to the green ball")
    with pytest.raises(SpecDecodeError, match="time-out"):
        MissionGoal(SCENE, "red chair", "go to the red chair", time_out_s=0.0)
