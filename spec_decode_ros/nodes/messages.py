"""ROS messages as several nodes write and read them."""

from __future__ import annotations

import array
import math
from dataclasses import dataclass

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header

CAMERA_FRAME = "head_camera_optical"
"""Of pictures: x to the right, y down, z ahead (REP 103)."""

Quaternion = tuple[float, float, float, float]
"""x, y, z, w."""


@dataclass(frozen=True)
class Variances:
    """Of odometry along and about each axis: m², rad², and their squares a second."""

    pose: tuple[float, float, float, float, float, float]
    twist: tuple[float, float, float, float, float, float]


EXACT = Variances((1e-6,) * 6, (1e-6,) * 6)
"""The simulator's. Not zero, which some would read as unknown."""

GO2_ODOMETRY = Variances((0.01, 0.01, 1e-3, 1e-4, 1e-4, 0.01), (2.5e-3, 2.5e-3, 2.5e-3, 0.01, 0.01, 2.5e-3))
"""Orders of magnitude, not measured on a real robot: 0.1 m, six degrees, 0.05 m/s; the IMU knows better what is level."""


def nanoseconds(stamp: Time) -> int:
    """A message's stamp as one number."""
    return stamp.sec * 10**9 + stamp.nanosec


def stamp_from(nanoseconds: int) -> Time:
    """The stamp of so many nanoseconds."""
    sec, nanosec = divmod(nanoseconds, 10**9)
    return Time(sec=sec, nanosec=nanosec)


def compressed(jpeg: bytes, stamp: Time, frame_id: str = CAMERA_FRAME) -> CompressedImage:
    """A message with a JPEG frame in it."""
    # As an array, because the message class checks every byte of anything else in a loop of Python's.
    message = CompressedImage(format="jpeg", data=array.array("B", jpeg))
    message.header.stamp, message.header.frame_id = stamp, frame_id
    return message


def twist_stamped(vx: float, wz: float, stamp: Time, frame_id: str = "base_link") -> TwistStamped:
    """Velocities forward (m/s) and to the left (rad/s)."""
    message = TwistStamped()
    message.header.stamp, message.header.frame_id = stamp, frame_id
    message.twist.linear.x, message.twist.angular.z = float(vx), float(wz)
    return message


def velocities(message: TwistStamped | Twist) -> tuple[float, float]:
    """The velocities forward (m/s) and to the left (rad/s) of either kind of message."""
    twist = message.twist if isinstance(message, TwistStamped) else message
    return twist.linear.x, twist.angular.z


def camera_info(header: Header, width: int, height: int, horizontal_fov: float) -> CameraInfo:
    """Of an undistorted picture with that header, whose field of view is in radians."""
    focal, x, y = width / (2.0 * math.tan(horizontal_fov / 2.0)), width / 2.0, height / 2.0
    message = CameraInfo(header=header, width=width, height=height, distortion_model="plumb_bob")
    message.d = [0.0] * 5
    message.k = [focal, 0.0, x, 0.0, focal, y, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, x, 0.0, 0.0, focal, y, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def quaternion(roll: float, pitch: float, yaw: float) -> Quaternion:
    """Of angles in radians, about x, then y, then z of the world."""
    (cr, sr), (cp, sp), (cy, sy) = ((math.cos(a / 2.0), math.sin(a / 2.0)) for a in (roll, pitch, yaw))
    return (
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    )


def odometry(
    stamp: Time,
    position: tuple[float, float, float],
    orientation: Quaternion,
    velocity: tuple[float, float, float],
    variances: Variances,
) -> Odometry:
    """Position in metres; velocity forward and to the left in m/s, and turning in rad/s."""
    message = Odometry()
    message.header.stamp = stamp
    message.header.frame_id, message.child_frame_id = "odom", "base_link"
    pose, twist = message.pose.pose, message.twist.twist
    pose.position.x, pose.position.y, pose.position.z = position
    turn = pose.orientation
    turn.x, turn.y, turn.z, turn.w = orientation
    twist.linear.x, twist.linear.y, twist.angular.z = velocity
    for covariance, of in (
        (message.pose.covariance, variances.pose),
        (message.twist.covariance, variances.twist),
    ):
        covariance[::7] = of
    return message


def planar_pose(message: Odometry) -> tuple[float, float, float]:
    """Position x, y in metres and yaw in radians of an odometry message."""
    position, turn = message.pose.pose.position, message.pose.pose.orientation
    yaw = math.atan2(2 * (turn.w * turn.z + turn.x * turn.y), 1 - 2 * (turn.y * turn.y + turn.z * turn.z))
    return position.x, position.y, yaw


def unlike_types(node: Node, topic: str) -> str:
    """Which node hears what this one publishes as another type, and so hears nothing; empty if none does."""
    sent = {
        info.topic_type
        for info in node.get_publishers_info_by_topic(topic)
        if (info.node_name, info.node_namespace) == (node.get_name(), node.get_namespace())
    }
    for info in node.get_subscriptions_info_by_topic(topic):
        if sent and info.topic_type not in sent:
            return f"{info.node_name} hears {topic} as {info.topic_type}, and {', '.join(sent)} is sent"
    return ""


def status_values(status: DiagnosticStatus) -> dict[str, str]:
    """The values of a diagnostic status, by key."""
    return {value.key: value.value for value in status.values}
