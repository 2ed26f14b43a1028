"""Runs a mission as a ROS 2 node: gives one command, watches the robot, and records what happens."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.body import BodyState
from spec_decode_ros.lab.demo.goal import MissionGoal, MissionResult
from spec_decode_ros.lab.demo.plan_goal import PlanGoal, PlanProgress, PlanWatch
from spec_decode_ros.nodes.common import EVENTS, OK, RECEIVED, clock_seconds, seconds
from spec_decode_ros.nodes.messages import planar_pose
from spec_decode_ros.nodes.recorder import BagRecorder
from spec_decode_ros.viz.decoded_action import DecodedAction, DecodedActionError

Goal = MissionGoal | PlanGoal

_KEEP_ALL = QoSProfile(depth=50)
_FRAMES = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
_SPIN_S = 0.05
_AFTERWARDS_S = 0.5
_GRACE_S = 10.0


@dataclass(frozen=True)
class Verified:
    """One verified action, by the stamp of its frame in seconds and the pose of the robot when it arrived here.

    `instruction` is what the acting pair was told: the operator's words, or a step of the plan. `corrected` says that its
    velocities differ from those of the draft; `took_ms` counts from the stamp of the frame.
    """

    stamp: float
    instruction: str
    text: str
    corrected: bool
    took_ms: float
    pose: tuple[float, float, float]


@dataclass
class Story:
    """What happened in a mission. Stamps in seconds; `path` has (stamp, x, y, yaw), `frames` (stamp, JPEG bytes).

    `plan` is the decoded plan; None without a planner.
    """

    outcome: MissionResult | None = None
    plan: DecodedAction | None = None
    took_s: float = 0.0
    collisions: int = 0
    path: list[tuple[float, float, float, float]] = field(default_factory=list)
    verified: list[Verified] = field(default_factory=list)
    frames: list[tuple[float, bytes]] = field(default_factory=list)

    def frame_of(self, stamp: float) -> bytes | None:
        """The frame of that stamp, or the last one before it."""
        place = bisect_right([at for at, _ in self.frames], stamp + 1e-6) - 1
        return self.frames[place][1] if place >= 0 else None


class Mission(Node):
    """The node; use :func:`run_mission`."""

    def __init__(self, goal: Goal, context: rclpy.Context) -> None:
        super().__init__("mission", context=context)
        self._goal = goal
        self._watch = goal.watch()
        self._instruction = goal.instruction
        self._planner_connected = False
        self._commanded_at: float | None = None
        self._drafts: dict[float, tuple[float, float]] = {}
        self._newest: tuple[float, tuple[float, float], float] | None = None
        self.story = Story()
        self._command = self.create_publisher(String, "command", EVENTS)
        self.create_subscription(CompressedImage, "camera/image/compressed", self._on_frame, _FRAMES)
        self.create_subscription(Odometry, "odom", self._on_odometry, _KEEP_ALL)
        self.create_subscription(TwistStamped, "action/draft", self._on_draft, _KEEP_ALL)
        self.create_subscription(TwistStamped, "action/verified", self._on_verified, _KEEP_ALL)
        self.create_subscription(String, "action/text", self._on_text, _KEEP_ALL)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, _KEEP_ALL)
        if isinstance(goal, PlanGoal):
            self.create_subscription(DiagnosticStatus, "plan", self._on_plan, _KEEP_ALL)
            self.create_subscription(String, "plan/tokens", self._on_plan_tokens, _KEEP_ALL)
            self.create_subscription(String, "step", self._on_step, _KEEP_ALL)

    def missing(self) -> list[str]:
        """What is still missing before a command can be given."""
        planned = isinstance(self._goal, PlanGoal)
        told = subscribers(self, RECEIVED)
        parts = {
            "frames from sim_node": bool(self.story.frames),
            "odometry from sim_node": bool(self.story.path),
            "drafter_node": "drafter_node" in (subscribers(self, "step") if planned else told),
            "motion_node": "motion_node" in subscribers(self, "command"),
            "planner_node": not planned or self._planner_is_there(told),
        }
        return [name for name, there in parts.items() if not there]

    def _planner_is_there(self, told: set[str]) -> bool:
        """Whether it hears the operator and the drafter, is heard here, and has its verifier."""
        hears = "planner_node" in told and "planner_node" in subscribers(self, "action/tokens")
        return hears and self.count_publishers("plan") > 0 and self._planner_connected

    def begin(self) -> None:
        """Give the command, and drop what was recorded before."""
        self.story.path.clear()
        self.story.frames.clear()
        self._commanded_at = time.monotonic()
        self._command.publish(String(data=self._goal.instruction))

    def end(self) -> None:
        """Tell the robot to stop."""
        self._command.publish(String(data="stop"))

    @property
    def over(self) -> bool:
        return self.story.outcome is not None

    def _on_frame(self, message: CompressedImage) -> None:
        self.story.frames.append((seconds(message.header.stamp), bytes(message.data)))

    def _on_odometry(self, message: Odometry) -> None:
        pose = planar_pose(message)
        self.story.path.append((seconds(message.header.stamp), *pose))
        if self._commanded_at is None or self.over:
            return
        now = time.monotonic()
        twist = message.twist.twist
        speed = math.hypot(twist.linear.x, twist.linear.y)
        outcome = self._watch.moved(
            BodyState(now, *pose, message.pose.pose.position.z, speed, twist.angular.z)
        )
        if outcome is not None:
            self.story.outcome = outcome
            self.story.took_s = now - self._commanded_at

    def _on_plan(self, message: DiagnosticStatus) -> None:
        ours = self._commanded_at is not None and message.name == self._goal.instruction
        if ours and isinstance(self._watch, PlanWatch):
            steps = tuple((value.key, value.value) for value in message.values)
            self._watch.planned(PlanProgress(time.monotonic(), message.message, steps, message.level != OK))

    def _on_plan_tokens(self, message: String) -> None:
        try:
            decoded = DecodedAction.from_json(message.data)
        except DecodedActionError as error:
            self.get_logger().warning(str(error))
            return
        if decoded.command == self._goal.instruction and decoded.state != "draft":
            self.story.plan = decoded

    def _on_step(self, message: String) -> None:
        self._instruction = message.data

    def _on_draft(self, message: TwistStamped) -> None:
        self._drafts[seconds(message.header.stamp)] = _velocities(message)

    def _on_verified(self, message: TwistStamped) -> None:
        stamp = seconds(message.header.stamp)
        if self._newest is None or self._newest[0] != stamp:
            took_ms = (clock_seconds(self) - stamp) * 1000.0
        else:
            took_ms = self._newest[2]
        self._newest = (stamp, _velocities(message), took_ms)

    def _on_text(self, message: String) -> None:
        """A text has no stamp; it belongs to the velocities that came just before it."""
        if self._commanded_at is None or self._newest is None:
            return
        self._watch.said(message.data)
        stamp, velocities, took_ms = self._newest
        draft = self._drafts.get(stamp)
        pose = self.story.path[-1][1:] if self.story.path else (0.0, 0.0, 0.0)
        corrected = draft is not None and draft != velocities
        self.story.verified.append(Verified(stamp, self._instruction, message.data, corrected, took_ms, pose))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith(": planner"):
                links = [value.value for value in status.values if value.key == "connected"]
                self._planner_connected = all(link.lower() == "true" for link in links)
            for value in status.values:
                if value.key == "collisions" and value.value.isdigit():
                    self.story.collisions = int(value.value)


def _velocities(message: TwistStamped) -> tuple[float, float]:
    return message.twist.linear.x, message.twist.angular.z


def subscribers(node: Node, topic: str) -> set[str]:
    """Names of the nodes that have subscribed to a topic."""
    return {info.node_name for info in node.get_subscriptions_info_by_topic(topic)}


@contextmanager
def ros_context(domain: int) -> Iterator[rclpy.Context]:
    """A ROS 2 context of one's own on a domain."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    try:
        yield context
    finally:
        rclpy.try_shutdown(context=context)


