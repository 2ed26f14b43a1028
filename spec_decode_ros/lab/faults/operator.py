"""Plays the operator while faults are injected, and those faults that come in over ROS topics."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String
from std_srvs.srv import Trigger

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.nodes.common import EVENTS, LATEST, LATEST_FRAME, steady_clock

_WAIT_S = 30.0
_CLOCK_PERIOD_S = 0.02
_CAMERA_PERIOD_S = 0.1
_STORM_PERIOD_S = 0.001


class FaultOperator:
    """A node of its own in its own thread; use it as a context.

    Args:
        domain: the nodes' ROS_DOMAIN_ID.
    """

    def __init__(self, domain: int) -> None:
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = node = Node("fault_operator", context=self._context)
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
        """Seconds that ``/clock`` is ahead of the system's; None: nothing is published there."""
        steady = steady_clock()
        node.create_timer(_CLOCK_PERIOD_S, self._tick_clock, clock=steady)
        node.create_timer(_CAMERA_PERIOD_S, self._repeat_frame, clock=steady)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(node)
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
        self._executor.shutdown(timeout_sec=5.0)
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    # -- what an operator does ------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """Which of the nodes are not there yet."""
        listening = {
            info.node_name for info in self._node.get_subscriptions_info_by_topic(self._command.topic_name)
        }
        missing = [name for name in ("drafter_node", "motion_node") if name not in listening]
        return missing if self._frame else [*missing, "frames"]

    def say(self, text: str) -> None:
        """Give a command."""
        self._command.publish(String(data=text))

    def emergency_stop(self) -> None:
        """Call the service; raises SpecDecodeError if there is no answer."""
        self._call(self._stop_client)

    def release(self) -> None:
        """Lift the emergency stop."""
        self._call(self._release_client)

    def _call(self, client: object) -> None:
        answered = threading.Event()
        if not client.wait_for_service(timeout_sec=_WAIT_S):  # type: ignore[attr-defined]
            raise SpecDecodeError("motion_node does not offer its services")
        future = client.call_async(Trigger.Request())  # type: ignore[attr-defined]
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(_WAIT_S):
            raise SpecDecodeError("motion_node does not answer")

    # -- faults ---------------------------------------------------------------------------------------------

    def act(self, vx: float, wz: float, verified: bool = True) -> None:
        """An action that no model has asked for, m/s and rad/s, with the stamp of this moment."""
        message = TwistStamped()
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.twist.linear.x, message.twist.angular.z = vx, wz
        (self._verified if verified else self._draft).publish(message)

    def storm(self, during: Callable[[], bool], seed: int = 0) -> threading.Thread:
        """A thousand actions a second of any size, verified and not, while ``during()`` is true."""

        def rage() -> None:
            chance = random.Random(seed)
            while during():
                # No zero among them: nothing but the guard is to stop the robot.
                self.act(chance.uniform(0.2, 50.0), chance.uniform(-50.0, 50.0), chance.random() < 0.5)
                time.sleep(_STORM_PERIOD_S)

        thread = threading.Thread(target=rage, name="storm", daemon=True)
        thread.start()
        return thread

    def not_a_number(self) -> None:
        """One verified action of NaN."""
        self.act(math.nan, 0.0)

    def repeat_frame(self, on: bool) -> None:
        """Show the last frame again and again, stamp and all."""
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
