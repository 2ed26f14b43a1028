"""Plays a bag to the live nodes, at the times of its messages, and compares the drafter's answers with the bag.

Which frames the drafter decides on depends on its speed, so an action is compared where its frame and its prompt are
those of a recorded one; the others are counted. The exit code is 1 if actions differ.
"""

from __future__ import annotations

import threading
import time
from functools import partial

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from spec_decode_ros.console import PlainConsole
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_json
from spec_decode_ros.nodes.common import EVENTS, HANDED_ON, LATEST_FRAME, Settings, run, steady_clock
from spec_decode_ros.nodes.messages import compressed, nanoseconds, stamp_from, status_values, velocities
from spec_decode_ros.replay.bag import FrameMark, Said, SkippedFrame, Velocities, read_frames, read_recording
from spec_decode_ros.replay.compare import ReplayComparison
from spec_decode_ros.replay.live import timeline
from spec_decode_ros.replay.live_answers import LiveAnswers
from spec_decode_ros.replay.moments import commands_of, moments_of
from spec_decode_ros.replay.report import as_document, print_report
from spec_decode_ros.settings import Setting

PARAMETERS = (
    Setting("bag", "", "the rosbag2: its folder, or an .mcap or .db3 file", fixed=True),
    Setting("image_topic", "", "of the frames in the bag; empty: found by itself", fixed=True),
    Setting("command_topic", "", "of the commands in the bag; empty: found by itself", fixed=True),
    Setting("instruction", "", "what the robot is told; empty: what the bag says", fixed=True),
    Setting(
        "restamp", True, "stamp frames with the time now; false: with their stamps in the bag", fixed=True
    ),
    Setting("rate", 1.0, "of playing: 1 is as recorded, 2 twice as fast", 0.05, 20.0, fixed=True),
    Setting("wait_s", 60.0, "s to wait for the drafter and its verifier", 1.0, 600.0, fixed=True),
    Setting(
        "discovery_s", 1.0, "s without a new subscriber after which all count as found", 0.1, 60.0, fixed=True
    ),
    Setting("settle_s", 2.0, "s to wait for the last action", 0.1, 60.0, fixed=True),
    Setting("json", "", "file for the result; empty: none", fixed=True),
    Setting("plot", "", "file for the picture; empty: none", fixed=True),
)

_ALL = QoSProfile(depth=100)
_LOOK_PERIOD_S = 0.1


