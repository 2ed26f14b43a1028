"""cloud_bridge_node is the same service as `spec-decode serve`: its settings, health, diagnostics and end."""

from __future__ import annotations

import json
import urllib.request

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: the nodes need ROS 2")
pytest.importorskip("torch", reason="torch is not installed: the models need it")

from diagnostic_msgs.msg import DiagnosticArray
from ros_session import wait_for
from scripted_pair import make_scripted_pair

from spec_decode_ros.nodes.cloud_bridge_node import PARAMETERS
from spec_decode_ros.server.config import SETTINGS, ServiceConfig


def test_its_parameters_are_the_settings_and_its_defaults_are_accepted():
    assert [parameter.name for parameter in PARAMETERS] == list(SETTINGS)
    config = ServiceConfig(**{parameter.name: parameter.default for parameter in PARAMETERS})
    assert config.drain_s < 5.0, "ros2 launch would kill it before it has drained"


def test_it_says_how_it_is_and_ends_in_order(ros, tmp_path):
    pair = make_scripted_pair(tmp_path / "pair", "vx 0.4 wz 0.2 | walking 1", "vx 0.4 wz 0.2 | walking 1")
    cloud = ros.start(
        "cloud_bridge_node", pair=pair, bind="tcp://127.0.0.1:*", metrics="127.0.0.1:0", log_format="json"
    )
    diagnostics = ros.listen(DiagnosticArray, "/diagnostics", 10)

    def said():
        found = [s for _, m in list(diagnostics) for s in m.status if s.name.endswith("verifier")]
        return found and found[-1]

    status = wait_for(said, "diagnostics")
    values = {value.key: value.value for value in status.values}
    assert (status.message, status.level) == ("serving", b"\x00")
    assert values["endpoint"] in cloud.output
    with urllib.request.urlopen(values["metrics"] + "/readyz", timeout=10) as answer:
        assert json.load(answer)["phase"] == "serving"
    assert cloud.interrupt() == 0
    assert "Traceback" not in cloud.output


def test_settings_that_do_not_go_together_are_one_sentence(ros):
    cloud = ros.start("cloud_bridge_node", ready=None, bind="tcp://0.0.0.0:5555")
    assert cloud.wait() == 1
    assert "--insecure" in cloud.output
    assert "Traceback" not in cloud.output
