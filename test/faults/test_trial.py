"""Tries of faults that say nothing of whether the robot goes on by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.faults import trial
from spec_decode_ros.lab.faults.cases import Case
from spec_decode_ros.lab.faults.trial import FaultResult, slowest, try_cases


def case(resumes: bool = True) -> Case:
    return Case("hung", "a part hangs", "another one", lambda rig: None, resumes=resumes)


def went_on(monkeypatch: pytest.MonkeyPatch, *tries: tuple[bool, float]) -> None:
    """Whether the robot went on by itself in each try, and after how many seconds it had been stopped."""
    left: Iterator[tuple[bool, float]] = iter(tries)

    def try_case(rig: object, case: Case, chance: object) -> FaultResult:
        resumes, stop_s = next(left)
        return FaultResult(
            case.name, case.hazard, case.guard, stop_s, None, None, 1.0, resumes, 0.0, 0.0, 0.0
        )

    monkeypatch.setattr(trial, "try_case", try_case)


def test_a_try_that_says_nothing_is_repeated_and_its_stop_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    went_on(monkeypatch, (False, 0.4), (True, 0.2))
    tries = try_cases(None, [case()])
    assert [outcome.resumes for outcome in tries] == [False, True]
    assert [outcome.stop_s for outcome in slowest(tries)] == [0.4]


def test_a_robot_that_never_goes_on_by_itself_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    went_on(monkeypatch, *[(False, 0.2)] * 3)
    with pytest.raises(SpecDecodeError, match="not gone on by itself in 3 tries of hung"):
        try_cases(None, [case()])


def test_a_robot_that_is_to_wait_for_a_command_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    went_on(monkeypatch, (False, 0.2))
    assert len(try_cases(None, [case(resumes=False)])) == 1
