"""The robot's drafter: camera frames and commands in, draft and verified actions out.

Velocities go out on action/draft while only the draft model has said them, on action/verified once the target has, and
on action/unverified where no verdict will come. Every message carries the stamp of the frame behind it, which is how
the motion node tells old from new. What is decided when is in :mod:`spec_decode_ros.edge.frame_loop`.
"""

from __future__ import annotations

from functools import partial

from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from spec_decode_ros.actions.action import ACTION_PERIOD_S
from spec_decode_ros.edge.frame_loop import FRAME_NAME, ActionKind, CameraFrame, FrameLoop
from spec_decode_ros.edge.link_watch import ON_LINK_LOSS
from spec_decode_ros.edge.pilot import Decision
from spec_decode_ros.edge.stack import DECODING, EdgeStack
from spec_decode_ros.image_messages import picture_to_jpeg
from spec_decode_ros.models.pair_config import DEFAULT_PAIR
from spec_decode_ros.nodes.common import (
    EVENTS,
    HANDED_ON,
    LATEST,
    LATEST_FRAME,
    RECEIVED,
    Diagnostics,
    Settings,
    clock_seconds,
    run,
    steady_clock,
)
from spec_decode_ros.nodes.drafter_health import drafter_health
from spec_decode_ros.nodes.messages import compressed, nanoseconds, planar_pose, stamp_from, twist_stamped
from spec_decode_ros.settings import Setting
from spec_decode_ros.viz.decoded_action import DecodedAction, Piece, pieces_of
from spec_decode_ros.viz.overlay import Overlay, draw_overlay

COMPRESSED, RAW = "compressed", "raw"

PARAMETERS = (
    Setting("pair", DEFAULT_PAIR, "model pair: a shipped name or the path of a pair file", fixed=True),
    *DECODING,
    Setting(
        "endpoint",
        "tcp://127.0.0.1:5555",
        "where the verifier listens, tcp://HOST:PORT; several by commas, the preferred one first",
        fixed=True,
    ),
    Setting(
        "image_transport",
        COMPRESSED,
        "of the frames: compressed (CompressedImage on camera/image/compressed), raw (Image on camera/image)",
        choices=(COMPRESSED, RAW),
        fixed=True,
    ),
    Setting("action_period", ACTION_PERIOD_S, "s from one decision to the next, at least", 0.02, 5.0),
    Setting("max_frame_age", 0.5, "s, an older frame is not decided on", 0.02, 10.0),
    Setting("max_frame_width", 640, "pixels, wider frames are scaled down; 0: never", 0, 4096),
    Setting("camera_timeout", 0.35, "s of motion without a new picture until the robot stops", 0.05, 60.0),
    Setting(
        "deadline",
        1.5,
        "s without a verdict until an action fails and the link is lost",
        0.1,
        60.0,
        fixed=True,
    ),
    Setting(
        "on_link_loss",
        "hold",
        "without the cloud: hold (stand until it is back), draft (go on unverified), stop (until the next command)",
        choices=ON_LINK_LOSS,
        fixed=True,
    ),
    Setting("act_on_draft", True, "publish action/draft, on which the robot begins before the verdict"),
    Setting("rest_after", 3, "equal standing actions until the robot rests; 0: never", 0, 1000, fixed=True),
    Setting("overlay", True, "draw overlay/compressed while somebody watches"),
)

_CHECK_CAMERA_S = 0.04


