"""Notes that count get the number that odometry has measured."""

from __future__ import annotations

import math

import pytest

from spec_decode_ros.actions.action import ACTION_PERIOD_S, Action, format_action, parse_action
from spec_decode_ros.actions.commands import Command
from spec_decode_ros.edge.action_counter import ActionCounter
from spec_decode_ros.edge.odometer import Odometer, Travel
from spec_decode_ros.lab.episodes.expert import decide

COASTS_S = 0.1
TURNING = "vx 0.0 wz 0.8 | turning {}"


class LaggingRobot:
    """Obeys velocities late and by part, as a walking robot does, and has odometry at 50 Hz."""

    HZ = 50

    def __init__(self, obeys: float, lag_s: float = 0.15) -> None:
        self.obeys, self.lag_s = obeys, lag_s
        self.time = self.yaw = self.x = 0.0
        self._vx = self._wz = 0.0
        self.odometry = Odometer()
        self.odometry.add(0.0, 0.0, 0.0, 0.0)

    def run(self, action: Action, seconds: float) -> None:
        for _ in range(round(seconds * self.HZ)):
            share = 1.0 / (self.HZ * self.lag_s)
            self._vx += share * (self.obeys * action.vx - self._vx)
            self._wz += share * (self.obeys * action.wz - self._wz)
            self.time += 1 / self.HZ
            self.yaw += self._wz / self.HZ
            self.x += self._vx / self.HZ
            self.odometry.add(self.time, self.x, 0.0, math.remainder(self.yaw, math.tau))


def carried_out(command: Command, robot: LaggingRobot, by_odometry: bool, delay_s: float = 0.12) -> int:
    """Let the expert, who knows its last note only, carry out a command; returns the number of actions."""
    counter, last, acting = ActionCounter(), None, Action(0.0, 0.0, "none")
    for count in range(200):
        travel = robot.odometry.at(robot.time, delay_s + COASTS_S) if by_odometry else None
        read = counter.measured(last, travel) if last else None
        action = decide(command, None, None, set(), parse_action(read) if read else None)
        last = format_action(action)
        counter.decided(last, travel)
        robot.run(acting, delay_s)
        acting = action
        robot.run(acting, ACTION_PERIOD_S - delay_s)
        if action.note == "done":
            robot.run(acting, 1.0)
            return count
    raise AssertionError("never done")


@pytest.mark.parametrize("degrees", [90, -90, 45, 180])
@pytest.mark.parametrize("obeys", [0.7, 0.85, 1.0, 1.1])
def test_a_robot_that_turns_otherwise_than_told_ends_where_it_was_sent(degrees, obeys):
    robot = LaggingRobot(obeys)
    carried_out(Command("turn", amount=degrees), robot, by_odometry=True)
    assert math.degrees(robot.yaw) == pytest.approx(degrees, abs=12.0)
    alone = LaggingRobot(obeys)
    carried_out(Command("turn", amount=degrees), alone, by_odometry=False)
    if abs(degrees) >= 90 and obeys == 0.7:
        assert abs(math.degrees(alone.yaw) - degrees) > 20.0


@pytest.mark.parametrize("metres", [1.0, 3.0])
def test_ways_are_measured_too(metres, monkeypatch):
    monkeypatch.setattr("spec_decode_ros.lab.episodes.expert._blocked_ahead", lambda *_: False)
    robot = LaggingRobot(obeys=0.7)
    carried_out(Command("walk", amount=metres), robot, by_odometry=True)
    assert robot.x == pytest.approx(metres, abs=0.15)


def test_a_robot_that_is_held_fast_does_not_turn_for_ever():
    assert carried_out(Command("turn", amount=90), LaggingRobot(obeys=0.0), by_odometry=True) <= 24


def test_without_odometry_and_for_other_notes_the_text_stays():
    counter, start = ActionCounter(), Travel(0.0, 0.0)
    counter.decided(TURNING.format(90), start)
    assert counter.measured(TURNING.format(90), None) == TURNING.format(90)
    for text in ("vx 0.4 wz 0.0 | red chair ahead 2.0", "vx 0.0 wz -0.8 | turning 90", "no action"):
        assert counter.measured(text, Travel(1.0, 1.0)) == text


def test_odometry_that_comes_late_counts_from_there():
    counter = ActionCounter()
    counter.decided(TURNING.format(90), None)
    counter.decided(TURNING.format(75), Travel(0.2, 0.0))
    measured = counter.measured(TURNING.format(60), Travel(0.2 + math.radians(45), 0.0))
    assert measured == TURNING.format(45)


def test_searching_counts_what_was_really_turned():
    counter, text = ActionCounter(), "vx 0.0 wz -0.8 | searching {}"
    counter.decided(text.format(0), Travel(0.0, 0.0))
    assert counter.measured(text.format(45), Travel(-math.radians(60), 0.0)) == text.format(45)
    assert counter.measured(text.format(45), Travel(-math.radians(31), 0.0)) == text.format(15)
    assert counter.measured(text.format(45), Travel(0.5, 0.0)) == text.format(0)
