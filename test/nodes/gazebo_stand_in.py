"""In Gazebo's place, which cannot be had as a wheel: its clock, its camera and its robot, as the bridges show them to ROS.

The clock starts at zero and frames are stamped with it, so that nodes which reckon with the time of day see only frames
that are fifty years old. Prints the arguments that it was started with, and the first velocity that it is told.
"""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

from geometry_msgs.msg import Twist
from PIL import Image
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage

from spec_decode_ros.nodes.common import LATEST_FRAME, run, steady_clock
from spec_decode_ros.nodes.messages import compressed


class StandIn(Node):
    """Publishes /clock and camera/image/compressed, subscribes cmd_vel."""

    def __init__(self) -> None:
        super().__init__("gazebo_stand_in")
        self._count = 0
        self._began = time.monotonic()
        self._told = False
        self._clock_out = self.create_publisher(Clock, "/clock", 10)
        self._frames = self.create_publisher(CompressedImage, "camera/image/compressed", LATEST_FRAME)
        self.create_subscription(Twist, "cmd_vel", self._on_velocity, 10)
        self.create_timer(0.01, self._tick, clock=steady_clock())
        self.create_timer(0.1, self._see, clock=steady_clock())

    def _now(self) -> Clock:
        elapsed = time.monotonic() - self._began
        message = Clock()
        message.clock.sec, message.clock.nanosec = int(elapsed), int(elapsed % 1.0 * 1e9)
        return message

    def _tick(self) -> None:
        self._clock_out.publish(self._now())

    def _see(self) -> None:
        # Another picture every time: a robot that walks and sees the same again stops.
        self._count += 1
        buffer = io.BytesIO()
        Image.new("RGB", (384, 192), (0, 128, self._count % 256)).save(buffer, "JPEG")
        self._frames.publish(compressed(buffer.getvalue(), self._now().clock))

    def _on_velocity(self, message: Twist) -> None:
        if message.linear.x != 0.0 and not self._told:
            self._told = True
            print(f"told to walk: {message.linear.x:g}", flush=True)


if __name__ == "__main__":
    print("started with", Path(sys.argv[0]).name, sys.argv[1:], flush=True)
    run(StandIn)
