"""The whole stack over real processes: frames, drafter, ZeroMQ, verifier, motion guard, velocities."""

from __future__ import annotations

import io
import math
import re
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")
pytest.importorskip("torch", reason="torch is not installed: the models need it")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from PIL import Image
from ros_session import wait_for
from scripted_pair import make_scripted_pair
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as RawImage
from serving import serving
from std_msgs.msg import String

from spec_decode_ros.nodes.common import HANDED_ON, RECEIVED

VERIFIED_TEXT = "vx 0.4 wz 0.2 | walking 1"
DRAFT_TEXT = "vx 0.6 wz 0.2 | walking 1"

MOTION = {"max_age_s": 10.0, "max_ax": 20.0, "max_aw": 40.0, "idle": "zeros"}
DECIDING = {"action_period": 0.2, "threads": 1, "deadline": 10.0, "max_frame_age": 10.0}
"""Patience with a busy machine: late is late here and no failure, and one step reaches the speed of an action. A stop is
seen best where zeros come out."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Path:
    return make_scripted_pair(tmp_path_factory.mktemp("walks"), VERIFIED_TEXT, DRAFT_TEXT)


@pytest.fixture(scope="module")
def frames(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for index in range(3):
        Image.new("RGB", (168, 84), (80 * index, 90, 120)).save(folder / f"{index}.jpg")
    return folder


def velocity(log) -> tuple[float, float]:
    """The newest velocities; NaN, which equals nothing, before the first."""
    if not log:
        return math.nan, math.nan
    twist = log[-1][1].twist
    return twist.linear.x, twist.angular.z


def values(diagnostics, part: str) -> dict[str, str]:
    """The newest diagnostics of one part of the stack."""
    found = [s for _, m in list(diagnostics) for s in m.status if s.name.endswith(part)]
    return {value.key: value.value for value in found[-1].values} if found else {}


def test_a_command_walks_the_robot_and_a_lost_drafter_stops_it(ros, pair, frames):
    cloud = ros.start("cloud_bridge_node", pair=pair, bind="tcp://127.0.0.1:*", threads=1)
    found = re.search(r"at (tcp://\S+)", cloud.output)
    assert found, cloud.output
    endpoint = found[1]
    motion = ros.start("motion_node", **MOTION)
    drafter = ros.start("drafter_node", pair=pair, endpoint=endpoint, **DECIDING)
    ros.start("camera_node", source=frames)
    cmd_vel = ros.listen(TwistStamped, "cmd_vel", 50)
    verified = ros.listen(TwistStamped, "action/verified", 10)
    drafts = ros.listen(TwistStamped, "action/draft", 10)
    texts = ros.listen(String, "action/text", 10)
    overlays = ros.listen(CompressedImage, "overlay/compressed", 1)
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
    wait_for(lambda: len(cmd_vel) > 5, "velocities")
    assert velocity(cmd_vel) == (0.0, 0.0)
    assert not verified, "nothing is decided before there is a command"

    ros.publisher(String, "command", 10).publish(String(data="walk to the red chair"))
    wait_for(lambda: velocity(cmd_vel) == (0.4, 0.2), "the target's velocities")
    wait_for(lambda: len(texts) > 3, "action texts")
    assert {message.data for _, message in texts} == {VERIFIED_TEXT}
    assert {(m.twist.linear.x, m.twist.angular.z) for _, m in verified} == {(0.4, 0.2)}
    assert {m.twist.linear.x for _, m in drafts} <= {0.0, 0.4, 0.6}
    picture = wait_for(lambda: overlays, "an overlay")[0][1]
    assert bytes(picture.data[:2]) == b"\xff\xd8"
    # On a busy machine every draft of the first actions may come late, which counts as not accepted.
    told = wait_for(
        lambda: float((v := values(diagnostics, "drafter")).get("acceptance_rate") or 0) > 0 and v,
        "acceptance",
    )
    assert told["connected"] == "True"
    assert float(told["acceptance_rate"]) <= 1.0
    assert float(told["ttva_ms"]) > 0.0
    assert float(told["rtt_ms"]) >= 0.0
    wait_for(lambda: int(values(diagnostics, "verifier").get("actions", 0)) > 0, "the verifier's diagnostics")

    drafter.kill()
    killed = time.monotonic()
    stops = wait_for(
        lambda: [when for when, m in list(cmd_vel) if when > killed and m.twist.linear.x == 0.0], "the stop"
    )
    # The watchdog's half second, and room for a machine that is busy with something else.
    assert stops[0] - killed < 3.0
    count = len(cmd_vel)
    wait_for(lambda: len(cmd_vel) > count + 5, "further velocities")
    assert all(m.twist.linear.x == 0.0 for _, m in cmd_vel[count:])
    assert motion.interrupt() == 0
    assert cloud.interrupt() == 0
    assert "Traceback" not in motion.output + cloud.output


def test_without_the_cloud_the_robot_goes_on_slower_and_recovers(ros, pair, frames):
    ros.start("motion_node", unverified_factor=0.5, **MOTION)
    ros.start("camera_node", source=frames)
    with ExitStack() as cloud:
        endpoint = cloud.enter_context(serving(pair))
        parameters = {**DECIDING, "deadline": 2.0, "on_link_loss": "draft"}
        drafter = ros.start("drafter_node", pair=pair, endpoint=endpoint, **parameters)
        cmd_vel = ros.listen(TwistStamped, "cmd_vel", 50)
        ros.publisher(String, "command", 10).publish(String(data="walk to the red chair"))
        wait_for(lambda: velocity(cmd_vel) == (0.4, 0.2), "the target's velocities")
    wait_for(lambda: velocity(cmd_vel) == (0.3, 0.1), "half of the draft's velocities")
    count = len(cmd_vel)
    wait_for(lambda: len(cmd_vel) > count + 20, "a second of velocities")
    # Between two drafts the robot may stand, but nothing goes faster than drafts may.
    assert max(m.twist.linear.x for _, m in cmd_vel[count:]) <= 0.3
    with serving(pair, endpoint):
        wait_for(lambda: velocity(cmd_vel) == (0.4, 0.2), "the target's velocities again")
    assert drafter.interrupt() == 0
    assert "Traceback" not in drafter.output


def test_a_lost_cloud_stops_the_robot_until_the_next_command_if_that_is_wanted(ros, pair, frames):
    ros.start("motion_node", **MOTION)
    ros.start("camera_node", source=frames)
    with serving(pair) as endpoint:
        parameters = {**DECIDING, "deadline": 2.0, "on_link_loss": "stop"}
        drafter = ros.start("drafter_node", pair=pair, endpoint=endpoint, **parameters)
        cmd_vel = ros.listen(TwistStamped, "cmd_vel", 50)
        diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
        command = ros.publisher(String, "command", 10)
        # Before that a command is one that was given without a link.
        wait_for(lambda: values(diagnostics, "drafter").get("connected") == "True", "the connection")
        command.publish(String(data="walk to the red chair"))
        wait_for(lambda: velocity(cmd_vel) == (0.4, 0.2), "the target's velocities")
    # Not the first zero, which may stand between two actions, but a second without anything else.
    wait_for(lambda: all(m.twist.linear.x == 0.0 for _, m in cmd_vel[-20:]), "the stop")
    count = len(cmd_vel)
    wait_for(lambda: len(cmd_vel) > count + 60, "three more seconds of velocities")
    assert all(m.twist.linear.x == 0.0 for _, m in cmd_vel[count:])
    with serving(pair, endpoint):
        drafter.wait_until_it_says("the link is lost")
        wait_for(lambda: values(diagnostics, "drafter").get("connected") == "True", "the connection")
        count = len(cmd_vel)
        wait_for(lambda: len(cmd_vel) > count + 20, "a second of velocities")
        assert all(m.twist.linear.x == 0.0 for _, m in cmd_vel[count:]), "nobody has told it to move again"
        command.publish(String(data="walk to the red chair"))
        wait_for(lambda: velocity(cmd_vel) == (0.4, 0.2), "the target's velocities again")


def test_when_its_verifier_goes_the_robot_walks_on_with_the_next(ros, pair, frames):
    ros.start("motion_node", **MOTION)
    ros.start("camera_node", source=frames)
    with serving(pair) as second, ExitStack() as first:
        one = first.enter_context(serving(pair))
        # A single action without a verdict would end the walk.
        parameters = {**DECIDING, "on_link_loss": "stop", "endpoint": f"{one},{second}"}
        drafter = ros.start("drafter_node", pair=pair, **parameters)
        cmd_vel = ros.listen(TwistStamped, "cmd_vel", 50)
        diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
        wait_for(lambda: values(diagnostics, "drafter").get("endpoint") == one, "the connection")
        ros.publisher(String, "command", 10).publish(String(data="walk to the red chair"))
        wait_for(lambda: velocity(cmd_vel) == (0.4, 0.2), "the target's velocities")
        first.close()
        wait_for(lambda: values(diagnostics, "drafter").get("endpoint") == second, "the other verifier")
        assert values(diagnostics, "drafter")["failovers"] == "1"
        verified = ros.listen(TwistStamped, "action/verified", 10)
        wait_for(lambda: len(verified) > 5, "verified actions")
        assert velocity(cmd_vel) == (0.4, 0.2)
        assert drafter.interrupt() == 0
    assert "Traceback" not in drafter.output


@pytest.mark.parametrize("method", ["edge", "sync"])
def test_other_methods_move_the_robot_too(ros, pair, frames, method):
    ros.start("motion_node", unverified_factor=0.5, **MOTION)
    ros.start("camera_node", source=frames)
    with serving(pair) as endpoint:
        ros.start("drafter_node", pair=pair, endpoint=endpoint, method=method, **DECIDING)
        cmd_vel = ros.listen(TwistStamped, "cmd_vel", 50)
        ros.publisher(String, "command", 10).publish(String(data="walk to the red chair"))
        expected = (0.3, 0.1) if method == "edge" else (0.4, 0.2)
        wait_for(lambda: velocity(cmd_vel) == expected, "velocities")


def test_text_that_is_no_action_stops_the_robot_and_says_why(ros, tmp_path, frames):
    nonsense = make_scripted_pair(tmp_path, "vx 0.9 | red chair", "vx 0.9 | red chair")
    ros.start("motion_node", **MOTION)
    ros.start("camera_node", source=frames)
    with serving(nonsense) as endpoint:
        ros.start("drafter_node", pair=nonsense, endpoint=endpoint, **DECIDING)
        cmd_vel = ros.listen(TwistStamped, "cmd_vel", 50)
        diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
        ros.publisher(String, "command", 10).publish(String(data="walk to the red chair"))
        wait_for(lambda: int(values(diagnostics, "drafter").get("invalid_actions", 0)) > 2, "invalid actions")
    messages = [s.message for _, m in list(diagnostics) for s in m.status if s.name.endswith("drafter")]
    assert any("is not of the form" in message for message in messages)
    assert cmd_vel
    assert all(m.twist.linear.x == 0.0 and m.twist.angular.z == 0.0 for _, m in list(cmd_vel))


def test_a_posture_reaches_the_robot_once_and_the_drafter_rests(ros, tmp_path, frames):
    sitting = make_scripted_pair(tmp_path, "vx 0 wz 0.0 | sit down", "vx 0 wz 0.0 | sit down")
    ros.start("motion_node", **MOTION)
    ros.start("camera_node", source=frames)
    with serving(sitting) as endpoint:
        ros.start("drafter_node", pair=sitting, endpoint=endpoint, **DECIDING)
        postures = ros.listen(String, "posture", 10)
        texts = ros.listen(String, "action/text", 10)
        diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
        command = ros.publisher(String, "command", 10)
        command.publish(String(data="sit down"))
        wait_for(lambda: values(diagnostics, "drafter").get("resting") == "True", "rest")
        assert [message.data for _, message in postures] == ["sit down"]
        assert len(texts) == 3
        command.publish(String(data="sit down"))
        wait_for(lambda: len(texts) == 6, "the command once more")


def test_frames_that_are_broken_or_old_do_not_end_the_drafter(ros, pair):
    with serving(pair) as endpoint:
        ros.start("drafter_node", pair=pair, endpoint=endpoint, **DECIDING)
        verified = ros.listen(TwistStamped, "action/verified", 10)
        drafts = ros.listen(TwistStamped, "action/draft", 10)
        diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
        camera = ros.publisher(CompressedImage, "camera/image/compressed", 1)
        ros.publisher(String, RECEIVED, HANDED_ON).publish(String(data="walk to the red chair"))

        def keep_showing(data: bytes, until, what: str, age_s: float = 0.0) -> None:
            def again():
                message = CompressedImage(format="jpeg", data=data)
                now = ros.node.get_clock().now().nanoseconds - round(age_s * 1e9)
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
                camera.publish(message)
                time.sleep(0.1)
                return until()

            wait_for(again, what)

        keep_showing(b"\xff\xd8 no picture", lambda: drafts, "the stop that follows a broken frame")
        assert {m.twist.linear.x for _, m in drafts} == {0.0}
        assert not verified

        def stale() -> bool:
            return int(values(diagnostics, "drafter").get("stale_frames", 0)) > 0

        keep_showing(b"", stale, "a stale frame", age_s=50.0)
        good = io.BytesIO()
        Image.new("RGB", (168, 84), "red").save(good, "JPEG")
        keep_showing(
            good.getvalue(),
            lambda: verified and verified[-1][1].twist.linear.x == 0.4,
            "an action on a good frame",
        )


def test_raw_frames_will_do_where_a_camera_has_no_others(ros, pair):
    with serving(pair) as endpoint:
        ros.start("drafter_node", pair=pair, endpoint=endpoint, image_transport="raw", **DECIDING)
        verified = ros.listen(TwistStamped, "action/verified", 10)
        diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
        camera = ros.publisher(RawImage, "camera/image", 1)
        ros.publisher(String, RECEIVED, HANDED_ON).publish(String(data="walk to the red chair"))

        def show(encoding: str) -> None:
            message = RawImage(width=168, height=84, step=504, encoding=encoding, data=bytes(84 * 504))
            message.header.stamp = ros.node.get_clock().now().to_msg()
            camera.publish(message)
            time.sleep(0.1)

        def told() -> str:
            found = [s for _, m in list(diagnostics) for s in m.status if s.name.endswith("drafter")]
            return found[-1].message if found else ""

        wait_for(
            lambda: show("bayer_rggb8") or "is encoded as 'bayer_rggb8'" in told(), "what it cannot read"
        )
        assert not verified
        wait_for(lambda: show("bgr8") or (verified and verified[-1][1].twist.linear.x == 0.4), "an action")


def test_a_missing_pair_is_one_sentence(ros):
    process = ros.start("drafter_node", ready=None, pair="nowhere")
    assert process.wait() == 1
    assert "nowhere" in process.output
    assert "Traceback" not in process.output


def test_an_interrupt_while_the_models_load_exits_with_zero(ros, pair):
    process = ros.start("drafter_node", ready=None, pair=pair)
    time.sleep(1.5)  # in the middle of its imports, most likely; whenever it comes, it has to end
    assert process.interrupt() in (0, -2)
