"""An impatient operator: every node ends by itself and with code 0, however often it is interrupted."""

from __future__ import annotations

import itertools
import signal
import time

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")

from PIL import Image
from ros_session import WAIT_S


@pytest.mark.parametrize("node", ["motion_node", "camera_node", "teleop_node", "sim_node"])
def test_only_the_first_interrupt_counts(ros, tmp_path, node):
    if node == "sim_node":
        pytest.importorskip("mujoco", reason="mujoco is not installed: the simulator needs it")
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "frame.jpg")
    parameters = {"camera_node": {"source": tmp_path / "frame.jpg"}, "teleop_node": {"command": "stop"}}
    ready = None if node == "teleop_node" else "ready"
    process = ros.start(node, ready=ready, **parameters.get(node, {}))
    if ready is None:
        process.wait_until_it_says("type what")
    deadline = time.monotonic() + WAIT_S
    # Without a pause: some hit the last stop, some the end of the interpreter.
    for count in itertools.count():
        if process.popen.poll() is not None or time.monotonic() > deadline:
            break
        process.popen.send_signal(signal.SIGTERM if count % 5 == 4 else signal.SIGINT)
        time.sleep(0.001)
    assert count > 1, "there was no second interrupt"
    assert process.wait() == 0, process.output
    assert "Traceback" not in process.output
