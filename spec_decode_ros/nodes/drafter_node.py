"""The robot's side: camera frames and commands in, verified actions out.

A thread of its own decides, one frame after the other and always on the newest, so that neither frames nor
commands nor the parameters wait for a model. Velocities go out the moment they are known: on action/draft
while only the draft model has said them, on action/verified once the target has, and on action/unverified where
no verdict will come. Every message carries the stamp of the frame behind it, which is how the motion node tells
old from new.

A moving robot that sees nothing new (:mod:`~spec_decode_ros.robots.camera_watch`) is stopped, and nothing that was
decided on what it saw goes out any more.
"""

from __future__ import annotations

import collections
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from builtin_interfaces.msg import Time
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from spec_decode_ros.actions.action import ACTION_PERIOD_S
from spec_decode_ros.decoding.controller import OBJECTIVES
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.methods import METHODS, method_named
from spec_decode_ros.edge.pilot import Decision, Pilot
from spec_decode_ros.edge.runtime import ActionFailed, EdgeRuntime
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.pair import DEFAULT_PAIR, load_drafter, load_pair_config
from spec_decode_ros.models.threads import be_responsive
from spec_decode_ros.models.warmup import warm_up
from spec_decode_ros.nodes.advances import Advance, Correction
from spec_decode_ros.nodes.common import (
    ERROR,
    EVENTS,
    LATEST,
    LATEST_FRAME,
    OK,
    WARN,
    Diagnostics,
    Health,
    Parameter,
    Settings,
    clock_seconds,
    compressed,
    run,
    seconds,
    steady_clock,
)
from spec_decode_ros.nodes.link_watch import ON_LINK_LOSS, SILENCE_S, LinkWatch
from spec_decode_ros.robots.camera_watch import CameraWatch
from spec_decode_ros.robots.frames import to_jpeg
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.keys import robot_keys
from spec_decode_ros.viz.overlay import Overlay, draw_overlay
from spec_decode_ros.viz.utterance import Piece, Utterance

PARAMETERS = (
    Parameter("pair", DEFAULT_PAIR, "model pair: a shipped name or the path of a pair file", fixed=True),
    Parameter("method", "auto", "how robot and cloud share the work", choices=tuple(METHODS), fixed=True),
    Parameter("objective", "latency", "what the method auto aims at", choices=OBJECTIVES, fixed=True),
    Parameter(
        "endpoint",
        "tcp://127.0.0.1:5555",
        "where the verifier listens, tcp://HOST:PORT; several by commas, the preferred one first",
        fixed=True,
    ),
    Parameter("keys", "", "folder of this robot's keys, if the verifier wants them; empty: none", fixed=True),
    Parameter("device", "", "device of the draft model: cpu, cuda, auto; empty: the pair's", fixed=True),
    Parameter("threads", 0, "CPU threads of the draft model; 0: the pair's", 0, 256, fixed=True),
    Parameter("temperature", 0.0, "0: greedy; above: seeded sampling", 0.0, 2.0, fixed=True),
    Parameter("seed", 0, "seed of the sampling", 0, 2**31 - 1, fixed=True),
    Parameter("action_period", ACTION_PERIOD_S, "s from one decision to the next, at least", 0.02, 5.0),
    Parameter("max_frame_age", 0.5, "s, an older frame is not decided on", 0.02, 10.0),
    Parameter("max_frame_width", 640, "pixels, wider frames are scaled down; 0: never", 0, 4096),
    Parameter("camera_timeout", 0.35, "s of motion without a new picture until the robot stops", 0.05, 60.0),
    Parameter(
        "deadline",
        1.5,
        "s without a verdict until an action fails and the link is lost",
        0.1,
        60.0,
        fixed=True,
    ),
    Parameter(
        "on_link_loss",
        "hold",
        "without the cloud: hold (stand until it is back), draft (go on unverified), stop (until the next command)",
        choices=ON_LINK_LOSS,
        fixed=True,
    ),
    Parameter("act_on_draft", True, "publish action/draft, on which the robot begins before the verdict"),
    Parameter("rest_after", 3, "equal standing actions until the robot rests; 0: never", 0, 1000, fixed=True),
    Parameter("overlay", True, "draw overlay/compressed while somebody watches"),
)

