"""How an operator's command reaches every node that wants it, however short its sender is there."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_session import WAIT_S, Ros, wait_for
from std_msgs.msg import String

from spec_decode_ros.nodes.common import HANDED_ON, RECEIVED

DISCOVERS_S, LEAVES_S = 0.5, 1.0
"""As `ros2 topic pub --once --keep-alive 1`: the default of 0.1 s is no time on a machine that is busy with other tests."""

LATE_S = HANDED_ON.lifespan.nanoseconds * 1e-9


def publish_once(topic: str, text: str) -> None:
    """What `ros2 topic pub --once` does: it sends when it has found one subscriber, and is gone a moment later."""
    context = Context()
    rclpy.init(context=context)
    node = Node("_ros2cli", context=context, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    end = time.monotonic() + DISCOVERS_S
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=max(0.0, end - time.monotonic()))
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    publisher = node.create_publisher(String, topic, latched)
    end = time.monotonic() + WAIT_S
    while publisher.get_subscription_count() < 1 and time.monotonic() < end:
        time.sleep(0.1)
    publisher.publish(String(data=text))
    time.sleep(LEAVES_S)
    executor.remove_node(node)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_commands_that_are_published_once_are_handed_on_each(ros: Ros) -> None:
    robots = ("one", "two")
    heard = {name: ros.listen_for_publisher_later(String, f"{name}/{RECEIVED}", HANDED_ON) for name in robots}
    for name in robots:
        ros.start("motion_node", topics={"__ns": f"/{name}"})
    said: dict[str, list[str]] = {name: [] for name in robots}
    for number in range(5):
        for name in robots:
            said[name].append(f"turn left {5 * number + 10} degrees")
            publish_once(f"/{name}/command", said[name][-1])
    wait_for(lambda: all(len(heard[name]) >= len(said[name]) for name in robots), "all commands")
    assert {name: [message.data for _, message in heard[name]] for name in robots} == said


def test_only_the_motion_node_takes_commands(ros: Ros) -> None:
    ros.start("motion_node")

    def subscribers() -> list[str]:
        return [info.node_name for info in ros.node.get_subscriptions_info_by_topic("command")]

    wait_for(lambda: "motion_node" in subscribers(), "the motion node")
    assert subscribers() == ["motion_node"]


def test_who_is_found_a_moment_later_hears_a_command_and_nobody_hears_an_old_one(ros: Ros) -> None:
    ros.start("motion_node")
    command = ros.publisher(String, "command", 10)
    late: list[str] = []
    for attempt in range(10):  # on a busy machine finding each other takes longer than a command lasts
        command.publish(String(data=f"attempt {attempt}"))
        time.sleep(0.1)
        subscription = ros.node.create_subscription(
            String, RECEIVED, lambda m: late.append(m.data), HANDED_ON
        )
        end = time.monotonic() + LATE_S
        while not late and time.monotonic() < end:
            time.sleep(0.05)
        ros.node.destroy_subscription(subscription)
        if late:
            break
    assert late[-1] == f"attempt {attempt}"

    command.publish(String(data="an old one"))
    time.sleep(LATE_S + 1.0)
    heard = ros.listen(String, RECEIVED, HANDED_ON)
    wait_for(lambda: command.publish(String(data="a new one")) or time.sleep(0.2) or heard, "a new command")
    assert {message.data for _, message in heard} == {"a new one"}


def test_a_command_that_no_drafter_hears_is_said(ros: Ros) -> None:
    ros.start("motion_node")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
    ros.publisher(String, "command", 10).publish(String(data="go to the red chair"))

    def told() -> str:
        return next((s.message for _, m in reversed(diagnostics) for s in m.status if "motion" in s.name), "")

    wait_for(lambda: f"nobody listens to /{RECEIVED}: is the drafter running?" in told(), "the warning")
    ros.listen(String, RECEIVED, HANDED_ON)
    wait_for(lambda: "nobody listens" not in told(), "the end of the warning")
