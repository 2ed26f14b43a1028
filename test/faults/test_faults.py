"""Faults injected into the real processes; `spec-decode faults` without --quick tries all of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")
pytest.importorskip("torch", reason="torch is not installed: the models need it")
pytest.importorskip("mujoco", reason="mujoco is not installed: the robot is simulated")
pytest.importorskip("unitree_sdk2py", reason="unitree_sdk2py is not installed: the robot is a Go2")

from spec_decode_ros.lab.faults.cases import CASES, QUICK
from spec_decode_ros.robots.guard_types import MotionLimits

BUSY_S = 0.8
"""What is required is half a second, and the command's exit code says so; a machine that is busy gets some more.
A Go2 that nobody stops stands after 1.0 by itself, so this still tells the one from the other."""


def faults(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spec_decode_ros", "faults", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_walking_robot_stops_whatever_breaks(tmp_path):
    found = faults("--quick", "--out", str(tmp_path), "--json", "-")
    assert found.returncode in (0, 1), found.stderr
    document = json.loads(found.stdout)
    print({row["name"]: row["stop_s"] for row in document["rows"]})
    assert [row["name"] for row in document["rows"]] == list(QUICK)
    assert document["passed"] == (found.returncode == 0)
    limits = MotionLimits()
    for row in document["rows"]:
        assert row["stop_s"] is not None, row
        assert row["stop_s"] <= BUSY_S, row
        assert row["max_vx"] <= limits.max_vx
        assert row["max_wz"] <= limits.max_wz


def test_a_fault_that_there_is_none_of_is_one_sentence():
    found = faults("--cases", "earthquake")
    assert found.returncode == 2
    assert "earthquake" in found.stderr
    assert "Traceback" not in found.stderr


def test_every_case_says_what_goes_wrong_and_what_guards_against_it():
    assert len({case.name for case in CASES}) == len(CASES)
    assert set(QUICK) <= {case.name for case in CASES}
    assert all(case.hazard and case.guard for case in CASES)
