"""What messages say of frames, uncertainty and the camera."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")

from builtin_interfaces.msg import Time

from spec_decode_ros.nodes.messages import EXACT, GO2_ODOMETRY, camera_info, compressed, odometry, quaternion


def rotate(turn: tuple[float, float, float, float], v: tuple[float, float, float]) -> list[float]:
    """A vector turned by a quaternion (x, y, z, w)."""
    x, y, z, w = turn
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        (2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        (2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return [sum(a * b for a, b in zip(row, v, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("angles", "forward"),
    [
        ((0.0, 0.0, math.pi / 2), (0.0, 1.0, 0.0)),
        ((0.0, math.pi / 2, 0.0), (0.0, 0.0, -1.0)),
        ((math.pi / 2, 0.0, 0.0), (1.0, 0.0, 0.0)),
        # Yaw is applied last: a robot that looks down and stands across.
        ((0.0, math.pi / 4, math.pi / 2), (0.0, math.sqrt(0.5), -math.sqrt(0.5))),
    ],
)
def test_an_orientation_is_roll_then_pitch_then_yaw(angles, forward) -> None:
    turn = quaternion(*angles)
    assert math.hypot(*turn) == pytest.approx(1.0)
    assert rotate(turn, (1.0, 0.0, 0.0)) == pytest.approx(forward, abs=1e-9)


def test_odometry_says_how_far_it_can_be_trusted() -> None:
    turn = quaternion(0.1, 0.2, 0.3)
    exact = odometry(Time(), (1.0, 2.0, 0.3), turn, (0.4, 0.0, 0.1), EXACT)
    pose = exact.pose.pose.orientation
    assert (pose.x, pose.y, pose.z, pose.w) == turn
    assert (exact.header.frame_id, exact.child_frame_id) == ("odom", "base_link")
    drifting = odometry(Time(), (1.0, 2.0, 0.3), turn, (0.4, 0.0, 0.1), GO2_ODOMETRY)
    for message in (exact, drifting):
        for matrix in (message.pose.covariance, message.twist.covariance):
            rows = [list(matrix[6 * row : 6 * row + 6]) for row in range(6)]
            assert all(rows[i][i] > 0.0 for i in range(6)), "a zero would be read as unknown"
            assert all(rows[i][j] == 0.0 for i in range(6) for j in range(6) if i != j)
    assert drifting.pose.covariance[0] > exact.pose.covariance[0]


def test_a_camera_info_is_that_of_a_pinhole() -> None:
    frame = compressed(b"\xff\xd8", Time(sec=7))
    info = camera_info(frame.header, 384, 192, math.radians(90.0))
    assert info.header == frame.header
    assert frame.header.frame_id == "head_camera_optical", "x to the right, y down, z ahead (REP 103)"
    assert (info.width, info.height, info.distortion_model) == (384, 192, "plumb_bob")
    assert list(info.k) == pytest.approx([192.0, 0.0, 192.0, 0.0, 192.0, 96.0, 0.0, 0.0, 1.0])
    assert list(info.p) == pytest.approx([192.0, 0.0, 192.0, 0.0, 0.0, 192.0, 96.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    assert list(info.r) == [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    assert list(info.d) == [0.0] * 5
