"""Nodes that talk with keys: the verifier makes them on first use, a robot that has a copy of its own is let in."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")
pytest.importorskip("torch", reason="torch is not installed: the models need it")

from diagnostic_msgs.msg import DiagnosticArray
from ros_session import wait_for
from scripted_pair import make_scripted_pair


def connected(diagnostics) -> bool:
    return any(
        (value.key, value.value) == ("connected", "True")
        for _, message in list(diagnostics)
        for status in message.status
        for value in status.values
    )


def test_a_robot_with_keys_is_let_in(ros, tmp_path):
    pair = make_scripted_pair(tmp_path / "pair", "vx 0.4 wz 0.2 | walking 1", "vx 0.4 wz 0.2 | walking 1")
    folder = tmp_path / "keys"
    cloud = ros.start("cloud_bridge_node", pair=pair, bind="tcp://127.0.0.1:*", keys=folder)
    assert f"new keys: copy {folder}/robot to the robot" in cloud.output
    endpoint = re.search(r"at (tcp://\S+)", cloud.output)[1]
    ros.start("drafter_node", pair=pair, endpoint=endpoint, keys=folder / "robot")
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)
    wait_for(lambda: connected(diagnostics), "the connection")


def test_a_folder_without_keys_is_one_sentence(ros, tmp_path):
    drafter = ros.start("drafter_node", ready=None, keys=tmp_path)
    assert drafter.wait() == 1
    assert "is not the key folder of a robot" in drafter.output
    assert "Traceback" not in drafter.output
