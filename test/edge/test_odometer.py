"""How far the robot has turned and walked, by its odometry."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.edge.odometer import Odometer, Travel


def driven(rate: float, speed: float = 0.0, seconds: float = 4.0, hz: float = 20.0) -> Odometer:
    """Poses of a robot that drives a circle or a line, from stamp 100 on."""
    track = Odometer()
    x = y = yaw = 0.0
    for step in range(round(seconds * hz) + 1):
        track.add(100.0 + step / hz, x, y, math.remainder(yaw, math.tau))
        x += speed / hz * math.cos(yaw + rate / hz / 2)
        y += speed / hz * math.sin(yaw + rate / hz / 2)
        yaw += rate / hz
    return track


@given(st.floats(-2.0, 2.0), st.floats(-0.6, 0.6), st.floats(0.5, 3.9))
def test_turns_and_ways_add_up_beyond_half_a_circle(rate, speed, after):
    travel = driven(rate, speed).at(100.0 + after)
    assert travel.turned == pytest.approx(rate * after, abs=1e-3)
    assert travel.walked == pytest.approx(speed * after, abs=1e-3)


def test_it_looks_ahead_at_the_present_rate():
    travel = driven(0.8, -0.3).at(104.0, ahead_s=0.2)
    assert travel.turned == pytest.approx(0.8 * 4.2)
    assert travel.walked == pytest.approx(-0.3 * 4.2)


def test_without_poses_of_that_time_there_is_no_answer():
    assert Odometer().at(1.0) is None
    track = driven(0.5)
    assert track.at(104.29) is not None
    assert track.at(104.31) is None
    assert track.at(93.0) is None


def test_a_jump_is_no_motion():
    track = driven(0.5)
    track.add(104.05, 30.0, 0.0, 2.0)
    track.add(104.10, 30.0, 0.0, 2.025)
    assert track.at(104.10).turned == pytest.approx(2.025, abs=1e-3)
    assert track.at(104.10).walked == pytest.approx(0.0)


def test_poses_out_of_order_or_without_a_number_are_left_out():
    track = driven(0.5)
    for pose in ((103.9, 1.0, 0.0, 0.0), (104.05, math.nan, 0.0, 0.0), (math.inf, 0.0, 0.0, 0.0)):
        track.add(*pose)
    assert track.at(104.0).turned == pytest.approx(2.0, abs=1e-3)


def test_a_clock_that_was_set_back_begins_anew():
    track = driven(0.5)
    track.add(5.0, 0.0, 0.0, 1.0)
    track.add(5.1, 0.0, 0.0, 1.05)
    assert track.at(5.1) == Travel(pytest.approx(0.05), 0.0)
