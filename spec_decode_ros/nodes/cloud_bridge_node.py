"""The verifier in the cloud as a ROS node: the same server as ``spec-decode serve``, with parameters and diagnostics."""

from __future__ import annotations

from typing import NoReturn

from rclpy.node import Node

from spec_decode_ros.models.pair import DEFAULT_PAIR, load_pair_config, load_verifier
from spec_decode_ros.nodes.common import OK, Diagnostics, Health, Parameter, Settings, run
from spec_decode_ros.runtime.admission import ServiceLimits
from spec_decode_ros.runtime.cloud import VerifierServer
from spec_decode_ros.runtime.colocated import own_drafter
from spec_decode_ros.runtime.warmup import warm_up
from spec_decode_ros.transport.keys import ServerKeys, make_keys, server_keys

PARAMETERS = (
    Parameter("pair", DEFAULT_PAIR, "model pair: a shipped name or the path of a pair file", fixed=True),
    Parameter("bind", "tcp://127.0.0.1:5555", "endpoint to listen on, tcp://ADDRESS:PORT", fixed=True),
    Parameter(
        "keys",
        "",
        "let in only robots with keys, and encrypt; folder, made on first use; empty: no",
        fixed=True,
    ),
    Parameter("device", "", "device of the target model: cpu, cuda, auto; empty: the pair's", fixed=True),
    Parameter("threads", 0, "CPU threads of the target model; 0: the pair's", 0, 256, fixed=True),
    Parameter(
        "max_sessions", 64, "unfinished actions at once; further ones are told busy", 1, 4096, fixed=True
    ),
)


class CloudBridgeNode(Node):
    """Serves a target model over ZeroMQ; ROS carries only its parameters and diagnostics."""

    def __init__(self) -> None:
        super().__init__("cloud_bridge_node")
        settings = Settings(self, PARAMETERS)
        pair = load_pair_config(settings["pair"])
        device, threads = settings["device"] or None, settings["threads"] or None
        verifier = load_verifier(pair, device, threads)
        pace = warm_up(verifier)
        self._server = VerifierServer(
            verifier,
            pair.name,
            settings["bind"],
            own=own_drafter(pair, verifier, pace, device, threads),
            pace=pace,
            limits=ServiceLimits(max_sessions=settings["max_sessions"]),
            keys=self._keys(settings["keys"]),
        )
        self._pair, self._last_busy_ms = pair.name, 0.0
        self._endpoint = self._server.start()
        self._diagnostics = Diagnostics(self, "verifier", self._health)
        self.get_logger().info(f"ready: verifying pair {pair.name} at {self._endpoint}")

    def _keys(self, folder: str) -> ServerKeys | None:
        if not folder:
            return None
        for made in make_keys(folder):
            self.get_logger().info(f"new keys: copy {made} to the robot, then delete it here")
        return server_keys(folder)

    def _health(self) -> Health:
        counts = self._server.counts
        busy_ms, self._last_busy_ms = counts.busy_ms - self._last_busy_ms, counts.busy_ms
        return Health(
            OK,
            "serving",
            {
                "pair": self._pair,
                "endpoint": self._endpoint,
                "sessions": counts.sessions,
                "actions": counts.actions,
                "cloud_passes": counts.passes,
                "failures": counts.failures,
                "busy_ms": counts.busy_ms,
                "busy_ms_since_last": busy_ms,
                "cloud_passes_per_action": counts.passes / counts.actions if counts.actions else "",
            },
        )

    def close(self) -> None:
        """Stop serving; a pass that runs is waited for."""
        self._server.stop()


def main(args: list[str] | None = None) -> NoReturn:
    """Entry point of the ``cloud_bridge_node`` executable."""
    run(CloudBridgeNode, args)


if __name__ == "__main__":
    main()
