"""A MuJoCo room with a simulated Go2, in real time, with the topics of the robot's camera and legs."""

from __future__ import annotations

import math
import time
from functools import partial

from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import String
from std_srvs.srv import Trigger

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.nodes.common import (
    ERROR,
    EVENTS,
    LATEST,
    LATEST_FRAME,
    OK,
    WARN,
    Diagnostics,
    Health,
    Settings,
    run,
    steady_clock,
)
from spec_decode_ros.nodes.messages import EXACT, camera_info, compressed, odometry, quaternion, velocities
from spec_decode_ros.settings import Setting
from spec_decode_ros.sim.go2 import CONTROL_PERIOD_S
from spec_decode_ros.sim.render import BACKENDS
from spec_decode_ros.sim.scene import FOV_X, HEIGHT, WIDTH
from spec_decode_ros.sim.simulation import Simulation
from spec_decode_ros.sim.task import make_task

PARAMETERS = (
    Setting("seed", 0, "of the room, its objects and the suggested task", 0, 2**31 - 1, fixed=True),
    Setting(
        "target", "", "object whose distance is reported, such as 'red chair'; empty: the task's", fixed=True
    ),
    Setting("backend", "auto", "how frames are drawn", choices=(*BACKENDS, "auto"), fixed=True),
    Setting("camera_rate", 10.0, "Hz, frames a second", 0.5, 30.0, fixed=True),
    Setting("odom_rate", 20.0, "Hz, odometry messages a second", 1.0, 50.0, fixed=True),
    Setting("stamped", True, "cmd_vel is a TwistStamped; false: a Twist", fixed=True),
    Setting(
        "cmd_vel_timeout", 0.3, "s without a velocity until the robot stands, as the real one does", 0.1, 5.0
    ),
)


class SimNode(Node):
    """Publishes camera/image/compressed, camera/camera_info and odom; subscribes cmd_vel and posture."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        self._settings = settings = Settings(self, PARAMETERS)
        task = make_task(settings["seed"])
        self._target = settings["target"] or task.target
        # Made and used in this one thread, which runs all timers and callbacks: OpenGL demands it.
        self._sim = Simulation(task.scene, settings["seed"], settings["backend"])
        self._sim.find_object(self._target)
        self._sim.jpeg()
        self._began = time.monotonic()
        self._commanded_at = self._began
        self._frames = self.create_publisher(CompressedImage, "camera/image/compressed", LATEST_FRAME)
        self._camera = self.create_publisher(CameraInfo, "camera/camera_info", LATEST)
        self._odom = self.create_publisher(Odometry, "odom", LATEST)
        kind = TwistStamped if settings["stamped"] else Twist
        self.create_subscription(kind, "cmd_vel", self._on_velocity, LATEST)
        self.create_subscription(String, "posture", self._on_posture, EVENTS)
        self.create_service(Trigger, "~/reset", self._on_reset)
        clock = steady_clock()
        self.create_timer(CONTROL_PERIOD_S, self._advance, clock=clock)
        self.create_timer(1.0 / settings["camera_rate"], self._publish_frame, clock=clock)
        self.create_timer(1.0 / settings["odom_rate"], self._publish_odometry, clock=clock)
        self._diagnostics = Diagnostics(self, "simulation", self._health)
        self.get_logger().info(f"ready: room {settings['seed']}, try the command: go to the {self._target}")

    def _on_velocity(self, message: TwistStamped | Twist) -> None:
        self._commanded_at = time.monotonic()
        try:
            self._sim.set_velocity(*velocities(message))
        except SpecDecodeError as error:
            self._sim.set_velocity(0.0, 0.0)
            self.get_logger().warning(str(error), throttle_duration_sec=2.0)

    def _on_posture(self, message: String) -> None:
        try:
            self._sim.set_posture(message.data)
        except SpecDecodeError as error:
            self.get_logger().warning(str(error))

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._sim.reset()
        self._began = time.monotonic()
        response.success, response.message = True, "the robot is back at its start"
        return response

    def _advance(self) -> None:
        now = time.monotonic()
        if now - self._commanded_at > self._settings["cmd_vel_timeout"]:
            self._sim.set_velocity(0.0, 0.0)
        behind = now - self._began - self._sim.time
        self._sim.catch_up(now - self._began)
        if behind > 1.0:
            # The machine is too slow for real time: go on from here instead of catching up.
            self._began = now - self._sim.time

    def _publish_frame(self) -> None:
        frame = compressed(self._sim.jpeg(), self.get_clock().now().to_msg())
        self._frames.publish(frame)
        self._camera.publish(camera_info(frame.header, WIDTH, HEIGHT, FOV_X))

    def _publish_odometry(self) -> None:
        now, pose = self._sim.odometry, self._sim.odometry.pose
        position = (pose.x, pose.y, self._sim.robot.height)
        orientation = quaternion(*self._sim.robot.tilt, pose.yaw)
        stamp = self.get_clock().now().to_msg()
        self._odom.publish(odometry(stamp, position, orientation, (now.vx, now.vy, now.wz), EXACT))

    def _health(self) -> Health:
        sim = self._sim
        pose, collisions = sim.odometry.pose, sim.collisions
        values: dict[str, object] = {
            "target": self._target,
            "distance": sim.distance_to(self._target),
            "bearing_deg": math.degrees(sim.bearing_to(self._target)),
            "collisions": len(collisions),
            "last_collision": collisions[-1].thing if collisions else "",
            "x": pose.x,
            "y": pose.y,
            "yaw": pose.yaw,
            "path_length": sim.path_length,
            "sim_time": sim.time,
            "sitting": sim.robot.sitting,
            "fallen": sim.robot.fallen,
        }
        if sim.robot.fallen:
            return Health(ERROR, "the robot has fallen; call ~/reset", values)
        if collisions:
            return Health(WARN, f"touched {collisions[-1].thing}", values)
        return Health(OK, "running", values)

    def close(self) -> None:
        """Free the camera, in the thread that made it."""
        self._sim.close()


main = partial(run, SimNode)
"""Entry point of the ``sim_node`` executable."""


if __name__ == "__main__":
    main()
