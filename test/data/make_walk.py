"""Makes the bag `walk` that the tests replay: the simulated robot is given two commands and is recorded.

    python test/data/make_walk.py test/data/walk

Everything is real but the room: simulator, motion guard, drafter, a verifier behind 20 ms of network, recorder. Frames
come slower than on the robot, so that the bag stays small.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String

from spec_decode_ros.lab.demo.stack import free_domain, running_stack, stay_on_this_machine
from spec_decode_ros.lab.network.link import LinkProfile, link_process
from spec_decode_ros.nodes.common import EVENTS
from spec_decode_ros.server.process import spawn_server

SEED = 1
FRAMES_HZ = 6.0
RTT_MS = 20.0
COMMANDS = (("go to the red chair", 8.0), ("turn left 90 degrees", 3.0), ("go to the red chair", 2.0))
"""What the robot is told, and for how many seconds."""

READY_S = 120.0


class Operator(Node):
    """Waits until the drafter hears its verifier, then gives the commands."""

    def __init__(self, context: rclpy.Context) -> None:
        super().__init__("operator", context=context)
        self.connected = False
        self._command = self.create_publisher(String, "command", EVENTS)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, EVENTS)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            self.connected |= status.name.endswith("drafter") and values.get("connected") == "True"

    def heard(self) -> bool:
        return self.connected and self._command.get_subscription_count() >= 2

    def say(self, text: str) -> None:
        self._command.publish(String(data=text))


def spin(executor: SingleThreadedExecutor, seconds: float, done: Callable[[], bool], check: Callable) -> bool:
    """Let ROS work until `done`; False if that takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        executor.spin_once(timeout_sec=0.05)
        check()
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder of the bag; an older one is replaced")
    out: Path = parser.parse_args().out
    stay_on_this_machine()
    domain = free_domain()
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        recorded = Path(folder) / out.name
        endpoint = stack.enter_context(
            link_process(stack.enter_context(spawn_server("tiny", threads=1)), LinkProfile(rtt_ms=RTT_MS))
        )
        with running_stack(Path(folder) / "logs", domain) as nodes:
            nodes.start("sim_node", {"seed": SEED, "target": "red chair", "camera_rate": FRAMES_HZ})
            nodes.start("motion_node", {})
            nodes.start("drafter_node", {"endpoint": endpoint, "threads": 1})
            operator = Operator(context)
            executor = SingleThreadedExecutor(context=context)
            executor.add_node(operator)
            if not spin(executor, READY_S, operator.heard, nodes.check):
                print("the drafter was not ready in time", file=sys.stderr)
                return 1
            nodes.start("recorder_node", {"out": str(recorded)})
            spin(executor, 3.0, lambda: False, nodes.check)
            for text, seconds in COMMANDS:
                operator.say(text)
                spin(executor, seconds, lambda: False, nodes.check)
        executor.shutdown(timeout_sec=5.0)
        operator.destroy_node()
        rclpy.try_shutdown(context=context)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(recorded, out)
    print(f"{out}: {sum(file.stat().st_size for file in out.iterdir()) / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