class DrafterNode(Node):
    """Subscribes camera/image/compressed (or camera/image), command/received and odom.

    Publishes action/* and overlay/compressed.
    """

    def __init__(self) -> None:
        super().__init__("drafter_node")
        self._settings = settings = Settings(self, PARAMETERS)
        self._stack = stack = EdgeStack(settings)
        self._velocities = {
            kind: self.create_publisher(TwistStamped, f"action/{kind}", LATEST)
            for kind in ("verified", "draft", "unverified")
        }
        self._text = self.create_publisher(String, "action/text", EVENTS)
        self._tokens = self.create_publisher(String, "action/tokens", EVENTS)
        self._posture = self.create_publisher(String, "action/posture", EVENTS)
        self._overlay = self.create_publisher(CompressedImage, "overlay/compressed", LATEST)
        self._loop = loop = FrameLoop(stack, settings, self, self.get_logger(), lambda: clock_seconds(self))
        if settings["image_transport"] == RAW:
            self.create_subscription(Image, "camera/image", self._on_raw_frame, LATEST_FRAME)
        else:
            self.create_subscription(CompressedImage, "camera/image/compressed", self._on_frame, LATEST_FRAME)
        self.create_subscription(String, RECEIVED, lambda message: loop.take_command(message.data), HANDED_ON)
        self.create_subscription(Odometry, "odom", self._on_odometry, LATEST_FRAME)
        self.create_timer(_CHECK_CAMERA_S, loop.check_camera, clock=steady_clock())
        self._diagnostics = Diagnostics(self, "drafter", lambda: drafter_health(stack, loop, settings))
        loop.start()
        where = "without a verifier"
        if stack.client is not None:
            where = f"with the verifier at {' or '.join(stack.client.endpoints)}"
        self.get_logger().info(f"ready: pair {stack.pair}, method {stack.method} {where}")

    def _on_frame(self, message: CompressedImage) -> None:
        self._loop.take_frame(CameraFrame(bytes(message.data), nanoseconds(message.header.stamp)))

    def _on_odometry(self, message: Odometry) -> None:
        self._loop.take_odometry(nanoseconds(message.header.stamp) * 1e-9, *planar_pose(message))

    def _on_raw_frame(self, message: Image) -> None:
        # Encoded by the deciding thread, for the frames that it decides on.
        encode = partial(picture_to_jpeg, message, True, FRAME_NAME)
        self._loop.take_frame(CameraFrame(bytes(message.data), nanoseconds(message.header.stamp), encode))

    # -- what the deciding thread sends ---------------------------------------------------------------------

    def send_velocities(self, kind: ActionKind, vx: float, wz: float, stamp_ns: int) -> None:
        """Tell the motion node."""
        self._velocities[kind].publish(twist_stamped(vx, wz, stamp_from(stamp_ns)))

    def send_progress(self, committed: str, text: str) -> None:
        """Tell the terminal how far the action is decoded."""
        if self._tokens.get_subscription_count():
            decoded = DecodedAction.in_progress(self._loop.pilot.command, committed, text)
            self._tokens.publish(String(data=decoded.to_json()))

    def send_decision(self, decision: Decision, posture: str, jpeg: bytes) -> None:
        """Tell everybody the whole action; draw it where somebody watches."""
        result, command = decision.result, self._loop.pilot.command
        if decision.action is not None and result.verified:
            self._text.publish(String(data=result.text))
        if posture:
            self._posture.publish(String(data=posture))
        reads = self._tokens.get_subscription_count() > 0
        watches = self._settings["overlay"] and self._overlay.get_subscription_count() > 0
        if not (reads or watches):
            return
        pieces = pieces_of(self._stack.decode, result.tokens, result.outcomes)
        if result.without_model:
            pieces = (Piece(result.text, "unverified"),)
        if reads:
            state = "verified" if result.verified else "unverified"
            target = str(result.stats["target_fingerprint"] or "")
            last = decision.last_action or ""
            decoded = DecodedAction(command, pieces, state, decision.problem, target, last)
            self._tokens.publish(String(data=decoded.to_json()))
        if watches:
            picture = draw_overlay(jpeg, self._overlay_of(decision, pieces))
            self._overlay.publish(compressed(picture, self.get_clock().now().to_msg(), frame_id=""))

    def _overlay_of(self, decision: Decision, pieces: tuple[Piece, ...]) -> Overlay:
        result, action = decision.result, decision.action
        took = result.stats["total_ms"]
        status = f"{self._stack.method}, verified after {took:.0f} ms"
        if result.without_model:
            status = "answered at once, without a model"
        elif not result.verified:
            status = f"UNVERIFIED, draft model alone, after {took:.0f} ms"
        return Overlay(
            self._loop.pilot.command,
            pieces,
            action.vx if action else 0.0,
            action.wz if action else 0.0,
            result.verified,
            decision.problem or status,
        )

    def close(self) -> None:
        """End the deciding thread, the runtimes and the connection."""
        self._loop.close()


main = partial(run, DrafterNode)
"""Entry point of the ``drafter_node`` executable."""


if __name__ == "__main__":
    main()
