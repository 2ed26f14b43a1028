"""The verifier in the cloud as a ROS node: the same service as ``spec-decode serve``, with parameters and diagnostics."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from rclpy.node import Node

from spec_decode_ros.nodes.common import ERROR, OK, WARN, Diagnostics, Health, Settings, run
from spec_decode_ros.server import logs
from spec_decode_ros.server.config import SETTINGS, ServiceConfig
from spec_decode_ros.server.service import VerifierService

_DEFAULTS: dict[str, str | float] = {
    "bind": "tcp://127.0.0.1:5555",
    "drain_s": 4.0,  # ros2 launch asks again after five seconds
    "log_level": "warning",  # the node says the rest through ROS
}
PLANNERS = "planner_bridge_node"
"""The name that cloud.launch.py gives to the verifier of the robots' planners."""

PARAMETERS = tuple(
    replace(setting, default=_DEFAULTS.get(setting.name, setting.default), fixed=True)
    for setting in SETTINGS.values()
)


class CloudBridgeNode(Node):
    """Serves a target model over ZeroMQ; ROS carries only its parameters and diagnostics."""

    def __init__(self) -> None:
        super().__init__("cloud_bridge_node")
        config = ServiceConfig(**Settings(self, PARAMETERS))
        logs.set_up(config.log_format, config.log_level)
        self._service = VerifierService(config)
        self._pair, self._last_busy_ms = config.pair, 0.0
        self._endpoint = self._service.start()
        part = "planner's verifier" if self.get_name() == PLANNERS else "verifier"
        self._diagnostics = Diagnostics(self, part, self._health)
        self.get_logger().info(f"ready: verifying pair {self._pair} at {self._endpoint}")

    def _health(self) -> Health:
        counts, alive, ready = self._service.counts, self._service.alive(), self._service.ready()
        busy_ms, self._last_busy_ms = counts.busy_ms - self._last_busy_ms, counts.busy_ms
        return Health(
            OK if ready.ok else WARN if alive.ok else ERROR,
            "serving" if ready.ok else ready.sentence,
            {
                "pair": self._pair,
                "endpoint": self._endpoint,
                "metrics": self._service.status_url,
                "sessions": counts.sessions,
                "waiting": counts.waiting,
                "actions": counts.actions,
                "refused": counts.refused,
                "cloud_passes": counts.passes,
                "failures": counts.failures,
                "busy_ms": counts.busy_ms,
                "busy_ms_since_last": busy_ms,
                "cloud_passes_per_action": counts.passes / counts.actions if counts.actions else "",
            },
        )

    def close(self) -> None:
        """Let running actions end for at most `drain_s`, then stop serving."""
        self._service.drain()
        self._service.stop()


main = partial(run, CloudBridgeNode)
"""Entry point of the ``cloud_bridge_node`` executable."""


if __name__ == "__main__":
    main()
