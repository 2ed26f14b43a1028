"""The node that publishes the operator's commands and asks the motion node for the emergency stop."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String
from std_srvs.srv import Trigger

from spec_decode_ros.nodes.common import EVENTS, Settings, steady_clock
from spec_decode_ros.printable import printable
from spec_decode_ros.robots.reflex import is_emergency, is_stop
from spec_decode_ros.settings import Setting

PARAMETERS = (
    Setting("command", "", "one command to send at the start; empty: none", fixed=True),
    Setting("read_lines", True, "read commands from the terminal or standard input", fixed=True),
    Setting("motion_node", "motion_node", "node that has the emergency stop", fixed=True),
    Setting("wait_s", 10.0, "s to wait for somebody to hear a command", 0.0, 60.0, fixed=True),
)

STOP = "stop"
"""The command for a stop; see :func:`spec_decode_ros.robots.reflex.is_stop`."""

_TICK_S = 0.05
_SETTLE_S = 1.0
"""Seconds without a new subscriber after which all count as found, if the motion node's service is there."""

_PATIENCE_S = 3.5
"""The same if it is not: on a busy machine discovery takes up to three seconds, a round of announcements."""

_SERVICE_S = 1.0
"""Seconds for the motion node's answer, after which it may be asked again."""

_LAST_STOP_S = 0.3

HELP = "type what the robot should do; empty line: emergency stop, release: lift it, quit: end"


class TeleopNode(Node):
    """Publishes command; calls the motion node's emergency_stop and release. Callable from any thread.

    Args:
        log: takes a sentence for the operator, and whether it is urgent; by default it goes to ROS's log.
        on_latched: called with the motion node's answer once it has latched an emergency stop.
        lines: read commands from standard input, if the parameter ``read_lines`` allows it. An empty line is the
            emergency stop, ``release`` lifts it, ``quit`` ends.
    """

    def __init__(
        self,
        log: Callable[[str, bool], None] | None = None,
        on_latched: Callable[[str], None] | None = None,
        *,
        lines: bool = True,
    ) -> None:
        super().__init__("teleop_node")
        self.settings = Settings(self, PARAMETERS)
        motion = self.settings["motion_node"]
        self._log = log or self._log_to_ros
        self._on_latched = on_latched
        self._publisher = self.create_publisher(String, "command", EVENTS)
        self._stop = self.create_client(Trigger, f"{motion}/emergency_stop")
        self._release = self.create_client(Trigger, f"{motion}/release")
        self._waiting: list[tuple[str, float]] = []
        self._asked_at = float("-inf")
        self._closing = threading.Event()
        # Held while publishing too, so that a command never overtakes the stop that came before it.
        self._lock = threading.RLock()
        self._listeners, self._changed_at = 0, 0.0
        self.finished = False
        self._timer = self.create_timer(_TICK_S, self._tick, clock=steady_clock())
        if self.settings["command"].strip():
            self.act_on(self.settings["command"])
        if lines and self.settings["read_lines"]:
            self.get_logger().info(HELP)
            threading.Thread(target=self._read, name="lines", daemon=True).start()

    # -- what the operator can do ---------------------------------------------------------------------------

    def say(self, command: str) -> None:
        """Send a command as soon as all its subscribers are found; a newer one replaces one that waits."""
        with self._lock:
            self._waiting = [(command, time.monotonic() + self.settings["wait_s"])]

    def stop(self) -> None:
        """Send stop now, and once more to subscribers that are found later; commands that wait are dropped."""
        with self._lock:
            self._waiting.clear()
            self._publisher.publish(String(data=STOP))
            if not (self._listeners and self._settled(time.monotonic())):
                self.say(STOP)

    def emergency_stop(self) -> None:
        """Stop, and ask the motion node to latch it. Without an answer within a second it may be asked again."""
        # Sent as well, so that after a release the robot waits for a command instead of going on with the old one.
        self.stop()
        with self._lock:
            now = time.monotonic()
            if now - self._asked_at < _SERVICE_S:
                return
            if self._stop.service_is_ready():
                self._asked_at = now
                self._stop.call_async(Trigger.Request()).add_done_callback(self._latched)
                return
        self._log(f"emergency stop: there is no {self._stop.srv_name}; is the motion node running?", True)

    def release(self) -> None:
        """Ask the motion node to lift the emergency stop."""
        if not self._release.service_is_ready():
            self._log(f"release: there is no {self._release.srv_name}; is the motion node running?", True)
            return
        future = self._release.call_async(Trigger.Request())
        future.add_done_callback(lambda done: self._log(f"release: {done.result().message}", False))

    def act_on(self, line: str) -> None:
        """Act on one line as typed."""
        line = line.strip()
        if not line or is_emergency(line):
            self.emergency_stop()
        elif line.lower() == "quit":  # before the stops, of which it is one elsewhere
            self.finished = True
        elif is_stop(line):
            self.stop()
        elif line.lower() == "release":
            self.release()
        else:
            self.say(line)

    # -- sending and answers --------------------------------------------------------------------------------

    def _tick(self) -> None:
        now = time.monotonic()
        listeners = self._publisher.get_subscription_count()
        if listeners != self._listeners:
            self._listeners, self._changed_at = listeners, now
        self._send_waiting(now)

    def _send_waiting(self, now: float) -> None:
        with self._lock:
            if not self._waiting:
                return
            line, deadline = self._waiting[0]
            heard = self._listeners > 0
            # A recorder may be found before the motion node; what is sent between would not reach the robot.
            if not (self._settled(now) if heard else now >= deadline):
                return
            self._waiting.clear()
            if heard:
                self._publisher.publish(String(data=line))
        if heard:
            self.get_logger().info(f"said: {printable(line)}")
        else:
            self._log(f"nobody listens to {self._publisher.topic_name}: is robot.launch.py running?", True)

    def _settled(self, now: float) -> bool:
        complete = self._listeners > 0 and self._stop.service_is_ready()
        return now - self._changed_at > (_SETTLE_S if complete else _PATIENCE_S)

    def _latched(self, future: Future) -> None:
        answer = future.result()
        with self._lock:
            self._asked_at = float("-inf")
        self._log(f"emergency stop: {answer.message}", not answer.success)
        if answer.success and self._on_latched is not None:
            self._on_latched(answer.message)

    def _log_to_ros(self, text: str, urgent: bool) -> None:
        # Two calls, because rclpy wants one severity for each place in the source.
        if urgent:
            self.get_logger().error(printable(text))
        else:
            self.get_logger().info(printable(text))

    def _read(self) -> None:
        """Read lines until the end of the input; select() keeps the thread ready to leave."""
        descriptor, buffer = sys.stdin.fileno(), b""
        while not self._closing.is_set():
            ready, _, _ = select.select([descriptor], [], [], 0.2)
            if not ready:
                continue
            chunk = os.read(descriptor, 4096)
            if not chunk:
                if buffer:  # the last line of a pipe may lack its end, and may be a stop
                    self.act_on(buffer.decode("utf-8", "replace"))
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                self.act_on(line.decode("utf-8", "replace"))

    def last_stop(self) -> None:
        """Send stop repeatedly and wait until the subscribers have confirmed it, because nobody can repeat it later."""
        for _ in range(3):
            with self._lock:
                self._waiting.clear()
                self._publisher.publish(String(data=STOP))
            time.sleep(0.02)
        self._publisher.wait_for_all_acked(Duration(seconds=_LAST_STOP_S))

    def close(self) -> None:
        """Stop reading."""
        self._closing.set()
