"""The operator's terminal on ROS 2: it shows what topics say, and the node publishes what is typed.

However the terminal ends, the last thing sent is a stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Twist, TwistStamped
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.nodes.common import EVENTS, LATCHED, LATEST, OK, steady_clock
from spec_decode_ros.nodes.messages import status_values, velocities
from spec_decode_ros.nodes.teleop_commands import TeleopNode
from spec_decode_ros.robots.guard_types import EMERGENCY
from spec_decode_ros.teleop.app import TeleopApp
from spec_decode_ros.teleop.history import History, default_path
from spec_decode_ros.teleop.palette import NIGHT, PAPER
from spec_decode_ros.teleop.port import Notice, PartReport, PlanReport, PlanText, Tell, Velocity
from spec_decode_ros.viz.decoded_action import DecodedAction, Piece

_LOOK_S = 0.5
_END_S = 5.0
"""Seconds for everything to close, after which the process ends anyway: the stop has been sent by then."""

_VELOCITY_TYPES = {"geometry_msgs/msg/TwistStamped": TwistStamped, "geometry_msgs/msg/Twist": Twist}

PALETTE_VARIABLE = "SPEC_DECODE_TELEOP_PALETTE"


class TopicListener:
    """Subscribes what the operator should see, and passes it on as events."""

    def __init__(self, node: Node, tell: Tell) -> None:
        self._node, self._tell = node, tell
        self._tokens_come = False  # they have all that action/text and action/draft have
        namespace = node.get_namespace().strip("/")
        self._prefix = f"{namespace}/" if namespace else ""
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, EVENTS)
        node.create_subscription(String, "action/tokens", self._on_tokens, EVENTS)
        node.create_subscription(String, "action/text", self._on_text, EVENTS)
        node.create_subscription(TwistStamped, "action/draft", self._on_draft, LATEST)
        node.create_subscription(DiagnosticStatus, "plan", self._on_plan, LATCHED)
        node.create_subscription(String, "plan/tokens", self._on_plan_tokens, EVENTS)
        self._looking = node.create_timer(_LOOK_S, self._look_for_velocities, clock=steady_clock())

    def _look_for_velocities(self) -> None:
        """Subscribe cmd_vel once somebody publishes it, because only then is it known with which type."""
        topic = self._node.resolve_topic_name("cmd_vel")
        for info in self._node.get_publishers_info_by_topic(topic):
            kind = _VELOCITY_TYPES.get(info.topic_type)
            if kind is not None:
                self._node.create_subscription(kind, "cmd_vel", self._on_velocity, LATEST)
                self._looking.cancel()
                return

    def _on_velocity(self, message: TwistStamped | Twist) -> None:
        self._tell(Velocity(*velocities(message)))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            node, _, part = status.name.partition(": ")
            # Diagnostics are of all robots on the network; those of another namespace are another operator's.
            if part and node.startswith(self._prefix) and "/" not in node[len(self._prefix) :]:
                level = int.from_bytes(status.level, "little")
                self._tell(PartReport(part, level, status.message, status_values(status)))

    def _on_tokens(self, message: String) -> None:
        self._tokens_come = True
        try:
            self._tell(DecodedAction.from_json(message.data))
        except SpecDecodeError as error:
            self._tell(Notice(f"action/tokens: {error}", urgent=True))

    def _on_plan(self, message: DiagnosticStatus) -> None:
        steps = tuple((value.key, value.value) for value in message.values)
        self._tell(PlanReport(message.name, message.message, steps, message.level != OK))

    def _on_plan_tokens(self, message: String) -> None:
        try:
            self._tell(PlanText(DecodedAction.from_json(message.data)))
        except SpecDecodeError as error:
            self._tell(Notice(f"plan/tokens: {error}", urgent=True))

    def _on_text(self, message: String) -> None:
        if not self._tokens_come:
            self._tell(DecodedAction("", (Piece(message.data[:500], "text"),), "verified"))

    def _on_draft(self, message: TwistStamped) -> None:
        if not self._tokens_come:
            vx, wz = velocities(message)
            self._tell(DecodedAction.in_progress("", "", f"vx {vx:g} wz {wz:g}"))


def _latched(answer: str) -> PartReport:
    """The emergency stop's answer as a report, because the motion node's own comes up to a second later."""
    return PartReport("motion", 2, answer, {"state": EMERGENCY, "emergency_stop": "True", "holds": EMERGENCY})


def _spin(executor: SingleThreadedExecutor, going: Callable[[], bool], tell: Tell) -> None:
    while going() and rclpy.ok():
        try:
            executor.spin_once(timeout_sec=0.1)
        except ExternalShutdownException:
            return
        except Exception as error:
            # One bad callback must not end the thread that stops are answered on.
            tell(Notice(f"{type(error).__name__}: {error}", urgent=True))


def operate(args: list[str] | None = None) -> None:
    """Run the interface until the operator leaves, then end the process; the last thing sent is a stop.

    Returns only where the parameter ``read_lines`` is false, because then there is nothing to type.
    """

    def leave(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(name, leave)
    given = list(sys.argv if args is None else args)
    # ROS logs to its files only: on standard output it would be written across the interface.
    quiet = [*given, "--ros-args", "--disable-stdout-logs"]
    code = 0
    node: TeleopNode | None = None
    try:
        rclpy.init(args=quiet, signal_handler_options=SignalHandlerOptions.NO)
        node = TeleopNode(
            lambda text, urgent: app.tell(Notice(text, urgent)),
            lambda answer: app.tell(_latched(answer)),
            lines=False,
        )
        if not node.settings["read_lines"]:
            node.destroy_node()
            node = None
            rclpy.shutdown()
            return
        palette = NIGHT if os.environ.get(PALETTE_VARIABLE, "") == NIGHT.name else PAPER
        app = TeleopApp(node, History(default_path()), palette=palette, terminal=sys.stdin.fileno())
        TopicListener(node, app.tell)
        code = _run(app, node)
    except KeyboardInterrupt:
        pass
    except SpecDecodeError as error:
        print(f"teleop_node: {error}", file=sys.stderr)
        code = 1
    except Exception:
        traceback.print_exc()
        code = 1
    for name in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    if node is not None:
        node.last_stop()
        node.close()
        node.destroy_node()
    rclpy.try_shutdown()
    with contextlib.suppress(OSError):  # the terminal may be gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _run(app: TeleopApp, node: TeleopNode) -> int:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    going = True
    thread = threading.Thread(target=_spin, args=(executor, lambda: going, app.tell), name="ros", daemon=True)
    thread.start()
    try:
        app.run(mouse=False)
    finally:
        node.last_stop()
        _exit_later()
        going = False
        thread.join(_END_S)
    return app.return_code or 0


def _exit_later() -> None:
    """End the process even if a library hangs while it closes: a dead interface must not stay on the network."""
    timer = threading.Timer(_END_S, os._exit, (1,))
    timer.daemon = True
    timer.start()
