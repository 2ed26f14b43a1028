"""The node between any model and the legs: it takes actions and sends guarded velocities at a fixed rate.

The rules are in :mod:`spec_decode_ros.robots.guard`; the node adds topics, clocks and services. Velocities go to the
topic ``cmd_vel``, and with the parameter ``robot: go2`` to Unitree's sport service as well.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from spec_decode_ros.nodes.common import (
    ERROR,
    EVENTS,
    HANDED_ON,
    LATEST,
    LATEST_FRAME,
    OK,
    RECEIVED,
    WARN,
    Diagnostics,
    Health,
    Settings,
    clock_seconds,
    run,
    seconds,
    steady_clock,
)
from spec_decode_ros.nodes.go2_link import GO2, Go2Link
from spec_decode_ros.nodes.go2_link import PARAMETERS as ROBOT_PARAMETERS
from spec_decode_ros.nodes.joystick import NO_BUTTON, EmergencyButton
from spec_decode_ros.nodes.messages import twist_stamped, unlike_types
from spec_decode_ros.robots.follow_watch import FollowWatch
from spec_decode_ros.robots.guard import MotionGuard
from spec_decode_ros.robots.guard_types import (
    EMERGENCY,
    OPERATOR,
    SITTING,
    START,
    GuardDecision,
    MotionLimits,
    MotionOutput,
    MotionState,
)
from spec_decode_ros.robots.idle import SILENT, ZEROS, IdleOutput
from spec_decode_ros.robots.latch import Latch, state_folder
from spec_decode_ros.robots.reflex import is_stop
from spec_decode_ros.settings import Setting, settings_of

_LIMITS = settings_of(MotionLimits)

PARAMETERS = (
    Setting("rate", 20.0, "Hz, velocities sent a second", 10.0, 100.0, fixed=True),
    Setting(
        "idle",
        SILENT,
        "of a robot that was told to stand and stands: silent (others may drive it), zeros (for ever)",
        choices=(SILENT, ZEROS),
        fixed=True,
    ),
    Setting("stamped", True, "cmd_vel is a TwistStamped; false: a Twist", fixed=True),
    Setting("frame_id", "base_link", "frame of the stamped velocities", fixed=True),
    Setting("action_s", 0.42, "s that an action lasts; the watchdog ends it earlier", 0.05, 0.5),
    Setting(
        "wait_for_command",
        True,
        "carry nothing out before an operator's command: a node that crashed must not walk on when it is back",
        fixed=True,
    ),
    Setting(
        "planner",
        False,
        "planner_node plans: after a stop, a sentence and then a step of its plan let the robot move again",
        fixed=True,
    ),
    Setting(
        "emergency_button",
        NO_BUTTON,
        "of a joystick (sensor_msgs/Joy on joy), from 0: pressed it is the emergency stop; -1: none",
        NO_BUTTON,
        255,
        fixed=True,
    ),
    Setting(
        "state_dir",
        "",
        "folder in which an emergency stop outlives a crash; empty: ~/.local/state/spec_decode_ros",
        fixed=True,
    ),
    *_LIMITS.values(),
    *ROBOT_PARAMETERS,
)

_LEVELS = {MotionState.STOPPED: WARN, MotionState.HELD: WARN, MotionState.EMERGENCY: ERROR}


def limits_from(values: Mapping[str, Any]) -> MotionLimits:
    """The limits that the node's parameters describe; raises SpecDecodeError."""
    return MotionLimits(**{name: values[name] for name in _LIMITS})


