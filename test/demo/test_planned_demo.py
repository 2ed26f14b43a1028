"""The whole demo with a planner, whose pair of models knows one plan by heart."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the demo needs ROS 2")
pytest.importorskip("torch", reason="torch is not installed: the models need it")
pytest.importorskip("mujoco", reason="mujoco is not installed: the demo needs the simulator")
pytest.importorskip("rosbags", reason="rosbags is not installed: the demo records a bag")
pytest.importorskip("matplotlib", reason="matplotlib is not installed: the demo draws pictures")

from rich.console import Console

sys.path.append(str(Path(__file__).parents[1] / "nodes"))

from scripted_pair import make_scripted_pair

from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.lab.demo.goal import MissionGoal
from spec_decode_ros.lab.demo.plan_goal import PlanGoal
from spec_decode_ros.lab.demo.run import DemoPlan, run_demo


def test_the_demo_says_one_sentence_that_means_two_steps():
    goal = DemoPlan(Path("out"), planner="planner").goal()
    assert isinstance(goal, PlanGoal)
    assert goal.instruction == "could you head over to that crimson seat, and then lie down for a bit?"
    assert goal.expected == parse_plan("go to the red chair; sit down")
    own = DemoPlan(Path("out"), planner="planner", instruction="to the chair").goal()
    assert isinstance(own, PlanGoal)
    assert (own.instruction, own.expected, own.target) == ("to the chair", None, "red chair")
    assert isinstance(DemoPlan(Path("out")).goal(), MissionGoal)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_steps_of_the_plan_are_carried_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    planner = make_scripted_pair(
        tmp_path / "planner", "go to the red chair; sit down", "go to the blue chair; sit down"
    )
    out = io.StringIO()
    plan = DemoPlan(tmp_path / "out", planner=str(planner), time_out_s=180.0, frames=6)
    document = run_demo(plan, Console(file=out, width=160))
    assert document["success"], document["reason"]
    assert json.loads((plan.out / "summary.json").read_text())["plan"] == document["plan"]
    assert document["plan"]["text"] == "go to the red chair; sit down"
    assert document["plan"]["verified"]
    assert [step["step"] for step in document["plan"]["steps"]] == ["go to the red chair", "sit down"]
    assert document["recorded"]["/plan"] >= 3
    assert "1. go to the red chair: reached the red chair" in out.getvalue()
    for name in ("walk", "frame", "path", "timeline", "bag", "summary"):
        assert Path(document["files"][name]).exists(), name