class ReplayNode(Node):
    """Publishes camera/image/compressed and command; subscribes action/* and /diagnostics."""

    def __init__(self) -> None:
        super().__init__("replay_node")
        self._settings = settings = Settings(self, PARAMETERS)
        if not settings["bag"]:
            raise SpecDecodeError("no bag is given: set the parameter bag to its folder or file")
        self._bag = read_recording(
            settings["bag"], image_topic=settings["image_topic"], command_topic=settings["command_topic"]
        )
        self._commands = commands_of(self._bag, settings["instruction"])
        self._moments = moments_of(self._bag, settings["instruction"])
        self.finished = False
        self._closing = threading.Event()
        self._connected = False
        self._problem = ""
        self._live = live = LiveAnswers()
        self._frames = self.create_publisher(CompressedImage, "camera/image/compressed", LATEST_FRAME)
        self._command = self.create_publisher(String, "command", HANDED_ON)
        self.create_subscription(String, "action/text", self._on_text, _ALL)
        for kind, kept in (("verified", live.verified), ("draft", live.drafts), ("unverified", live.drafts)):
            self.create_subscription(TwistStamped, f"action/{kind}", partial(_keep, kept), _ALL)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, EVENTS)
        self._thread = threading.Thread(target=self._play, name="bag", daemon=True)
        self._thread.start()
        self.create_timer(_LOOK_PERIOD_S, self._look, clock=steady_clock())
        self.get_logger().info(f"ready: {len(self._bag.frames)} frames of {settings['bag']}")

    # -- answers --------------------------------------------------------------------------------------------

    def _on_text(self, message: String) -> None:
        self._live.texts.append(Said(time.time_ns(), message.data))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("drafter"):
                # A method without a verifier says nothing of a connection.
                self._connected = status_values(status).get("connected", "True") == "True"

    # -- playing --------------------------------------------------------------------------------------------

    def _play(self) -> None:
        """In a thread of its own, so that the time of a frame does not depend on what else is going on."""
        try:
            if not self._wait_for_the_drafter():
                return
            began = time.monotonic()
            frames = read_frames(self._bag, on_skip=self._skip)
            for offset_s, command, frame in timeline(self._commands, frames):
                if self._closing.wait(max(0.0, began + offset_s / self._settings["rate"] - time.monotonic())):
                    return
                if command:
                    self._live.commands.append(Said(time.time_ns(), command.text))
                    self._command.publish(String(data=command.text))
                if frame:
                    self._show(*frame)
            self._closing.wait(self._settings["settle_s"])
        except SpecDecodeError as error:
            self._problem = str(error)

    def _wait_for_the_drafter(self) -> bool:
        end = time.monotonic() + self._settings["wait_s"]
        listeners, since = (0, 0), time.monotonic()
        while time.monotonic() < end:
            now = self._command.get_subscription_count(), self._frames.get_subscription_count()
            if now != listeners:
                listeners, since = now, time.monotonic()
            # Drafter and recorder are found one after the other; what is sent between would reach only one of them.
            if self._connected and all(now) and time.monotonic() - since > self._settings["discovery_s"]:
                return True
            if self._closing.wait(_LOOK_PERIOD_S):
                return False
        raise SpecDecodeError(
            f"no drafter with a verifier listens to {self._frames.topic_name} after {self._settings['wait_s']:g} s: "
            "start drafter_node and the verifier in the same namespace"
        )

    def _skip(self, frame: SkippedFrame) -> None:
        self._live.skipped.append(frame)
        self.get_logger().warning(
            f"the frame at {frame.at_s:.2f} s is skipped: {frame.reason}", throttle_duration_sec=2.0
        )

    def _show(self, mark: FrameMark, jpeg: bytes) -> None:
        stamp = self.get_clock().now().nanoseconds if self._settings["restamp"] else mark.stamp
        message = compressed(jpeg, stamp_from(stamp))
        self._live.frames.append((FrameMark(stamp, time.time_ns()), mark.stamp))
        self._frames.publish(message)

    # -- the end --------------------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._thread.is_alive() or self.finished:
            return
        self.finished = True
        if self._problem:
            raise SpecDecodeError(self._problem)
        comparison = self._live.compare_with(self._bag, self._moments)
        self._report(comparison)
        if comparison.failures:
            raise SpecDecodeError("; ".join(comparison.failures))
        if comparison.recorded and not comparison.compared:
            raise SpecDecodeError(
                "no recorded action could be compared, because the drafter decided on none of their frames"
            )

    def _report(self, comparison: ReplayComparison) -> None:
        settings = self._settings
        document = as_document(self._bag, comparison, {"speed": "live", "rate": settings["rate"]})
        print_report(PlainConsole(), self._bag, comparison, f"{settings['bag']}, through the live nodes")
        if settings["json"]:
            write_json(settings["json"], document)
        if settings["plot"]:
            from spec_decode_ros.replay.plot import draw_replay

            draw_replay(comparison, settings["plot"], f"{settings['bag']} · through the live nodes")

    def close(self) -> None:
        """End the thread that plays."""
        self._closing.set()
        self._thread.join(2.0)


def _keep(kept: list[Velocities], message: TwistStamped) -> None:
    kept.append(Velocities(time.time_ns(), nanoseconds(message.header.stamp), *velocities(message)))


main = partial(run, ReplayNode)
"""Entry point of the ``replay_node`` executable."""


if __name__ == "__main__":
    main()