class MotionNode(Node):
    """Subscribes action/verified, /draft, /unverified, /posture, command, step and odom.

    Publishes cmd_vel and posture, and hands commands on.
    """

    def __init__(self) -> None:
        super().__init__("motion_node")
        self._settings = Settings(self, PARAMETERS, check=limits_from)
        waits = "waiting for the first command" if self._settings["wait_for_command"] else ""
        self._guard = MotionGuard(limits_from(self._settings), held=waits)
        # Robots on one machine differ in their namespace, or in their domain.
        name = f"{os.environ.get('ROS_DOMAIN_ID', '0')} {self.get_fully_qualified_name()}"
        self._latch = Latch(state_folder(self._settings["state_dir"]), name)
        if latched := self._latch.reason:
            self._guard.emergency_stop(f"{latched}, before this node was started again")
            self.get_logger().error("emergency stop: still latched, until ~/release is called")
        self._commanded = False
        self._refused = 0
        self._last_refusal = ""
        self._shown: tuple[MotionState, str] | None = None
        self._output = MotionOutput(0.0, 0.0, MotionState.IDLE, "no action yet")
        self._idle = IdleOutput(self._settings["idle"])
        self._follows = FollowWatch()
        stamped = self._settings["stamped"]
        self._cmd_vel = self.create_publisher(TwistStamped if stamped else Twist, "cmd_vel", LATEST)
        self._posture = self.create_publisher(String, "posture", EVENTS)
        self._go2: Go2Link | None = None
        if self._settings["robot"] == GO2:
            self._go2 = Go2Link(self, self._settings, self._stop_in_emergency)
        for topic, verified, awaited in (
            ("action/verified", True, False),
            ("action/draft", False, True),
            ("action/unverified", False, False),
        ):
            on_action = partial(self._on_action, verified=verified, awaited=awaited)
            self.create_subscription(TwistStamped, topic, on_action, LATEST)
        self.create_subscription(String, "action/posture", self._on_posture, EVENTS)
        self._received = self.create_publisher(String, RECEIVED, HANDED_ON)
        self.create_subscription(String, "command", self._on_command, EVENTS)
        if self._settings["planner"]:
            self.create_subscription(String, "step", self._on_step, EVENTS)
        self.create_subscription(Odometry, "odom", self._on_odometry, LATEST_FRAME)
        button = self._settings["emergency_button"]
        self._button = None if button == NO_BUTTON else EmergencyButton(self, button, self._on_button)
        self.create_service(Trigger, "~/emergency_stop", self._on_emergency_stop)
        self.create_service(Trigger, "~/release", self._on_release)
        # Steady, so that velocities go on and actions expire where the ROS clock stands still.
        steady = steady_clock()
        self.create_timer(1.0 / self._settings["rate"], self._tick, clock=steady)
        # Ends an action on time, where the next tick would come too late.
        self._expiry = self.create_timer(1.0, self._tick, clock=steady)
        self._diagnostics = Diagnostics(self, "motion", self._health)
        self.get_logger().info("ready: nothing moves before the first command")

    # -- in -------------------------------------------------------------------------------------------------

    def _on_action(self, message: TwistStamped, verified: bool, awaited: bool) -> None:
        twist = message.twist
        others = (twist.linear.y, twist.linear.z, twist.angular.x, twist.angular.y)
        if any(value != 0.0 for value in others):  # true for NaN as well
            decision = self._guard.reject(
                f"an action may have linear.x and angular.z only, not {others}; stopping"
            )
        else:
            decision = self._guard.command(
                twist.linear.x,
                twist.angular.z,
                stamp=seconds(message.header.stamp),
                now=time.monotonic(),
                clock=clock_seconds(self),
                verified=verified,
                awaited=awaited,
                duration_s=self._settings["action_s"],
            )
        self._note(decision)

    def _note(self, decision: GuardDecision) -> None:
        if not decision.accepted:
            self._refused += 1
            self._last_refusal = decision.reason
            self.get_logger().warning(f"refused: {decision.reason}", throttle_duration_sec=2.0)
        if decision.stopped:
            self._stop()
        else:
            self._set_expiry()

    def _on_posture(self, message: String) -> None:
        posture = message.data
        blocked = [name for name in self._guard.holds if name != SITTING]
        if posture not in ("stand up", "sit down"):
            self._note(self._guard.reject(f"there is no posture {posture[:40]!r}; stopping"))
            return
        if blocked:
            self.get_logger().warning(f"{posture} is refused: the robot is held by {', '.join(blocked)}")
            return
        if posture == "sit down":
            self._guard.hold(SITTING, "the robot sits; tell it to stand up")
        else:
            self._guard.lift(SITTING, clock=clock_seconds(self))
        self._stop()
        self._posture.publish(message)
        if self._go2:
            self._go2.posture(posture)

    def _on_command(self, message: String) -> None:
        self._commanded = not is_stop(message.data)
        if not self._commanded:
            self._guard.hold(OPERATOR, "told to stop, waiting for the next command")
            self._stop()
            if self._go2:
                self._go2.robot.stop()
        elif not self._settings["planner"]:
            self._begin()
        self._received.publish(message)

    def _on_step(self, message: String) -> None:
        # A sentence alone moves nothing: a drafter whose planner is gone still has the step before the stop. Nor does
        # a step alone: it may have been under way when the operator said stop.
        if self._commanded and not is_stop(message.data):
            self._begin()

    def _begin(self) -> None:
        self._guard.lift(OPERATOR, clock=clock_seconds(self))
        self._guard.lift(START, clock=0.0)  # no stop was lifted: frames from before the command will do
        self._guard.new_command()

    def _on_odometry(self, message: Odometry) -> None:
        twist = message.twist.twist
        vx, vy, wz = twist.linear.x, twist.linear.y, twist.angular.z
        self._idle.odometry(vx, vy, wz)
        self._follows.odometry(math.hypot(vx, vy), wz, time.monotonic())

    def _on_emergency_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._stop_in_emergency()
        response.success = True
        response.message = "stopped and latched; call ~/release to let the robot move again"
        return response

    def _on_button(self) -> None:
        if EMERGENCY not in self._guard.holds:
            self._stop_in_emergency(f"button {self._settings['emergency_button']} of the joystick")

    def _stop_in_emergency(self, reason: str = "asked for by service") -> None:
        self._guard.emergency_stop(reason)
        self._stop()
        if self._go2:
            self._go2.robot.stop()
        self.get_logger().error("emergency stop: latched until ~/release is called")
        try:
            self._latch.set(reason)
        except OSError as error:
            self.get_logger().error(
                f"a crash would lose the emergency stop: {error}; set state_dir to another folder"
            )

    def _on_release(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._latch.clear()
        except OSError as error:
            response.success, response.message = False, f"not released: {error}; remove {self._latch.path}"
            self.get_logger().error(response.message)
            return response
        response.success = self._guard.release(clock=clock_seconds(self))
        if response.success:
            rest = ", ".join(self._guard.holds)
            response.message = (
                f"released, but still held by {rest}" if rest else "released; waiting for a new action"
            )
        else:
            response.message = "there was no emergency stop to release"
        self.get_logger().info(response.message)
        return response

    # -- out ------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Say the stop that the guard has noted, also to a robot that stands: somebody else may drive it."""
        self._idle.stop(time.monotonic())
        self._tick()

    def _tick(self) -> None:
        limits = limits_from(self._settings)
        if limits != self._guard.limits:
            self._guard.set_limits(limits)
        if self._go2 and not self._go2.robot.may_move:
            self._guard.start_from_rest()
        now = time.monotonic()
        self._output = self._guard.step(now=now, clock=clock_seconds(self))
        self._follows.told(self._output.vx, self._output.wz, now)
        silent = self._idle.silent
        if self._idle.says(self._output, now, self._cmd_vel.get_subscription_count() > 0):
            self._send(self._output.vx, self._output.wz)
        if self._idle.silent != silent:
            self._diagnostics.publish()  # whoever misses the velocities is told why at once
        self._set_expiry()
        shown = (self._output.state, self._output.reason)
        if shown != self._shown:
            self._shown = shown
            if self._output.state in _LEVELS:
                self.get_logger().info(f"{self._output.state.value}: {self._output.reason}")

    def _set_expiry(self) -> None:
        ends = self._guard.next_expiry
        if ends is None:
            self._expiry.cancel()
        else:
            self._expiry.timer_period_ns = max(1_000_000, round((ends - time.monotonic()) * 1e9) + 100_000)
            self._expiry.reset()

    def _send(self, vx: float, wz: float) -> None:
        if self._go2:
            self._go2.move(vx, wz)
        message = twist_stamped(vx, wz, self.get_clock().now().to_msg(), self._settings["frame_id"])
        self._cmd_vel.publish(message if self._settings["stamped"] else message.twist)

    def _problems(self) -> list[str]:
        """What an operator should know beside what the guard does."""
        problems = []
        if stands_s := self._follows.stands_s(time.monotonic()):
            problems.append(
                f"the robot does not move yet, though told to for {stands_s:.1f} s: has it just stood up, is it blocked, "
                f"does its driver hear {self._cmd_vel.topic_name}?"
            )
            self.get_logger().warning(problems[0], throttle_duration_sec=5.0)
        if deaf := unlike_types(self, self._cmd_vel.topic_name):
            wanted = "false" if self._settings["stamped"] else "true"
            problems.append(f"{deaf}: set stamped to {wanted}, or change the type there")
        if self._commanded and not self._received.get_subscription_count():
            problems.append(f"nobody listens to {self._received.topic_name}: is the drafter running?")
        if self._button and self._button.problem:
            problems.append(self._button.problem)
        return problems

    def _health(self) -> Health:
        out = self._output
        level, reason = _LEVELS.get(out.state, OK), out.reason
        if problems := self._problems():
            level, reason = max(level, WARN), "; ".join((reason, *problems))
        return Health(
            level,
            reason,
            {
                "state": out.state.value,
                "vx": out.vx,
                "wz": out.wz,
                "silent": self._idle.silent,
                "emergency_stop": EMERGENCY in self._guard.holds,
                "holds": ", ".join(self._guard.holds),
                "refused_actions": self._refused,
                "last_refusal": self._last_refusal,
            },
        )

    def close(self) -> None:
        """Send stops, more than one because nobody can repeat them later."""
        if EMERGENCY in self._guard.holds:
            self._forget_emergency_stop()
        self._guard.emergency_stop("motion_node is shutting down")
        try:
            for _ in range(3):
                self._send(0.0, 0.0)
                time.sleep(0.02)
        finally:
            if self._go2:
                self._go2.robot.close()

    def _forget_emergency_stop(self) -> None:
        """Whoever ends the node on purpose begins anew; a node that crashes does not come here."""
        try:
            self._latch.clear()
        except OSError as error:
            self.get_logger().error(f"the emergency stop stays latched: {error}")
        else:
            self.get_logger().warning("shut down on purpose: the emergency stop is cleared")


main = partial(run, MotionNode)
"""Entry point of the ``motion_node`` executable."""


if __name__ == "__main__":
    main()
