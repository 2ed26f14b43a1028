"""Decides on the robot's camera frames, one after the other and always on the newest. No ROS.

A thread of its own decides, so that neither frames nor commands nor settings wait for a model. Velocities go out
the moment they are known: as a draft while only the draft model has said them, as verified once the target has, and
as unverified where no verdict will come.

A moving robot that sees nothing new (:mod:`~spec_decode_ros.edge.camera_watch`) is stopped, and nothing that was
decided on what it saw goes out any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from spec_decode_ros.actions.action import ACTION_PERIOD_S
from spec_decode_ros.actions.prompt import clean_instruction, heard_instruction
from spec_decode_ros.edge.action_statistics import ActionStatistics
from spec_decode_ros.edge.camera_watch import CameraWatch
from spec_decode_ros.edge.draft_motion import DraftMotion
from spec_decode_ros.edge.link_watch import LinkWatch
from spec_decode_ros.edge.odometer import Odometer
from spec_decode_ros.edge.pilot import Decision, Pilot
from spec_decode_ros.edge.runtime import ActionFailed
from spec_decode_ros.edge.stack import EdgeStack
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.pictures import to_jpeg

ActionKind = Literal["draft", "verified", "unverified"]

FRAME_NAME = "the camera's frame"

_IDLE_S = 0.5

_DELAY_WEIGHT = 0.2
"""Of the newest action in the moving average of their delays."""

_COASTS_S = 0.1
"""s for which a walking robot moves on at full rate, about, after it was told to stand: the guard's ramp and its gait."""


class ActionOutput(Protocol):
    """Where the loop's results go. Called from the deciding thread, stops also from the one that checks the camera."""

    def send_velocities(self, kind: ActionKind, vx: float, wz: float, stamp_ns: int) -> None:
        """Velocities (m/s, rad/s) for the motion node, with the stamp of the frame behind them."""

    def send_progress(self, committed: str, text: str) -> None:
        """The text so far, and the part of it that the target has committed."""

    def send_decision(self, decision: Decision, posture: str, jpeg: bytes) -> None:
        """A decision, the posture to take on (or nothing), and the frame; the velocities are sent already."""


class Logger(Protocol):
    """As rclpy's; ``throttle_duration_sec`` holds for each place in the source."""

    def info(self, message: str) -> object: ...

    def warning(self, message: str, *, throttle_duration_sec: float = ...) -> object: ...

    def error(self, message: str, *, throttle_duration_sec: float = ...) -> object: ...


@dataclass(frozen=True)
class CameraFrame:
    """A picture and its stamp in nanoseconds; encoded, unless `encode` makes a JPEG of so many pixels' width of it."""

    picture: bytes
    stamp_ns: int
    encode: Callable[[int], bytes] | None = None

    def jpeg(self, max_width: int) -> bytes:
        """JPEG bytes, at most so many pixels wide; raises SpecDecodeError."""
        if self.encode is not None:
            return self.encode(max_width)
        return to_jpeg(self.picture, max_width, name=FRAME_NAME)

    @property
    def stamp(self) -> float:
        """Seconds."""
        return self.stamp_ns * 1e-9