@dataclass(frozen=True)
class MissionRun:
    """The story, the bag, and the number of messages in it by topic."""

    story: Story
    bag: Path
    counts: dict[str, int]


def run_mission(
    goal: Goal,
    folder: Path,
    domain: int,
    *,
    check: Callable[[], None] = lambda: None,
    ready_timeout_s: float = 60.0,
    stop_after: bool = False,
) -> MissionRun:
    """Wait for the nodes of a domain, give the command, and record a bag until the mission is over.

    `check` is called repeatedly and raises if a process has died. With `stop_after` the robot is told to stop at the end,
    because another mission follows. Raises SpecDecodeError if the nodes do not come up, or no longer tell where the robot
    is.
    """
    with ros_context(domain) as context:
        node = Mission(goal, context)
        recorder = BagRecorder(node, folder)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(node)
        try:
            _spin_until(executor, lambda: not node.missing(), ready_timeout_s, check)
            if node.missing():
                raise SpecDecodeError(
                    f"the demo's nodes did not come up within {ready_timeout_s:.0f} s: no {', '.join(node.missing())}"
                )
            node.begin()
            _spin_until(executor, lambda: node.over, goal.time_out_s + _GRACE_S, check)
            if not node.over:
                raise SpecDecodeError(
                    "the simulation stopped telling where the robot is; see the logs of sim_node"
                )
            if stop_after:
                node.end()
            _spin_until(executor, lambda: False, _AFTERWARDS_S, check)
        finally:
            bag = recorder.close()
            executor.shutdown(timeout_sec=5.0)
            node.destroy_node()
        return MissionRun(node.story, bag, recorder.counts)


def _spin_until(
    executor: SingleThreadedExecutor, done: Callable[[], bool], timeout_s: float, check: Callable[[], None]
) -> None:
    end = time.monotonic() + timeout_s
    next_check = 0.0
    while not done() and time.monotonic() < end:
        executor.spin_once(timeout_sec=_SPIN_S)
        if time.monotonic() >= next_check:
            check()
            next_check = time.monotonic() + 0.5
