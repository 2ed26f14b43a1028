"""What all nodes share: parameters with descriptors, diagnostics, quality of service, and the main loop.

Only interfaces that are in Humble's rclpy are used, so that a robot with Ubuntu 22.04 runs the same files.
"""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.extras import missing_module_sentence
from spec_decode_ros.settings import Setting

LATEST_FRAME = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Best effort, and only the newest counts: camera frames."""

LATEST = QoSProfile(depth=1)
"""Reliable, and only the newest counts: actions and velocities."""

EVENTS = QoSProfile(depth=10)
"""Reliable, and each one counts: commands and postures."""

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Whoever comes late gets the newest one: the plan."""

HANDED_ON = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL, lifespan=Duration(seconds=3.0))
"""As EVENTS, also for whoever is found a moment later; nobody gets an old one: received commands and steps."""

RECEIVED = "command/received"
"""Where the motion node hands the operator's commands on.

It alone takes them: `ros2 topic pub --once` sends as soon as it has found one subscriber; of two often only one hears it.
"""

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

_OF_ROS = ("use_sim_time", "qos_overrides.", "start_type_description_service")
"""How parameters begin that ROS declares by itself."""

# -- parameters ---------------------------------------------------------------------------------------------


def descriptor(setting: Setting) -> ParameterDescriptor:
    """What ROS shows of a setting that is a parameter, and checks by itself."""
    made = ParameterDescriptor(description=setting.meaning, read_only=setting.fixed)
    if setting.choices:
        made.additional_constraints = "one of: " + ", ".join(setting.choices)
    if setting.low is not None and setting.high is not None:
        if isinstance(setting.default, float):
            made.floating_point_range = [
                FloatingPointRange(from_value=float(setting.low), to_value=float(setting.high), step=0.0)
            ]
        else:
            made.integer_range = [
                IntegerRange(from_value=int(setting.low), to_value=int(setting.high), step=1)
            ]
    return made


class Settings(Mapping[str, Any]):
    """The present values of a node's parameters.

    ``check`` gets all values as they would be after a change and raises SpecDecodeError to refuse it.
    """

    def __init__(
        self,
        node: Node,
        parameters: Sequence[Setting],
        check: Callable[[Mapping[str, Any]], object] | None = None,
    ) -> None:
        self._parameters = {parameter.name: parameter for parameter in parameters}
        self._check = check
        self._values: dict[str, Any] = {}
        for parameter in parameters:
            try:
                declared = node.declare_parameter(parameter.name, parameter.default, descriptor(parameter))
            except ParameterException as error:
                raise SpecDecodeError(f"parameter {parameter.name} ({parameter.meaning}): {error}") from error
            self._values[parameter.name] = declared.value
        if reason := self._unknown(node) or self._refusal(self._values):
            raise SpecDecodeError(reason)
        node.add_on_set_parameters_callback(self._on_set)

    def _unknown(self, node: Node) -> str:
        """Which given parameter the node does not have: rclpy would drop a misspelt limit without a word."""
        for name in node._parameter_overrides:
            if not (node.has_parameter(name) or name.startswith(_OF_ROS)):
                near = difflib.get_close_matches(name, self._parameters, 1)
                meant = (
                    f"did you mean {near[0]}?" if near else f"it has {', '.join(sorted(self._parameters))}"
                )
                return f"{node.get_name()} has no parameter {name}: {meant}"
        return ""

    def _refusal(self, values: Mapping[str, Any]) -> str | None:
        try:
            for name, parameter in self._parameters.items():
                parameter.check(values[name])
            if self._check:
                self._check(values)
        except SpecDecodeError as error:
            return str(error)
        return None

    def _on_set(self, changes: list[Any]) -> SetParametersResult:
        known = {change.name: change.value for change in changes if change.name in self._parameters}
        values = {**self._values, **known}
        reason = self._refusal(values)
        if reason is None:
            self._values = values
        return SetParametersResult(successful=reason is None, reason=reason or "")

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


# -- time ---------------------------------------------------------------------------------------------------


def seconds(stamp: Time) -> float:
    """A message's stamp in seconds; equal stamps give equal numbers."""
    return stamp.sec + stamp.nanosec * 1e-9


def clock_seconds(node: Node) -> float:
    """The time in seconds on the node's clock, which stamps messages."""
    return node.get_clock().now().nanoseconds * 1e-9


def steady_clock() -> Clock:
    """A clock for timers that must tick even while simulated time stands still."""
    return Clock(clock_type=ClockType.STEADY_TIME)


# -- diagnostics --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Health:
    """A node's diagnostics: a level, a sentence, and values."""

    level: bytes
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


class Diagnostics:
    """Publishes a node's health on ``/diagnostics`` once a second, and at once on :meth:`publish`."""

    def __init__(self, node: Node, part: str, health: Callable[[], Health]) -> None:
        self._node, self._part, self._health = node, part, health
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", EVENTS)
        self._timer = node.create_timer(1.0, self.publish, clock=steady_clock())

    def publish(self) -> None:
        health = self._health()
        status = DiagnosticStatus(
            level=health.level,
            name=f"{self._node.get_fully_qualified_name()[1:]}: {self._part}",
            message=health.message,
            hardware_id="spec_decode_ros",
            values=[KeyValue(key=key, value=_text(value)) for key, value in health.values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(array)


def _text(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# -- the main loop ------------------------------------------------------------------------------------------


def run(make: Callable[[], Node], args: Sequence[str] | None = None) -> NoReturn:
    """Run one node until SIGINT or SIGTERM, then end the process: with code 0, or 1 where it could not start.

    A node may have a method ``close()``, which is called once before the node is destroyed, and an attribute
    ``finished``, which ends it when true. Signals that come while the node is torn down are ignored, so an
    impatient second Ctrl-C does not cut the last stop short.
    """
    phase = "starting"

    def on_signal(signum: int, frame: object) -> None:
        nonlocal phase
        before, phase = phase, "stopping"
        if before == "making":  # it may take long; rclpy's own constructors don't bear an interruption
            raise KeyboardInterrupt

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, on_signal)
    node: Node | None = None
    code = 0
    try:
        # rclpy's own signal handlers would shut the context down before the last stop is sent.
        rclpy.init(
            args=list(sys.argv if args is None else args), signal_handler_options=SignalHandlerOptions.NO
        )
        executor = SingleThreadedExecutor()
        if phase == "starting":
            phase = "making"
            node = make()
            if phase == "making":
                phase = "running"
            executor.add_node(node)
        while phase == "running" and rclpy.ok() and not getattr(node, "finished", False):
            executor.spin_once(timeout_sec=0.1)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except (SpecDecodeError, ModuleNotFoundError) as error:
        sentence: str | None = str(error)
        if isinstance(error, ModuleNotFoundError):
            sentence = missing_module_sentence(error.name or "")
        if sentence is None:
            raise
        print(f"{sys.argv[0].rpartition('/')[2]}: {sentence}", file=sys.stderr)
        code = 1
    finally:
        phase = "stopping"
        # Ignored, because Python would restore the default, which kills, while the interpreter ends.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        if node is not None:
            close = getattr(node, "close", None)
            if close is not None:
                close()
            node.destroy_node()
        if rclpy.ok():
            rclpy.shutdown()
    # Everything is closed. Python would take seconds more to unload a model's libraries, and launch kills a process
    # that takes five.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
