"""ROS messages as several nodes write and read them."""

from __future__ import annotations

import array
import math

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CompressedImage


def nanoseconds(stamp: Time) -> int:
    """A message's stamp as one number."""
    return stamp.sec * 10**9 + stamp.nanosec


def stamp_from(nanoseconds: int) -> Time:
    """The stamp of so many nanoseconds."""
    sec, nanosec = divmod(nanoseconds, 10**9)
    return Time(sec=sec, nanosec=nanosec)


def compressed(jpeg: bytes, stamp: Time, frame_id: str = "head_camera") -> CompressedImage:
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


def odometry(
    stamp: Time, position: tuple[float, float, float], yaw: float, velocity: tuple[float, float, float]
) -> Odometry:
    """Position in metres, yaw in radians; velocity forward and to the left in m/s, and turning in rad/s."""
    message = Odometry()
    message.header.stamp = stamp
    message.header.frame_id, message.child_frame_id = "odom", "base_link"
    pose, twist = message.pose.pose, message.twist.twist
    pose.position.x, pose.position.y, pose.position.z = position
    pose.orientation.z, pose.orientation.w = math.sin(yaw / 2.0), math.cos(yaw / 2.0)
    twist.linear.x, twist.linear.y, twist.angular.z = velocity
    return message


def planar_pose(message: Odometry) -> tuple[float, float, float]:
    """Position x, y in metres and yaw in radians of an odometry message."""
    position, turn = message.pose.pose.position, message.pose.pose.orientation
    yaw = math.atan2(2 * (turn.w * turn.z + turn.x * turn.y), 1 - 2 * (turn.y * turn.y + turn.z * turn.z))
    return position.x, position.y, yaw


def status_values(status: DiagnosticStatus) -> dict[str, str]:
    """The values of a diagnostic status, by key."""
    return {value.key: value.value for value in status.values}