_RECENT = 20
_LOOK_S = 0.04

_WITHOUT_CLOUD: dict[str, str] = {
    "hold": "the robot stands until it does",
    "draft": "the draft model drives alone, unverified and slower",
    "stop": "the robot stands until it is told what to do",
}


@dataclass(frozen=True)
class _Frame:
    message: CompressedImage
    stamp: float


@dataclass
class _Tally:
    """Numbers for the diagnostics; the deciding thread writes, the others read."""

    actions: int = 0
    unverified: int = 0
    invalid: int = 0
    stale_frames: int = 0
    problem: str = ""
    text: str = ""
    ttva_ms: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=_RECENT))
    ttfa_ms: collections.deque[float] = field(default_factory=lambda: collections.deque(maxlen=_RECENT))
    corrections: collections.deque[Correction] = field(
        default_factory=lambda: collections.deque(maxlen=_RECENT)
    )
    counts: collections.deque[tuple[int, int, int]] = field(
        default_factory=lambda: collections.deque(maxlen=_RECENT)
    )


class DrafterNode(Node):
    """Subscribes camera/image/compressed and command; publishes action/* and overlay/compressed."""

    def __init__(self) -> None:
        super().__init__("drafter_node")
        self._settings = settings = Settings(self, PARAMETERS)
        method = method_named(settings["method"])
        pair = load_pair_config(settings["pair"])
        keys = robot_keys(settings["keys"]) if settings["keys"] else None
        drafter = load_drafter(pair, settings["device"] or None, settings["threads"] or None)
        warm_up(drafter)
        be_responsive()
        self._decode = drafter.decode
        self._client = (
            Client(settings["endpoint"], pair.name, drafter.vocabulary, keys=keys)
            if method.uses_cloud
            else None
        )
        self._runtime = EdgeRuntime(
            drafter,
            self._client,
            method,
            deadline_s=settings["deadline"],
            max_tokens=pair.max_tokens,
            fallback=False,
            objective=settings["objective"],
        )
        self._drives_alone = method.uses_cloud and settings["on_link_loss"] == "draft"
        self._alone = (
            EdgeRuntime(drafter, None, "edge", deadline_s=settings["deadline"], max_tokens=pair.max_tokens)
            if self._drives_alone
            else self._runtime
        )
        self._link = LinkWatch()
        sampling = Sampling(temperature=settings["temperature"], seed=settings["seed"])
        self._pilot = Pilot(self._runtime, pair.prompt, sampling, settings["rest_after"])
        self._pair, self._method, self._method_uses_cloud = pair.name, method.name, method.uses_cloud
        self._tally = _Tally()
        self._changed = threading.Condition()
        self._camera = CameraWatch(settings["camera_timeout"], settings["max_frame_age"])
        self._frame: _Frame | None = None
        self._command: str | None = None
        self._command_count = 0
        self._posture_said: tuple[int, str] | None = None
        self._closing = False

        self._verified = self.create_publisher(TwistStamped, "action/verified", LATEST)
        self._draft = self.create_publisher(TwistStamped, "action/draft", LATEST)
        self._unverified = self.create_publisher(TwistStamped, "action/unverified", LATEST)
        self._text = self.create_publisher(String, "action/text", EVENTS)
        self._tokens = self.create_publisher(String, "action/tokens", EVENTS)
        self._posture = self.create_publisher(String, "action/posture", EVENTS)
        self._overlay = self.create_publisher(CompressedImage, "overlay/compressed", LATEST)
        self.create_subscription(CompressedImage, "camera/image/compressed", self._on_frame, LATEST_FRAME)
        self.create_subscription(String, "command", self._on_command, EVENTS)
        self.create_timer(_LOOK_S, self._look, clock=steady_clock())
        self._diagnostics = Diagnostics(self, "drafter", self._health)
        self._thread = threading.Thread(target=self._decide_forever, name="deciding", daemon=True)
        self._thread.start()
        where = (
            f" with the verifier at {' or '.join(self._client.endpoints)}"
            if self._client
            else " without a verifier"
        )
        self.get_logger().info(f"ready: pair {pair.name}, method {method.name}{where}")

    # -- callbacks ------------------------------------------------------------------------------------------

    def _on_frame(self, message: CompressedImage) -> None:
        stamp, clock = seconds(message.header.stamp), clock_seconds(self)
        picture = bytes(message.data)
        with self._changed:
            self._camera.frame(picture, stamp, clock=clock, now=time.monotonic())
            self._frame = _Frame(message, stamp)
            self._changed.notify()

    def _on_command(self, message: String) -> None:
        with self._changed:
            self._command = message.data
            self._command_count += 1
            self._camera.reset()
            self._tally.problem = ""
            self._changed.notify()
        self.get_logger().info(f"command: {message.data[:200]}")

    def _look(self) -> None:
        """Stop a robot that goes where nobody looks."""
        with self._changed:
            self._camera.timeout_s = self._settings["camera_timeout"]
            self._camera.max_age_s = self._settings["max_frame_age"]
            blind, told = self._camera.blind, self._camera.look(time.monotonic())
            if told and not blind and self._frame is not None:
                self._give_up(self._frame.message.header.stamp, told)

    # -- the deciding thread --------------------------------------------------------------------------------

    def _decide_forever(self) -> None:
        used = -1.0
        command = 0
        due = 0.0
        while True:
            with self._changed:
                if self._closing:
                    return
                frame, wish, count = self._frame, self._command, self._command_count
                wait_s = due - time.monotonic()
                resting = count == command and self._pilot.resting
                idle = wish is None or frame is None or frame.stamp == used
                if idle or resting or self._camera.blind:
                    wait_s = 0.5
                if wait_s > 0.0:
                    # A new frame or command wakes early; then everything is looked at again.
                    self._changed.wait(wait_s)
                    continue
            assert frame is not None
            assert wish is not None
            used = frame.stamp
            if count != command:
                command = count
                self._pilot.set_command(wish)
            if self._usable(frame):
                due = time.monotonic() + self._settings["action_period"]
                self._choose_runtime()
                self._decide(frame, count)

    def _choose_runtime(self) -> None:
        """The cloud's verdict if it can be hoped for; else the draft model alone, if it may."""
        if self._client is not None:
            lost = self._link.heard(self._client.silence_s, time.perf_counter())
            self._pilot.runtime = self._alone if lost else self._runtime

    @property
    def _awaits_verdict(self) -> bool:
        return self._method_uses_cloud and not (self._link.lost and self._drives_alone)

    def _lose_link(self, reason: str, command: int) -> None:
        """An action of a command got no verdict: do what the operator wants in that case."""
        if self._link.no_verdict(time.perf_counter()):
            self.get_logger().warning(f"the link is lost: {reason}")
        if self._settings["on_link_loss"] == "stop":
            with self._changed:
                # A command that has come meanwhile is the next one, for which the robot waits.
                if command == self._command_count:
                    # Whatever is under way belongs to a command that is no more.
                    self._command = None
                    self._command_count += 1

    def _usable(self, frame: _Frame) -> bool:
        age = clock_seconds(self) - frame.stamp
        limit = self._settings["max_frame_age"]
        if -limit <= age <= limit:
            return True
        self._tally.stale_frames += 1
        self._tally.problem = f"the newest frame is {age:.2f} s old, at most {limit:g} s are allowed"
        self.get_logger().warning(self._tally.problem, throttle_duration_sec=2.0)
        return False

    def _decide(self, frame: _Frame, command: int) -> None:
        stamp = frame.message.header.stamp
        last: list[tuple[float, float]] = []
        advance = Advance()
        awaits = self._awaits_verdict

        def on_velocities(vx: float, wz: float, verified: bool) -> None:
            at = time.monotonic()
            if verified:
                if not last and awaits:
                    self._tally.corrections.append(advance.corrected(vx, wz, at))
                last[:] = [(vx, wz)]
                self._publish(self._verified, vx, wz, stamp, command)
            elif not awaits:
                self._publish(self._unverified, vx, wz, stamp, command)
            elif self._settings["act_on_draft"] and not self._link.lost:
                advance.drafted(vx, wz, at)
                self._publish(self._draft, vx, wz, stamp, command)

        captured = time.perf_counter() - max(0.0, clock_seconds(self) - frame.stamp)
        try:
            jpeg = to_jpeg(
                bytes(frame.message.data), self._settings["max_frame_width"], name="the camera's frame"
            )
            decision = self._pilot.decide(jpeg, on_velocities, captured, self._say_progress)
            if self._is_current(command):
                self._carry_out(decision, stamp, last, command)
                self._say(decision)
                self._draw(jpeg, decision)
        except SpecDecodeError as error:
            self._give_up(stamp, str(error))
            if awaits and isinstance(error, ActionFailed) and not self._closing:
                self._lose_link(str(error), command)
        except Exception as error:
            # Whatever a model, a font or a driver raises, the robot stops, says so, and tries again with the next
            # frame: without this thread nobody would decide any more, and nobody would say so.
            self.get_logger().error(
                f"deciding failed: {type(error).__name__}: {error}", throttle_duration_sec=5.0
            )
            self._give_up(stamp, f"deciding failed: {type(error).__name__}: {error}")

    def _is_current(self, command: int) -> bool:
        return command == self._command_count and not self._closing and not self._camera.blind

    def _give_up(self, stamp: Time, problem: str) -> None:
        self._tally.problem = problem
        self.get_logger().warning(problem, throttle_duration_sec=2.0)
        # A stop that no model has asked for; as a draft, because action/verified says only what the target said.
        self._publish(self._draft, 0.0, 0.0, stamp)

    def _carry_out(
        self, decision: Decision, stamp: Time, said: list[tuple[float, float]], command: int
    ) -> None:
        result, action = decision.result, decision.action
        self._count(decision)
        if action is None:
            self._tally.invalid += 1
            self._give_up(stamp, decision.problem)
            return
        self._tally.problem = ""
        if not result.verified:
            self._publish(self._unverified, action.vx, action.wz, stamp, command)
            return
        if said != [(action.vx, action.wz)]:
            self._publish(self._verified, action.vx, action.wz, stamp, command)
        self._text.publish(String(data=result.text))
        if action.posture and self._posture_said != (command, action.posture):
            self._posture_said = (command, action.posture)
            self._posture.publish(String(data=action.posture))

    def _publish(
        self, publisher: Publisher, vx: float, wz: float, stamp: Time, command: int | None = None
    ) -> None:
        """Tell the motion node; what was decided for a command only while that command is in force."""
        message = TwistStamped()
        message.header.stamp = stamp
        message.header.frame_id = "base_link"
        message.twist.linear.x, message.twist.angular.z = float(vx), float(wz)
        with self._changed:  # nothing may slip out after the stop that another thread sends
            if command is None or self._is_current(command):
                self._camera.told_to_move(vx != 0.0 or wz != 0.0, time.monotonic())
                publisher.publish(message)

    def _count(self, decision: Decision) -> None:
        result, tally = decision.result, self._tally
        stats = result.stats
        tally.actions += 1
        tally.text = result.text
        tally.unverified += not result.verified
        for name, kept in (("ttva_ms", tally.ttva_ms), ("ttfa_ms", tally.ttfa_ms)):
            value = stats.get(name)
            if isinstance(value, (int, float)):
                kept.append(float(value))
        tally.counts.append(
            (int(stats["drafted"] or 0), int(stats["accepted"] or 0), int(stats["cloud_passes"] or 0))
        )

    def _say_progress(self, committed: str, text: str) -> None:
        if self._tokens.get_subscription_count():
            said = Utterance.in_progress(self._pilot.command, committed, text)
            self._tokens.publish(String(data=said.to_json()))

    def _say(self, decision: Decision) -> None:
        if self._tokens.get_subscription_count():
            result = decision.result
            said = Utterance(
                self._pilot.command,
                tuple(pieces(self._decode, result.tokens, result.outcomes)),
                "verified" if result.verified else "unverified",
                decision.problem,
            )
            self._tokens.publish(String(data=said.to_json()))

    def _draw(self, jpeg: bytes, decision: Decision) -> None:
        if not self._settings["overlay"] or self._overlay.get_subscription_count() == 0:
            return
        result, action = decision.result, decision.action
        took = result.stats["total_ms"]
        status = f"{self._method}, verified after {took:.0f} ms"
        if not result.verified:
            status = f"UNVERIFIED, draft model alone, after {took:.0f} ms"
        if decision.problem:
            status = decision.problem
        overlay = Overlay(
            self._pilot.command,
            pieces(self._decode, result.tokens, result.outcomes),
            action.vx if action else 0.0,
            action.wz if action else 0.0,
            result.verified,
            status,
        )
        message = compressed(draw_overlay(jpeg, overlay))
        message.header.stamp = self.get_clock().now().to_msg()
        self._overlay.publish(message)

    # -- diagnostics and the end ----------------------------------------------------------------------------

    def _health(self) -> Health:
        tally, client = self._tally, self._client
        counts = list(tally.counts)
        drafted, accepted, passes = (sum(count[i] for count in counts) for i in range(3))
        values: dict[str, object] = {
            "pair": self._pair,
            "method": self._method,
            "command": self._command or "",
            "action": tally.text,
            "actions": tally.actions,
            "unverified_actions": tally.unverified,
            "invalid_actions": tally.invalid,
            "stale_frames": tally.stale_frames,
            "resting": self._pilot.resting,
            "ttva_ms": _median(tally.ttva_ms),
            "ttfa_ms": _median(tally.ttfa_ms),
            "act_on_draft": self._settings["act_on_draft"],
            "corrected_m": _mean([correction.metres for correction in tally.corrections]),
            "corrected_rad": _mean([correction.radians for correction in tally.corrections]),
            "on_link_loss": self._settings["on_link_loss"],
            "link_lost": self._link.lost,
            "acceptance_rate": accepted / drafted if drafted else "",
            "cloud_passes": passes / len(counts) if counts else "",
        }
        if client is not None:
            connected = client.ready and client.silence_s < SILENCE_S
            values |= {"endpoint": client.endpoint, "connected": connected, "failovers": client.failovers}
            values["rtt_ms"] = "" if client.rtt_ms is None else client.rtt_ms
            if client.refusal:
                return Health(ERROR, client.refusal, values)
            if self._link.lost or not connected:
                gone = f"the verifier at {' or '.join(client.endpoints)} does not answer"
                return Health(WARN, f"{gone}: {_WITHOUT_CLOUD[self._settings['on_link_loss']]}", values)
        if tally.problem:
            return Health(WARN, tally.problem, values)
        if self._command is None:
            return Health(OK, "waiting for a command", values)
        if self._frame is None:
            return Health(WARN, "waiting for a camera frame", values)
        return Health(OK, "resting until the next command" if self._pilot.resting else "deciding", values)

    def close(self) -> None:
        """End the action under way and the deciding thread, then the runtimes and the connection."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        for runtime in (self._runtime, self._alone):
            runtime.cancel()
        self._thread.join(self._settings["deadline"] + 2.0)
        self._runtime.close()
        self._alone.close()
        if self._client is not None:
            self._client.close()


def pieces(decode, tokens: Sequence[int], outcomes: Sequence[str]) -> list[Piece]:  # type: ignore[no-untyped-def]
    """The answer cut into its tokens' texts, each with its outcome; tokens without text are left out."""
    cut, before = [], ""
    for index, outcome in enumerate(outcomes):
        text = decode(tokens[: index + 1])
        if text[len(before) :].strip():
            cut.append(Piece(text[len(before) :], outcome))
        before = text
    return cut


def _median(values: Sequence[float]) -> object:
    return statistics.median(list(values)) if values else ""


def _mean(values: Sequence[float]) -> object:
    return statistics.fmean(values) if values else ""


def main(args: list[str] | None = None) -> NoReturn:
    """Entry point of the ``drafter_node`` executable."""
    run(DrafterNode, args)


if __name__ == "__main__":
    main()
