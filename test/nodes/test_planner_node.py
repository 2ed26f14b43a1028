"""The planner node as a process, with pairs of random or scripted checkpoints: sentences in, steps and the plan out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")
pytest.importorskip("torch", reason="torch is not installed: the models need it")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_session import Ros, wait_for
from scripted_pair import make_scripted_pair
from serving import serving
from std_msgs.msg import String

from spec_decode_ros.nodes.common import HANDED_ON, RECEIVED
from spec_decode_ros.viz.decoded_action import DecodedAction, Piece

sys.path.append(str(Path(__file__).parents[1] / "models"))

import tiny_checkpoints

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLAN = "turn left 90 degrees"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PATIENT = {"threads": 1, "deadline": 60.0}
"""A busy machine is late, which is no failure here."""


@pytest.fixture(scope="module")
def babbling(tmp_path_factory) -> Path:
    """A text pair with random weights, whose text is no plan."""
    root = tmp_path_factory.mktemp("babbling")
    tiny_checkpoints.make_llama(root / "target", seed=4)
    tiny_checkpoints.make_llama(root / "draft", seed=4, noise=0.05)
    return tiny_checkpoints.write_pair(root, max_tokens=12)


@pytest.fixture(scope="module")
def turning(tmp_path_factory) -> Path:
    """A pair that plans the same for everything."""
    return make_scripted_pair(tmp_path_factory.mktemp("turning"), PLAN, PLAN)


class Desk:
    """A planner node, what it sends, and an operator."""

    def __init__(self, ros: Ros, **parameters: object) -> None:
        self.ros = ros
        self.process = ros.start("planner_node", **parameters)
        self.steps = ros.listen(String, "step", 10)
        self.plans = ros.listen(DiagnosticStatus, "plan", LATCHED)
        self.tokens = ros.listen(String, "plan/tokens", 10)
        self.diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
        wait_for(lambda: self.plans, "the latched plan")

    @property
    def plan(self) -> DiagnosticStatus:
        return self.plans[-1][1]

    @property
    def said(self) -> list[str]:
        return [message.data for _, message in self.steps]

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(value.key, value.value) for value in self.plan.values]

    @property
    def decoded(self) -> list[DecodedAction]:
        """What was shown of the plan's tokens; topics are not ordered among each other."""
        return [DecodedAction.from_json(message.data) for _, message in list(self.tokens)]

    def say(self, sentence: str) -> None:
        self.ros.publisher(String, RECEIVED, HANDED_ON).publish(String(data=sentence))

    def act(self, command: str, text: str) -> None:
        """Say what a drafter has decided."""
        decoded = DecodedAction(command, (Piece(text, "accepted"),), "verified")
        self.ros.publisher(String, "action/tokens", 10).publish(String(data=decoded.to_json()))

    def wait_for_plan(self, words: str) -> None:
        wait_for(lambda: words in self.plan.message, f"a plan that says {words!r}")


def test_a_sentence_becomes_a_step_that_the_acting_pairs_actions_end(ros, turning):
    with serving(turning) as endpoint:
        desk = Desk(ros, pair=turning, endpoint=endpoint, **PATIENT)
        assert (desk.plan.name, desk.plan.message, desk.states) == ("", "waiting for a command", [])
        desk.say("please have a look at what is left of you")
        desk.wait_for_plan("step 1 of 1")
        wait_for(lambda: desk.said == ["stop", PLAN], "the step")
        assert desk.plan.name == "please have a look at what is left of you"
        assert desk.plan.hardware_id == "verified"
        assert desk.states == [(PLAN, "running")]
        wait_for(
            lambda: [each.text for each in desk.decoded if each.state == "verified"] == [PLAN], "its tokens"
        )
        assert {each.command for each in desk.decoded} == {desk.plan.name}

        late = ros.listen_for_publisher_later(DiagnosticStatus, "plan", LATCHED)
        wait_for(lambda: late, "the plan for somebody who comes late")
        desk.act("turn right 45 degrees", "vx 0.0 wz 0.0 | refused")
        desk.act(PLAN, "no action at all")
        desk.act(PLAN, "vx 0.0 wz 0.8 | turning 45")
        desk.act(PLAN, "vx 0.0 wz 0.0 | done")
        wait_for(lambda: desk.plan.message == "done", "the end of the plan")
        assert desk.states == [(PLAN, "done")]
        assert desk.process.interrupt() == 0
    wait_for(lambda: desk.said[2:] == ["stop"], "the stop of a planner that ends")
    assert "Traceback" not in desk.process.output


def test_what_is_no_plan_is_told_and_moves_nothing_and_a_stop_is_passed_on(ros, babbling):
    with serving(babbling) as endpoint:
        desk = Desk(ros, pair=babbling, endpoint=endpoint, **PATIENT)
        desk.say("go to the red chair")
        wait_for(lambda: desk.plan.message not in ("waiting for a command", "planning"), "the verdict")
        assert "the robot does not move" in desk.plan.message
        assert desk.plan.level == DiagnosticStatus.WARN
        assert desk.states == []
        problem = desk.plan.message
        wait_for(lambda: problem in [each.problem for each in desk.decoded], "the problem beside the tokens")
        desk.say("stop")
        wait_for(lambda: desk.plan.message == "stopped", "the stop")
        assert set(desk.said) == {"stop"}
        assert desk.process.interrupt() == 0
    assert "Traceback" not in desk.process.output


def test_without_a_verifier_a_stop_is_at_once_and_a_plan_waits_for_a_yes(ros, turning, tmp_path):
    # Nobody listens there, so the planning hangs until the deadline unless something ends it.
    parameters = {"pair": turning, "endpoint": f"ipc://{tmp_path}/nobody", "threads": 1}
    desk = Desk(ros, **parameters, deadline=1.0)
    for _ in range(2):
        desk.say("have a look at the left")
        desk.wait_for_plan("planning")
        desk.say("stop")
        desk.wait_for_plan("stopped")
    assert set(desk.said) == {"stop"}
    desk.say("have a look at the left")
    desk.wait_for_plan("say yes")
    assert desk.plan.hardware_id == "unverified"
    assert desk.states == [(PLAN, "waiting")]
    assert set(desk.said) == {"stop"}
    desk.say("yes")
    desk.wait_for_plan("step 1 of 1")
    wait_for(lambda: desk.said[-1] == PLAN, "the step")

    def messages() -> set[str]:
        return {s.message for _, m in list(desk.diagnostics) for s in m.status if s.name.endswith("planner")}

    wait_for(lambda: any("does not answer" in message for message in messages()), "the missing verifier")
    assert desk.process.interrupt() == 0
    assert "Traceback" not in desk.process.output
