"""What a robot on legs does with a plan whose posture and way do not go together, with the shipped acting pair."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("mujoco", reason="mujoco is not installed: the robot needs it")
pytest.importorskip("torch", reason="torch is not installed: the models need it")

from simulated_missions import SimulatedMission

from spec_decode_ros.actions.plan import parse_plan
from spec_decode_ros.lab.demo.plan_goal import PlanGoal
from spec_decode_ros.lab.desk_stack import DeskStackOptions, desk_stack
from spec_decode_ros.lab.episodes.episode import Policy
from spec_decode_ros.lab.episodes.evaluate import DecodingPolicy
from spec_decode_ros.sim.simulation import Simulation
from spec_decode_ros.sim.task import make_task

SEED = 9
"""A room with a red chair two metres ahead."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def tiny() -> Iterator[Policy]:
    with desk_stack(DeskStackOptions("tiny", "cloud")) as stack:
        yield DecodingPolicy(stack.runtime, stack.config.prompt)


def test_a_robot_that_has_sat_down_gets_up_and_goes_to_the_chair(tiny: Policy):
    scene, plan = make_task(SEED).scene, parse_plan("sit down; go to the red chair")
    with Simulation(scene, SEED) as simulation:
        result = SimulatedMission(PlanGoal(scene, "", plan), plan, tiny, simulation).run()
        assert not simulation.collisions
    assert result.success, result
    steps = [(step.step, step.reason) for step in result.steps]
    assert steps == [
        ("sit down", "lies"),
        ("stand up", "stands"),
        ("go to the red chair", "reached the red chair"),
    ]


def test_steps_follow_each_other_from_where_the_robot_is(tiny: Policy):
    scene, plan = make_task(SEED).scene, parse_plan("turn left 90 degrees; go to the red chair; sit down")
    with Simulation(scene, SEED) as simulation:
        result = SimulatedMission(PlanGoal(scene, "", plan), plan, tiny, simulation).run()
    assert result.success, result
