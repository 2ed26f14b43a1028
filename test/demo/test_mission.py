"""A whole mission over ROS 2: real simulation and motion nodes, and a teacher in the place of the models."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the mission needs ROS 2")
pytest.importorskip("mujoco", reason="mujoco is not installed: the mission needs the simulator")

import rclpy
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from spec_decode_ros.actions.action import Action, format_action
from spec_decode_ros.actions.commands import Command
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.goal import MissionGoal
from spec_decode_ros.lab.demo.mission import run_mission
from spec_decode_ros.lab.demo.run import samples_of
from spec_decode_ros.lab.demo.stack import free_domain, running_stack
from spec_decode_ros.lab.episodes.expert import decide
from spec_decode_ros.nodes.common import HANDED_ON, LATEST_FRAME, RECEIVED
from spec_decode_ros.sim.scene import bearing_and_distance
from spec_decode_ros.sim.task import make_task

SEED = 9
"""A room with a red chair two metres ahead."""

PERIOD_S = 0.25


class Teacher(Node):
    """Stands where the drafter stands: decides on every third frame, from the true pose."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("drafter_node", context=context)
        self._scene = make_task(SEED).scene
        self._pose: tuple[float, float, float] | None = None
        self._command = ""
        self._last: Action | None = None
        self._decided = 0.0
        self._draft = self.create_publisher(TwistStamped, "action/draft", 1)
        self._verified = self.create_publisher(TwistStamped, "action/verified", 1)
        self._text = self.create_publisher(String, "action/text", 10)
        self.create_subscription(Odometry, "odom", self._on_odometry, 1)
        self.create_subscription(String, RECEIVED, self._on_command, HANDED_ON)
        self.create_subscription(CompressedImage, "camera/image/compressed", self._on_frame, LATEST_FRAME)

    def _on_command(self, message: String) -> None:
        self._command = message.data

    def _on_odometry(self, message: Odometry) -> None:
        place, turn = message.pose.pose.position, message.pose.pose.orientation
        self._pose = (place.x, place.y, 2 * math.atan2(turn.z, turn.w))

    def _on_frame(self, message: CompressedImage) -> None:
        now = self.get_clock().now().nanoseconds * 1e-9
        if self._pose is None or not self._command or now - self._decided < PERIOD_S:
            return
        self._decided = now
        things = enumerate(self._scene.objects)
        visible = {i for i, thing in things if abs(bearing_and_distance(thing, self._pose)[0]) < 0.8}
        action = decide(Command("goto", "red", "chair"), self._scene, self._pose, visible, self._last)
        # Every draft turns a little more than its verdict, so that each action counts as corrected.
        self._publish(self._draft, action.vx, action.wz + 0.1, message)
        self._publish(self._verified, action.vx, action.wz, message)
        self._text.publish(String(data=format_action(action)))
        self._last = action

    @staticmethod
    def _publish(publisher, vx: float, wz: float, frame: CompressedImage) -> None:
        message = TwistStamped()
        message.header.stamp = frame.header.stamp
        message.twist.linear.x, message.twist.angular.z = vx, wz
        publisher.publish(message)


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    return free_domain()


@pytest.fixture
def teacher(domain: int) -> Iterator[None]:
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = Teacher(context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    over = threading.Event()

    def spin() -> None:
        while not over.is_set():
            executor.spin_once(timeout_sec=0.05)

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    yield
    over.set()
    thread.join(10)
    executor.shutdown(timeout_sec=5.0)
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def goal(**changes: float) -> MissionGoal:
    return MissionGoal(make_task(SEED).scene, "red chair", "go to the red chair", **changes)


@pytest.mark.timeout(300)
def test_the_robot_reaches_the_chair_and_everything_is_recorded(domain: int, teacher: None, tmp_path: Path):
    with running_stack(tmp_path / "logs", domain) as nodes:
        nodes.start("sim_node", {"seed": SEED, "target": "red chair"})
        nodes.start("motion_node", {})
        run = run_mission(goal(time_out_s=90.0), tmp_path, domain, check=nodes.check, ready_timeout_s=120.0)
        processes = dict(nodes.processes)
    assert all(process.returncode == 0 for process in processes.values()), "nodes end cleanly"

    story = run.story
    assert story.outcome is not None
    assert story.outcome.success, story.outcome.reason
    assert story.collisions == 0
    assert story.outcome.distance_m < 0.6
    start, end = story.path[0], story.path[-1]
    assert math.dist(start[1:3], end[1:3]) > 0.8
    assert len(story.verified) > 5
    assert all(action.corrected for action in story.verified)
    assert story.verified[-1].text.endswith("reached")
    assert all(action.took_ms >= 0 for action in story.verified)

    samples = samples_of(story, 4)
    assert len(samples) == 4
    # A frame may be lost on its way to the recorder; the actions that have theirs are sampled.
    seen = [place for place, action in enumerate(story.verified) if story.frame_of(action.stamp) is not None]
    before = [None, *(action.text for action in story.verified)]
    assert samples[0].last_action == before[seen[0]]
    assert samples[-1].last_action == before[seen[-1]]
    assert all(sample.jpeg[:2] == b"\xff\xd8" for sample in samples)

    check_bag(run.bag, run.counts, len(story.verified))


def check_bag(bag: Path, counts: dict[str, int], actions: int) -> None:
    """The bag is read without ROS, and holds what was seen."""
    from rosbags.highlevel import AnyReader

    assert bag.name == "demo.mcap"
    with AnyReader([bag.parent]) as reader:
        read: dict[str, int] = {}
        for connection, _, data in reader.messages():
            read[connection.topic] = read.get(connection.topic, 0) + 1
            if connection.topic == "/command":
                assert reader.deserialize(data, connection.msgtype).data == "go to the red chair"
            if connection.topic == "/camera/image/compressed" and read[connection.topic] == 1:
                frame = reader.deserialize(data, connection.msgtype)
                assert frame.format == "jpeg"
                assert bytes(frame.data[:2]) == b"\xff\xd8"
    assert read == {topic: count for topic, count in counts.items() if count}
    assert read["/command"] == 1
    assert actions <= read["/action/text"] <= actions + 2
    for topic in ("/odom", "/cmd_vel", "/action/verified", "/action/draft", "/diagnostics"):
        assert read[topic] > 1, topic


@pytest.mark.timeout(120)
def test_a_mission_without_a_robot_says_what_is_missing(domain: int, tmp_path: Path):
    with pytest.raises(SpecDecodeError, match=r"did not come up .* no frames from sim_node, odometry"):
        run_mission(goal(), tmp_path, domain, ready_timeout_s=1.0)


@pytest.mark.timeout(120)
def test_a_node_that_dies_ends_the_mission_with_its_last_words(domain: int, tmp_path: Path):
    with running_stack(tmp_path / "logs", domain) as nodes:
        nodes.start("sim_node", {"target": "golden calf"})
        with pytest.raises(SpecDecodeError, match=r"sim_node ended with code 1: .*golden calf"):
            run_mission(goal(), tmp_path, domain, check=nodes.check, ready_timeout_s=100.0)
