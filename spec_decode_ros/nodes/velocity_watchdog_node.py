"""Stops a robot whose driver keeps the last velocity when velocities cease, as Gazebo's VelocityControl does."""

from __future__ import annotations

import time
from functools import partial

from geometry_msgs.msg import Twist, TwistStamped
from rclpy.node import Node

from spec_decode_ros.nodes.common import LATEST, Settings, run, steady_clock
from spec_decode_ros.settings import Setting

PARAMETERS = (
    Setting("stamped", False, "cmd_vel is a TwistStamped; false: a Twist", fixed=True),
    Setting("patience", 0.3, "s without a velocity after which a robot that moves is told zero", 0.1, 0.5),
)

_LOOK_PERIOD_S = 0.05


class VelocityWatchdogNode(Node):
    """Subscribes cmd_vel, and publishes zero there when velocities cease before they were zero."""

    def __init__(self) -> None:
        super().__init__("velocity_watchdog_node")
        self._settings = Settings(self, PARAMETERS)
        self._stamped = self._settings["stamped"]
        self._moving = self._told = False
        self._last = time.monotonic()
        kind = TwistStamped if self._stamped else Twist
        self._zero = self.create_publisher(kind, "cmd_vel", LATEST)
        self.create_subscription(kind, "cmd_vel", self._on_velocity, LATEST)
        # Steady: where the simulator's clock stands, a velocity would never be too old.
        self.create_timer(_LOOK_PERIOD_S, self._look, clock=steady_clock())
        self.get_logger().info("ready")

    def _on_velocity(self, message: Twist | TwistStamped) -> None:
        twist = message.twist if isinstance(message, TwistStamped) else message
        self._moving = any((twist.linear.x, twist.linear.y, twist.angular.z))
        self._told = self._told and not self._moving
        self._last = time.monotonic()

    def _look(self) -> None:
        silent = time.monotonic() - self._last
        # The zero is heard here as well, and ends this.
        if not self._moving or silent < self._settings["patience"]:
            return
        zero = TwistStamped() if self._stamped else Twist()
        if self._stamped:
            zero.header.stamp = self.get_clock().now().to_msg()
        self._zero.publish(zero)
        if not self._told:
            self._told = True
            self.get_logger().warning(
                f"velocities ceased while the robot moved, {silent:.2f} s ago: it is told zero; does motion_node run?"
            )


main = partial(run, VelocityWatchdogNode)
"""Entry point of the ``velocity_watchdog_node`` executable."""


if __name__ == "__main__":
    main()
