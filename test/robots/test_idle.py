"""How long a stop is said, in a time of the test's own."""

from __future__ import annotations

import math

import pytest

from spec_decode_ros.robots.guard_types import MotionOutput, MotionState
from spec_decode_ros.robots.idle import FOUND_S, SAY_S, IdleOutput

ZERO = MotionOutput(0.0, 0.0, MotionState.STOPPED, "")
WALK = MotionOutput(0.4, 0.0, MotionState.VERIFIED, "")
EMERGENCY = MotionOutput(0.0, 0.0, MotionState.EMERGENCY, "")
STEP_S = 0.05


def said(idle: IdleOutput, output: MotionOutput, start: float, seconds: float) -> list[bool]:
    """Whether each step from start on was said."""
    return [idle.says(output, start + step * STEP_S) for step in range(round(seconds / STEP_S))]


def long_said(idle: IdleOutput, output: MotionOutput, start: float) -> float:
    """Seconds until silence, of ten that were tried."""
    steps = said(idle, output, start, 10.0)
    assert steps == sorted(steps, reverse=True), "once silent, it stays so"
    return sum(steps) * STEP_S


def test_a_stop_is_said_for_a_second_and_then_there_is_silence() -> None:
    idle = IdleOutput("silent")
    assert all(said(idle, WALK, 0.0, 5.0))
    assert long_said(idle, ZERO, 5.0) == pytest.approx(SAY_S, abs=2 * STEP_S)
    assert idle.silent


def test_a_node_that_starts_says_stop_until_every_listener_can_have_been_found() -> None:
    assert long_said(IdleOutput("silent"), ZERO, 7.0) == pytest.approx(FOUND_S + SAY_S, abs=2 * STEP_S)


def test_a_stop_that_nobody_heard_is_not_said_yet() -> None:
    idle = IdleOutput("silent")
    assert all(idle.says(ZERO, step * STEP_S, heard=False) for step in range(100))
    assert long_said(idle, ZERO, 5.0) == pytest.approx(FOUND_S + SAY_S, abs=2 * STEP_S)
    # The driver is started again.
    assert idle.says(ZERO, 16.0, heard=False)
    assert long_said(idle, ZERO, 16.0) == pytest.approx(FOUND_S + SAY_S, abs=2 * STEP_S)


def test_zeros_for_ever_where_that_is_wanted() -> None:
    assert all(said(IdleOutput("zeros"), ZERO, 0.0, 10.0))


def test_an_emergency_stop_is_said_until_it_is_released() -> None:
    idle = IdleOutput("silent")
    said(idle, ZERO, -7.0, 10.0)
    assert idle.silent
    assert all(said(idle, EMERGENCY, 3.0, 60.0))
    assert long_said(idle, ZERO, 63.0) == pytest.approx(SAY_S, abs=2 * STEP_S)


def test_a_robot_that_still_moves_is_told_to_stop_until_it_stands() -> None:
    idle = IdleOutput("silent")
    said(idle, WALK, 0.0, 1.0)
    idle.odometry(0.0, 0.0, 0.3)
    assert all(said(idle, ZERO, 1.0, 20.0))
    idle.odometry(0.01, 0.01, 0.02)
    assert long_said(idle, ZERO, 21.0) == pytest.approx(SAY_S, abs=2 * STEP_S)


def test_odometry_without_a_number_is_no_standing_robot() -> None:
    idle = IdleOutput("silent")
    idle.odometry(math.nan, 0.0, 0.0)
    assert all(said(idle, ZERO, 0.0, 10.0))


def test_motion_that_somebody_else_asked_for_does_not_end_the_silence() -> None:
    idle = IdleOutput("silent")
    said(idle, ZERO, -7.0, 10.0)
    idle.odometry(0.5, 0.0, 0.0)
    assert not any(said(idle, ZERO, 3.0, 10.0))


def test_a_new_stop_ends_the_silence_and_holds_until_the_robot_stands() -> None:
    idle = IdleOutput("silent")
    said(idle, ZERO, -7.0, 10.0)
    idle.odometry(0.5, 0.0, 0.0)
    idle.stop(4.0)
    assert all(said(idle, ZERO, 4.0, 10.0))
    idle.odometry(0.0, 0.0, 0.0)
    assert long_said(idle, ZERO, 14.0) == pytest.approx(SAY_S, abs=2 * STEP_S)


def test_every_velocity_is_said() -> None:
    idle = IdleOutput("silent")
    said(idle, ZERO, -7.0, 10.0)
    assert idle.says(WALK, 3.0)
    assert not idle.silent
