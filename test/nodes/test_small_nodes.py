"""Camera, teleop and simulator nodes, each as a process."""

from __future__ import annotations

import subprocess

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from PIL import Image
from ros_session import wait_for
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import String

from spec_decode_ros.nodes.common import HANDED_ON, RECEIVED
from spec_decode_ros.nodes.messages import nanoseconds


def make_frames(folder, count: int = 3):
    for index in range(count):
        Image.new("RGB", (40 + index, 30), "blue").save(folder / f"{index}.jpg")
    return folder


def test_the_camera_publishes_a_folder_over_and_over(ros, tmp_path):
    from rclpy.qos import qos_profile_sensor_data

    folder = tmp_path / "frames"
    folder.mkdir()
    make_frames(folder)
    camera = ros.start("camera_node", source=folder, rate=20.0, horizontal_fov=90.0)
    frames = ros.listen(CompressedImage, "camera/image/compressed", qos_profile_sensor_data)
    cameras = ros.listen(CameraInfo, "camera/camera_info")
    wait_for(lambda: len(frames) >= 7, "frames")
    wait_for(lambda: {message.width for _, message in list(cameras)} == {40, 41, 42}, "the size of each")
    expected = {(folder / f"{index}.jpg").read_bytes() for index in range(3)}
    assert {bytes(message.data) for _, message in frames} == expected
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for _, m in frames]
    assert stamps == sorted(set(stamps))
    assert camera.interrupt() == 0


def test_the_camera_says_when_its_source_has_ended(ros, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    make_frames(folder)
    ros.start("camera_node", source=folder, rate=20.0, loop=False).wait_until_it_says("has ended")


def test_the_camera_skips_a_damaged_picture_and_goes_on(ros, tmp_path):
    from rclpy.qos import qos_profile_sensor_data

    folder = make_frames(tmp_path)
    (folder / "1.jpg").write_bytes((folder / "1.jpg").read_bytes()[:-100])
    camera = ros.start("camera_node", source=folder, rate=20.0)
    frames = ros.listen(CompressedImage, "camera/image/compressed", qos_profile_sensor_data)
    health = ros.listen(DiagnosticArray, "/diagnostics", 10)
    wait_for(lambda: len(frames) >= 5, "frames beyond the damaged one")
    assert {bytes(message.data) for _, message in frames} == {
        (folder / name).read_bytes() for name in ("0.jpg", "2.jpg")
    }
    camera.wait_until_it_says("1.jpg is no readable picture")

    def skipped() -> list[int]:
        values = [value for _, array in health for status in array.status for value in status.values]
        return [int(value.value) for value in values if value.key == "skipped"]

    wait_for(lambda: any(count > 0 for count in skipped()), "the count of skipped pictures")


@pytest.mark.parametrize("source", ["", "/nowhere/at/all"])
def test_the_camera_refuses_what_is_no_source_in_one_sentence(ros, source):
    camera = ros.start("camera_node", ready=None, **({"source": source} if source else {}))
    assert camera.wait() == 1
    assert "frame source" in camera.output
    assert "Traceback" not in camera.output


def test_the_operator_types_commands_and_stops(ros):
    ros.start("motion_node")
    commands = ros.listen_for_publisher_later(String, RECEIVED, HANDED_ON)
    teleop = ros.start("teleop_node", ready="type what", stdin=subprocess.PIPE)

    def type_line(line: str) -> None:
        teleop.popen.stdin.write(f"{line}\n".encode())
        teleop.popen.stdin.flush()

    type_line("go to the red chair")
    wait_for(lambda: [m.data for _, m in commands] == ["go to the red chair"], "the command")
    teleop.wait_until_it_says("said: go to the red chair")
    type_line("")
    teleop.wait_until_it_says("latched")
    type_line("release")
    teleop.wait_until_it_says("released")
    type_line("Stop, please!")
    wait_for(lambda: len(commands) == 3, "the stop")
    teleop.popen.stdin.write(b"halt")
    teleop.popen.stdin.close()
    wait_for(lambda: len(commands) == 4, "the last line, which has no end")
    assert [m.data for _, m in commands] == ["go to the red chair", "stop", "stop", "stop"]
    assert teleop.interrupt() == 0


def test_one_command_from_a_parameter(ros):
    commands = ros.listen_for_publisher_later(String, "command", 10)
    teleop = ros.start("teleop_node", ready="said: turn left", command="turn left", read_lines=False)
    wait_for(lambda: commands, "the command")
    assert teleop.interrupt() == 0


def test_a_command_that_nobody_hears_is_not_lost_silently(ros):
    ros.start("teleop_node", ready=None, command="turn left", wait_s=0.5).wait_until_it_says("nobody listens")


def distance(diagnostics) -> float:
    found = [v.value for _, m in list(diagnostics) for s in m.status for v in s.values if v.key == "distance"]
    return float(found[-1]) if found else -1.0


def test_the_simulated_robot_walks_and_is_seen(ros):
    pytest.importorskip("mujoco", reason="mujoco is not installed: the simulator needs it")
    from rclpy.qos import qos_profile_sensor_data

    sim = ros.start("sim_node", seed=1)
    frames = ros.listen(CompressedImage, "camera/image/compressed", qos_profile_sensor_data)
    odometry = ros.listen(Odometry, "odom", 10)
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
    cmd_vel = ros.publisher(TwistStamped, "cmd_vel")
    wait_for(
        lambda: len(frames) > 2 and len(odometry) > 2 and distance(diagnostics) > 0.0, "frames and odometry"
    )
    assert bytes(frames[0][1].data[:2]) == b"\xff\xd8"
    cameras = ros.listen(CameraInfo, "camera/camera_info")
    shown = lambda: {nanoseconds(m.header.stamp) for _, m in list(frames)}  # noqa: E731
    wait_for(
        lambda: shown() & {nanoseconds(m.header.stamp) for _, m in list(cameras)}, "the camera of a frame"
    )
    assert (cameras[0][1].width, cameras[0][1].height) == (384, 192)
    assert cameras[0][1].header.frame_id == frames[0][1].header.frame_id == "head_camera_optical"

    def heading() -> float:
        orientation = odometry[-1][1].pose.pose.orientation
        return 2.0 * (orientation.z if orientation.w >= 0.0 else -orientation.z)

    before = heading()
    message = TwistStamped()
    message.twist.angular.z = 0.8

    def turned() -> bool:
        cmd_vel.publish(message)
        return abs(heading() - before) > 0.3

    wait_for(turned, "the robot to turn")
    # Nobody repeats the velocity: it stands still by itself.
    wait_for(lambda: abs(odometry[-1][1].twist.twist.angular.z) < 0.1, "the robot to stand")
    posture = ros.publisher(String, "posture", 10)
    posture.publish(String(data="sit down"))
    wait_for(lambda: odometry[-1][1].pose.pose.position.z < 0.2, "the robot to sit")
    assert ros.call("sim_node/reset").success
    wait_for(lambda: odometry[-1][1].pose.pose.position.z > 0.25, "the robot at its start")
    assert sim.interrupt() == 0
    assert "Traceback" not in sim.output


def test_a_target_that_is_not_in_the_room_is_one_sentence(ros):
    pytest.importorskip("mujoco", reason="mujoco is not installed: the simulator needs it")
    sim = ros.start("sim_node", ready=None, target="purple elephant")
    assert sim.wait() == 1
    assert "purple elephant" in sim.output
    assert "Traceback" not in sim.output