class FrameLoop:
    """Takes frames and commands from any thread and decides in its own, from :meth:`start` to :meth:`close`.

    Args:
        stack: what it decides with; ended by :meth:`close`.
        settings: the present values of the drafter's parameters.
        output: where the results go.
        log: tells the operator of problems.
        clock: seconds on the clock of the frames' stamps.
    """

    def __init__(
        self,
        stack: EdgeStack,
        settings: Mapping[str, Any],
        output: ActionOutput,
        log: Logger,
        clock: Callable[[], float],
    ) -> None:
        self._stack, self._settings, self._output = stack, settings, output
        self._log, self._clock = log, clock
        self.pilot = Pilot(stack.runtime, stack.style, stack.sampling, settings["rest_after"])
        self.link, self.statistics = LinkWatch(), ActionStatistics()
        self.frame: CameraFrame | None = None
        self.command: str | None = None
        self._command_count = 0
        self._new_commands: list[str] = []
        self._posture_sent: tuple[int, str] | None = None
        self._camera = CameraWatch(settings["camera_timeout"], settings["max_frame_age"])
        self._odometer = Odometer()
        self._delay_s = 0.0  # from a frame's stamp to the first velocities decided on it
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._decide_forever, name="deciding", daemon=True)

    def start(self) -> None:
        """Begin to decide."""
        self._thread.start()

    def close(self) -> None:
        """End the action under way and the deciding thread, then the runtimes and the connection."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._stack.cancel()
        self._thread.join(self._settings["deadline"] + 2.0)
        self._stack.close()

    # -- from other threads ---------------------------------------------------------------------------------

    def take_frame(self, frame: CameraFrame) -> None:
        """A camera frame has come."""
        clock = self._clock()
        with self._changed:
            self._camera.frame(frame.picture, frame.stamp, clock=clock, now=time.monotonic())
            self.frame = frame
            self._changed.notify()

    def take_odometry(self, stamp: float, x: float, y: float, yaw: float) -> None:
        """A pose of the robot in metres and radians, with its stamp in seconds on the clock of the frames."""
        with self._changed:
            self._odometer.add(stamp, x, y, yaw)

    def take_command(self, command: str) -> None:
        """The operator wants something new."""
        with self._changed:
            self.command = command
            self._command_count += 1
            self._new_commands.append(command)
            self._camera.reset()
            self.statistics.problem = ""
            self._changed.notify()
        said, heard = clean_instruction(command), heard_instruction(command, self._stack.style)
        self._log.info(f"command: {command[:200]}" + (f", heard as: {heard[:200]}" if heard != said else ""))

    def check_camera(self) -> None:
        """Stop a moving robot that sees nothing new; to be called often."""
        with self._changed:
            self._camera.timeout_s = self._settings["camera_timeout"]
            self._camera.max_age_s = self._settings["max_frame_age"]
            blind, reason = self._camera.blind, self._camera.look(time.monotonic())
            if reason and not blind and self.frame is not None:
                self._give_up(self.frame, reason)

    # -- the deciding thread --------------------------------------------------------------------------------

    def _decide_forever(self) -> None:
        used, command, due = -1, 0, 0.0
        while True:
            with self._changed:
                if self._closing:
                    return
                frame, text, count = self.frame, self.command, self._command_count
                wait_s = due - time.monotonic()
                resting = count == command and self.pilot.resting
                idle = text is None or frame is None or frame.stamp_ns == used
                if idle or resting or self._camera.blind:
                    wait_s = _IDLE_S
                if wait_s > 0.0:
                    # A new frame or command wakes early; then everything is looked at again.
                    self._changed.wait(wait_s)
                    continue
                commands, self._new_commands = self._new_commands, []
            assert frame is not None
            used, command = frame.stamp_ns, count
            # All of them: the same command after a stop begins anew, even if nothing was decided for the stop.
            for each in commands:
                self.pilot.set_command(each)
            if self._is_fresh(frame):
                due = time.monotonic() + self._settings["action_period"]
                self._choose_runtime()
                self._decide(frame, count)

    def _choose_runtime(self) -> None:
        """The cloud's verdict if it can be hoped for; else the draft model alone, if it may."""
        if self._stack.client is not None:
            lost = self.link.heard(self._stack.client.silence_s, time.perf_counter())
            alone = lost and self._stack.drives_alone
            self.pilot.runtime = self._stack.alone if alone else self._stack.runtime

    def _lose_link(self, reason: str, command: int) -> None:
        """An action of a command got no verdict: do what the operator wants in that case."""
        if self.link.no_verdict(time.perf_counter()):
            self._log.warning(f"the link is lost: {reason}")
        if self._settings["on_link_loss"] == "stop":
            with self._changed:
                # A command that has come meanwhile is the next one, for which the robot waits.
                if command == self._command_count:
                    # Whatever is under way belongs to a command that is no more.
                    self.command = None
                    self._command_count += 1

    def _is_fresh(self, frame: CameraFrame) -> bool:
        age = self._clock() - frame.stamp
        limit = self._settings["max_frame_age"]
        if -limit <= age <= limit:
            return True
        self.statistics.stale_frames += 1
        self.statistics.problem = f"the newest frame is {age:.2f} s old, at most {limit:g} s are allowed"
        self._log.warning(self.statistics.problem, throttle_duration_sec=2.0)
        return False

    def _decide(self, frame: CameraFrame, command: int) -> None:
        motion = DraftMotion()
        verified_sent: list[tuple[float, float]] = []
        awaits = self._stack.client is not None and not (self.link.lost and self._stack.drives_alone)
        with self._changed:
            travel = self._odometer.at(frame.stamp, min(self._delay_s, ACTION_PERIOD_S) + _COASTS_S)
        delays: list[float] = []

        def on_velocities(vx: float, wz: float, verified: bool) -> None:
            at = time.monotonic()
            if not delays:
                delays.append(self._clock() - frame.stamp)
                self._delay_s += _DELAY_WEIGHT * (delays[0] - self._delay_s)
            if verified:
                if not verified_sent and awaits:
                    self.statistics.corrections.append(motion.correction(vx, wz, at))
                verified_sent[:] = [(vx, wz)]
                self._send("verified", vx, wz, frame, command)
            elif not awaits:
                self._send("unverified", vx, wz, frame, command)
            elif self._settings["act_on_draft"] and not self.link.lost:
                motion.drafted(vx, wz, at)
                self._send("draft", vx, wz, frame, command)

        captured = time.perf_counter() - max(0.0, self._clock() - frame.stamp)
        try:
            jpeg = frame.jpeg(self._settings["max_frame_width"])
            decision = self.pilot.decide(jpeg, on_velocities, captured, self._output.send_progress, travel)
            if self._is_current(command):
                posture = self._carry_out(decision, frame, verified_sent, command)
                self._output.send_decision(decision, posture, jpeg)
        except SpecDecodeError as error:
            self._give_up(frame, str(error))
            if awaits and isinstance(error, ActionFailed) and not self._closing:
                self._lose_link(str(error), command)
        except Exception as error:
            # Whatever a model, a font or a driver raises, the robot stops, says so, and tries again with the next
            # frame: without this thread nobody would decide any more, and nobody would say so.
            problem = f"deciding failed: {type(error).__name__}: {error}"
            self._log.error(problem, throttle_duration_sec=5.0)
            self._give_up(frame, problem)

    def _is_current(self, command: int) -> bool:
        return command == self._command_count and not self._closing and not self._camera.blind

    def _give_up(self, frame: CameraFrame, problem: str) -> None:
        self.statistics.problem = problem
        self._log.warning(problem, throttle_duration_sec=2.0)
        # A stop that no model has asked for; as a draft, because what is verified is only what the target said.
        self._send("draft", 0.0, 0.0, frame)

    def _carry_out(
        self, decision: Decision, frame: CameraFrame, verified_sent: list[tuple[float, float]], command: int
    ) -> str:
        """Send the velocities that were not sent while the action was decoded; the posture to take on, once a command."""
        action = decision.action
        self.statistics.count(decision)
        if action is None:
            self._give_up(frame, decision.problem)
            return ""
        self.statistics.problem = decision.problem
        if decision.problem:
            self._log.warning(decision.problem, throttle_duration_sec=2.0)
        if not decision.result.verified:
            self._send("unverified", action.vx, action.wz, frame, command)
            return ""
        if verified_sent != [(action.vx, action.wz)]:
            self._send("verified", action.vx, action.wz, frame, command)
        if not action.posture or self._posture_sent == (command, action.posture):
            return ""
        self._posture_sent = (command, action.posture)
        return action.posture

    def _send(
        self, kind: ActionKind, vx: float, wz: float, frame: CameraFrame, command: int | None = None
    ) -> None:
        """Send velocities; what was decided for a command only while that command is in force."""
        with self._changed:  # nothing may slip out after the stop that another thread sends
            if command is None or self._is_current(command):
                self._camera.told_to_move(vx != 0.0 or wz != 0.0, time.monotonic())
                self._output.send_velocities(kind, vx, wz, frame.stamp_ns)
