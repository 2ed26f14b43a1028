"""The motion node's connection to a Go2: parameters, odometry, diagnostics, and the service that damps its joints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node
from std_srvs.srv import Trigger

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.nodes.common import ERROR, LATEST, OK, WARN, Diagnostics, Health, steady_clock
from spec_decode_ros.nodes.messages import GO2_ODOMETRY, odometry, quaternion
from spec_decode_ros.robots.go2 import Go2, Go2Options
from spec_decode_ros.robots.go2_channel import MAX_DOMAIN, check_middleware
from spec_decode_ros.settings import Setting

NONE, GO2 = "none", "go2"
_STARTS_S = 3.0

PARAMETERS = (
    Setting(
        "robot",
        NONE,
        "go2: drive Unitree's sport service too; none: cmd_vel only",
        choices=(NONE, GO2),
        fixed=True,
    ),
    Setting("network_interface", "", "that the Go2 is plugged into, such as eth0; empty: any", fixed=True),
    Setting("dds_domain", 0, "of the Go2's own DDS, not of ROS", 0, MAX_DOMAIN, fixed=True),
    Setting("obstacle_avoidance", False, "let the Go2 avoid obstacles by itself"),
    Setting(
        "odom_rate", 20.0, "Hz, odometry messages a second from the Go2's own state", 1.0, 50.0, fixed=True
    ),
)


class Go2Link:
    """Publishes odom, serves ``~/damp``, and passes on what the motion node wants of :attr:`robot`.

    Args:
        node: the motion node.
        settings: its parameters.
        emergency_stop: called before the joints are let go.
    """

    def __init__(self, node: Node, settings: Mapping[str, Any], emergency_stop: Callable[[], None]) -> None:
        self._node, self._settings, self._emergency_stop = node, settings, emergency_stop
        check_middleware()
        # Longer than some steps of the guard, and never longer than its longest watchdog.
        silence_s = min(0.45, max(0.25, 2.5 / settings["rate"]))
        self.robot = Go2(
            Go2Options(
                settings["network_interface"],
                settings["dds_domain"],
                settings["obstacle_avoidance"],
                silence_s,
            )
        )
        self._began = time.monotonic()
        self._heard: float | None = None
        self._said = ""
        self._odom = node.create_publisher(Odometry, "odom", LATEST)
        self._damp = node.create_service(Trigger, "~/damp", self._on_damp)
        self._timer = node.create_timer(
            1.0 / settings["odom_rate"], self._publish_odometry, clock=steady_clock()
        )
        self._diagnostics = Diagnostics(node, "go2", self._health)

    def move(self, vx: float, wz: float) -> None:
        """Go at these velocities, m/s and rad/s; zero stops."""
        self.robot.avoid_obstacles(self._settings["obstacle_avoidance"])
        self.robot.move(vx, wz)

    def posture(self, name: str) -> None:
        """``stand up`` or ``sit down``; what keeps the robot from it is logged."""
        try:
            self.robot.posture(name)
        except SpecDecodeError as error:
            self._node.get_logger().error(str(error))

    def _on_damp(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._emergency_stop()
        self.robot.damp()
        response.success = self.robot.status().connected
        response.message = (
            "the joints are let go and the robot is held; call ~/release, then tell it to stand up"
            if response.success
            else "the Go2 is not heard; damp is tried for two seconds: use the remote control"
        )
        self._node.get_logger().error(response.message)
        return response

    def _publish_odometry(self) -> None:
        state = self.robot.status().state
        if state.heard is None or state.heard == self._heard:
            return
        self._heard = state.heard
        position, velocity = (state.x, state.y, state.height), (state.vx, state.vy, state.wz)
        orientation = quaternion(state.roll, state.pitch, state.yaw)
        stamp = self._node.get_clock().now().to_msg()
        self._odom.publish(odometry(stamp, position, orientation, velocity, GO2_ODOMETRY))

    def _health(self) -> Health:
        status = self.robot.status()
        state = status.state
        starting = time.monotonic() - self._began < _STARTS_S
        if status.problem != self._said and not starting:
            self._said = status.problem
            self._node.get_logger().warning(status.problem or "the Go2 answers and all is well")
        level = OK if not status.problem else WARN if status.connected and not status.stop_pending else ERROR
        return Health(
            level,
            status.problem or "connected",
            {
                "connected": status.connected,
                "mode": state.mode_name,
                "error_code": state.error_code,
                "battery": "unknown" if state.battery is None else state.battery,
                "volts": state.volts,
                "moving": status.moving,
                "stop_pending": status.stop_pending,
                "obstacle_avoidance": status.obstacle_avoidance,
                "brake": status.brake,
                "height": state.height,
                "vx": state.vx,
                "wz": state.wz,
            },
        )
