"""The watchdog of a driver that has none: zero when velocities cease, and nothing while they come."""

from __future__ import annotations

import itertools
import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")

from geometry_msgs.msg import Twist, TwistStamped
from ros_session import wait_for

PATIENCE_S = 0.5


def moving(kind: type) -> Twist | TwistStamped:
    message = kind()
    (message if kind is Twist else message.twist).linear.x = 0.4
    return message


def speed(message: Twist | TwistStamped) -> float:
    return (message if isinstance(message, Twist) else message.twist).linear.x


@pytest.mark.parametrize("kind", [Twist, TwistStamped])
def test_a_robot_is_stopped_when_its_velocities_cease(ros, kind: type):
    watchdog = ros.start("velocity_watchdog_node", stamped=kind is TwistStamped, patience=PATIENCE_S)
    heard = ros.listen(kind, "cmd_vel", 10)
    publisher = ros.publisher(kind, "cmd_vel", 10)
    for walk in range(2):
        del heard[:]
        while sum(1 for _, message in list(heard) if speed(message)) < 20:
            publisher.publish(moving(kind))
            time.sleep(0.02)
        came = list(heard)
        longest = max(later - at for (at, _), (later, _) in itertools.pairwise(came))
        if longest < PATIENCE_S / 2:  # else the machine was too busy to tell
            assert all(speed(message) for _, message in came), f"walk {walk}"
        wait_for(lambda: speed(heard[-1][1]) == 0.0, "the zero")
        # It does not speak for ever: another one may drive now.
        wait_for(lambda: time.monotonic() - heard[-1][0] > 2 * PATIENCE_S, "silence")
    assert watchdog.output.count("velocities ceased") == 2, watchdog.output
    assert watchdog.interrupt() == 0


def test_a_robot_that_stands_is_left_alone(ros):
    ros.start("velocity_watchdog_node", patience=0.1)
    heard = ros.listen(Twist, "cmd_vel", 10)
    publisher = ros.publisher(Twist, "cmd_vel", 10)
    publisher.publish(Twist())
    wait_for(lambda: heard, "the zero")
    time.sleep(1.0)
    assert len(heard) == 1
