"""A ROS 2 node that plays the operator while faults are injected, and injects the faults that come over topics."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from geometry_msgs.msg import TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String
from std_srvs.srv import Trigger

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.mission import ros_context, subscribers
from spec_decode_ros.nodes.common import EVENTS, LATEST, LATEST_FRAME, RECEIVED, steady_clock

_WAIT_S = 30.0
_CLOCK_PERIOD_S = 0.02
_CAMERA_PERIOD_S = 0.1
_STORM_PERIOD_S = 0.001


class FaultOperator:
    """The node and its thread on a ROS_DOMAIN_ID; use it as a context."""

    def __init__(self, domain: int) -> None:
        self._exits = ExitStack()
        context = self._exits.enter_context(ros_context(domain))
        self._node = node = Node("fault_operator", context=context)
        self._exits.callback(node.destroy_node)
        self._command = node.create_publisher(String, "command", EVENTS)
        self._verified = node.create_publisher(TwistStamped, "action/verified", LATEST)
        self._draft = node.create_publisher(TwistStamped, "action/draft", LATEST)
        self._clock = node.create_publisher(Clock, "/clock", 1)
        self._camera = node.create_publisher(CompressedImage, "camera/image/compressed", LATEST_FRAME)
        node.create_subscription(CompressedImage, "camera/image/compressed", self._on_frame, LATEST_FRAME)
        self._stop_client = node.create_client(Trigger, "motion_node/emergency_stop")
        self._release_client = node.create_client(Trigger, "motion_node/release")
        self._frame: CompressedImage | None = None
        self._repeats = False
        self.clock_offset_s: float | None = None
        """Seconds that ``/clock`` is ahead of the system's clock; None: nothing is published there."""
        steady = steady_clock()
        node.create_timer(_CLOCK_PERIOD_S, self._tick_clock, clock=steady)
        node.create_timer(_CAMERA_PERIOD_S, self._repeat_frame, clock=steady)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(node)
        self._exits.callback(self._executor.shutdown, timeout_sec=5.0)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="operator", daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._closing.is_set():
            self._executor.spin_once(timeout_sec=0.05)

    def __enter__(self) -> FaultOperator:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join(5.0)
        self._exits.close()

    def missing(self) -> list[str]:
        """Nodes that have not come up yet, and frames."""
        topics = {"drafter_node": RECEIVED, "motion_node": "command"}
        missing = [name for name, topic in topics.items() if name not in subscribers(self._node, topic)]
        return missing if self._frame else [*missing, "frames"]

    def say(self, text: str) -> None:
        """Give a command."""
        self._command.publish(String(data=text))

    def emergency_stop(self) -> None:
        """Call the service; raises SpecDecodeError if there is no answer."""
        self._call(self._stop_client)

    def release(self) -> None:
        """Release the emergency stop."""
        self._call(self._release_client)

    def _call(self, client: Any) -> None:
        answered = threading.Event()
        if not client.wait_for_service(timeout_sec=_WAIT_S):
            raise SpecDecodeError("motion_node does not offer its services")
        client.call_async(Trigger.Request()).add_done_callback(lambda _: answered.set())
        if not answered.wait(_WAIT_S):
            raise SpecDecodeError("motion_node does not answer")

    def act(self, vx: float, wz: float, verified: bool = True) -> None:
        """Publish an action that no model has decided, m/s and rad/s, stamped now."""
        message = TwistStamped()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.twist.linear.x, message.twist.angular.z = vx, wz
        (self._verified if verified else self._draft).publish(message)

    def storm(self, during: Callable[[], bool]) -> None:
        """Publish a thousand random actions per second, verified and not, while ``during()`` is true."""

        def run() -> None:
            rng = random.Random(0)
            while during():
                # None of them is zero: only the guard may stop the robot.
                self.act(rng.uniform(0.2, 50.0), rng.uniform(-50.0, 50.0), rng.random() < 0.5)
                time.sleep(_STORM_PERIOD_S)

        threading.Thread(target=run, name="storm", daemon=True).start()

    def repeat_frame(self, on: bool) -> None:
        """Publish the last frame again and again, with its old stamp."""
        self._repeats = on

    def _on_frame(self, message: CompressedImage) -> None:
        if not self._repeats:
            self._frame = message

    def _repeat_frame(self) -> None:
        if self._repeats and self._frame is not None:
            self._camera.publish(self._frame)

    def _tick_clock(self) -> None:
        if self.clock_offset_s is not None:
            nanoseconds = self._node.get_clock().now().nanoseconds + round(self.clock_offset_s * 1e9)
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(nanoseconds, 10**9)
            self._clock.publish(message)
