"""A robot that is told to move and stands, in a time of the test's own."""

from __future__ import annotations

import pytest

from spec_decode_ros.robots.follow_watch import PATIENCE_S, FollowWatch

STEP_S = 0.05


def drive(watch: FollowWatch, start: float, seconds: float, told: float, does: float | None) -> float:
    """Tell a speed and hear what the robot does (None: nothing is heard); the end."""
    for step in range(round(seconds / STEP_S)):
        now = start + step * STEP_S
        if does is not None:
            watch.odometry(does, 0.0, now)
        watch.told(told, 0.0, now)
    return start + seconds


def test_a_robot_that_follows_is_no_news() -> None:
    watch = FollowWatch()
    end = drive(watch, 0.0, 10.0, told=0.4, does=0.38)
    assert watch.stands_s(end) == 0.0


def test_a_robot_that_stands_though_told_to_move_is_noticed_and_its_first_step_ends_it() -> None:
    watch = FollowWatch()
    end = drive(watch, 0.0, PATIENCE_S - 0.2, told=0.4, does=0.01)
    assert watch.stands_s(end) == 0.0, "legs take their time"
    end = drive(watch, end, 2.0, told=0.4, does=0.01)
    assert watch.stands_s(end) == pytest.approx(PATIENCE_S + 1.8, abs=2 * STEP_S)
    end = drive(watch, end, 0.2, told=0.4, does=0.3)
    assert watch.stands_s(end) == 0.0


def test_a_robot_that_is_told_to_stand_stands() -> None:
    watch = FollowWatch()
    end = drive(watch, 0.0, 10.0, told=0.0, does=0.0)
    assert watch.stands_s(end) == 0.0
    end = drive(watch, end, 10.0, told=0.06, does=0.0)
    assert watch.stands_s(end) == 0.0, "so slow that odometry could not tell"


def test_a_halt_between_two_actions_does_not_begin_anew() -> None:
    watch = FollowWatch()
    end = 0.0
    for _ in range(5):
        end = drive(watch, end, 0.4, told=0.4, does=0.0)
        end = drive(watch, end, 0.2, told=0.0, does=0.0)
    assert watch.stands_s(end) > 0.0
    end = drive(watch, end, 2.0, told=0.0, does=0.0)
    assert watch.stands_s(end) == 0.0


def test_without_odometry_nothing_is_known() -> None:
    watch = FollowWatch()
    assert watch.stands_s(drive(watch, 0.0, 10.0, told=0.4, does=None)) == 0.0
    end = drive(watch, 10.0, 1.0, told=0.4, does=0.0)
    end = drive(watch, end, 5.0, told=0.4, does=None)
    assert watch.stands_s(end) == 0.0, "what was heard last is too old"
