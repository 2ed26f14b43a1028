"""The operator's words: lines from the terminal, or one command from a parameter.

An empty line is the emergency stop, ``release`` lifts it, ``quit`` ends; everything else goes to the robot
as it is.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import NoReturn

from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from spec_decode_ros.nodes.common import EVENTS, Parameter, Settings, run, steady_clock

PARAMETERS = (
    Parameter("command", "", "one command to send at the start; empty: none", fixed=True),
    Parameter("read_lines", True, "read commands from standard input, one a line", fixed=True),
    Parameter("motion_node", "motion_node", "node that has the emergency stop", fixed=True),
    Parameter("wait_s", 10.0, "s to wait for somebody to hear a command", 0.0, 60.0, fixed=True),
)

_SETTLE_S = 1.0
"""Seconds without a new listener after which all of them are taken to be found."""

HELP = "type what the robot should do; empty line: emergency stop, release: lift it, quit: end"


class TeleopNode(Node):
    """Publishes command; calls the motion node's emergency_stop and release."""

    def __init__(self) -> None:
        super().__init__("teleop_node")
        self._settings = Settings(self, PARAMETERS)
        motion = self._settings["motion_node"]
        self._publisher = self.create_publisher(String, "command", EVENTS)
        self._stop = self.create_client(Trigger, f"{motion}/emergency_stop")
        self._release = self.create_client(Trigger, f"{motion}/release")
        self._waiting: list[tuple[str, float]] = []
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._listeners, self._settled = 0, 0.0
        self.finished = False
        self._timer = self.create_timer(0.05, self._send_waiting, clock=steady_clock())
        if self._settings["command"].strip():
            self.say(self._settings["command"])
        if self._settings["read_lines"]:
            self.get_logger().info(HELP)
            threading.Thread(target=self._read, name="lines", daemon=True).start()

    def say(self, line: str) -> None:
        """Act on one line as typed."""
        line = line.strip()
        if not line:
            self._call(self._stop, "emergency stop")
        elif line.lower() == "release":
            self._call(self._release, "release")
        elif line.lower() == "quit":
            self.finished = True
        else:
            with self._lock:
                # A newer command replaces one that nobody has heard yet.
                self._waiting = [(line, time.monotonic() + self._settings["wait_s"])]

    def _send_waiting(self) -> None:
        now = time.monotonic()
        listeners = self._publisher.get_subscription_count()
        if listeners != self._listeners:
            self._listeners, self._settled = listeners, now + _SETTLE_S
        with self._lock:
            if not self._waiting:
                return
            line, deadline = self._waiting[0]
            heard = listeners > 0
            # Drafter and motion node are found one after the other; what is said between reaches only one of them.
            if now < self._settled or (not heard and now < deadline):
                return
            self._waiting.clear()
        if heard:
            self._publisher.publish(String(data=line))
            self.get_logger().info(f"said: {line}")
        else:
            self.get_logger().error(
                f"nobody listens to {self._publisher.topic_name}: is robot.launch.py running?"
            )

    def _call(self, client, what: str) -> None:  # type: ignore[no-untyped-def]
        if not client.service_is_ready():
            self.get_logger().error(f"{what}: there is no {client.srv_name}; is the motion node running?")
            return
        future = client.call_async(Trigger.Request())
        future.add_done_callback(lambda done: self.get_logger().info(f"{what}: {done.result().message}"))

    def _read(self) -> None:
        """Read lines until the end of the input; select() keeps the thread ready to leave."""
        descriptor, buffer = sys.stdin.fileno(), b""
        while not self._closing.is_set():
            ready, _, _ = select.select([descriptor], [], [], 0.2)
            if not ready:
                continue
            chunk = os.read(descriptor, 4096)
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                self.say(line.decode("utf-8", "replace"))

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()


def main(args: list[str] | None = None) -> NoReturn:
    """Entry point of the ``teleop_node`` executable."""
    run(TeleopNode, args)


if __name__ == "__main__":
    main()
