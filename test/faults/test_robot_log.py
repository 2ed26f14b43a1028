"""What is read out of the robot's account, and when a stop was too late."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from spec_decode_ros.lab.demo.robot_log import RobotLogReader
from spec_decode_ros.lab.faults.trial import LIMIT_S, FaultResult, slowest


def account(path: Path, *lines: tuple[float, str, float]) -> RobotLogReader:
    """An account of (time, event, vx)."""
    with path.open("a") as file:
        for t, event, vx in lines:
            file.write(
                json.dumps({"t": t, "event": event, "vx": vx, "vy": 0.0, "wz": 0.0, "x": vx, "y": 0.0}) + "\n"
            )
    read = RobotLogReader(path)
    read.read()
    return read


def test_the_stop_that_counts_is_the_one_that_no_movement_follows(tmp_path):
    robot = account(
        tmp_path / "robot.jsonl",
        (1.0, "move", 0.6),
        (2.1, "stop", 0.0),
        (2.2, "move", 0.1),
        (2.4, "stop", 0.0),
        (2.5, "stop", 0.0),
    )
    assert robot.first_stop(2.0) == pytest.approx(0.1)
    assert robot.last_stop(2.0) == pytest.approx(0.4)


def test_a_robot_that_walks_on_was_never_stopped(tmp_path):
    robot = account(tmp_path / "robot.jsonl", (2.1, "stop", 0.0), (2.2, "move", 0.1))
    assert robot.last_stop(2.0) is None
    assert account(tmp_path / "other.jsonl", (1.0, "move", 0.6)).last_stop(2.0) is None


def test_an_expiry_at_the_robot_is_a_stop_and_a_move_of_zero_too(tmp_path):
    robot = account(tmp_path / "robot.jsonl", (1.0, "move", 0.6), (2.3, "expired", 0.0))
    assert robot.last_stop(2.0) == pytest.approx(0.3)
    robot = account(tmp_path / "other.jsonl", (1.0, "move", 0.6), (2.3, "move", 0.0))
    assert robot.last_stop(2.0) == pytest.approx(0.3)


def test_the_body_comes_to_rest_after_the_order_and_its_sway_is_no_walk(tmp_path):
    states = [(2.0 + 0.02 * i, "state", max(0.6 - 0.05 * i, 0.03 * (-1) ** i)) for i in range(40)]
    robot = account(tmp_path / "robot.jsonl", *states)
    assert robot.stands_since(2.0) == pytest.approx(0.18)
    assert robot.way(2.0) == pytest.approx(0.6 + 0.03)
    assert account(tmp_path / "robot.jsonl", (3.0, "state", 0.4)).stands_since(2.0) is None


def test_an_account_is_read_while_it_is_being_written(tmp_path):
    path = tmp_path / "robot.jsonl"
    robot = RobotLogReader(path)
    robot.read()
    with path.open("w") as file:
        file.write('{"t": 1.0, "event": "stop"}\n{"t": 1.5, "ev')
        file.flush()
        robot.read()
        assert [order.t for order in robot.orders] == [1.0]
        file.write('ent": "stop"}\n')
        file.flush()
        robot.read()
    assert [order.t for order in robot.orders] == [1.0, 1.5]


def test_a_machine_that_is_too_slow_for_the_robot_shows_in_the_account(tmp_path):
    timely = account(tmp_path / "timely.jsonl", *((0.02 * i, "state", 0.0) for i in range(50)))
    assert timely.real_time_factor == pytest.approx(1.0)
    slow = account(tmp_path / "slow.jsonl", *((0.08 * i, "state", 0.0) for i in range(50)))
    assert slow.real_time_factor == pytest.approx(0.25)
    assert RobotLogReader(tmp_path / "none.jsonl").real_time_factor == 0.0


def test_too_late_and_never_are_failures_and_the_slowest_try_counts():
    quick = FaultResult(
        "link-lost", "the link is lost", "the watchdog", 0.3, 0.5, 0.2, 1.0, True, 0.6, 0.0, 0.1
    )
    late, never = replace(quick, stop_s=LIMIT_S + 0.01), replace(quick, stop_s=None)
    assert quick.passed
    assert not late.passed
    assert not never.passed
    other = replace(quick, name="drafter-hung")
    assert slowest([quick, late, other]) == [late, other]
    assert slowest([never, late]) == [never]
