"""Frames from a folder of pictures, a video file or a camera device, as a robot's head camera publishes them."""

from __future__ import annotations

from typing import NoReturn

from rclpy.node import Node
from sensor_msgs.msg import CompressedImage

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.nodes.common import (
    ERROR,
    LATEST_FRAME,
    OK,
    WARN,
    Diagnostics,
    Health,
    Parameter,
    Settings,
    compressed,
    run,
    steady_clock,
)
from spec_decode_ros.robots.frames import open_source

PARAMETERS = (
    Parameter(
        "source", "", "folder of pictures, picture, video file, or camera such as /dev/video0", fixed=True
    ),
    Parameter("rate", 10.0, "Hz, frames published a second", 0.1, 60.0, fixed=True),
    Parameter("loop", True, "begin anew at the end of the pictures or of the video", fixed=True),
    Parameter("max_width", 0, "pixels, wider frames are scaled down; 0: leave them", 0, 4096, fixed=True),
    Parameter("quality", 85, "JPEG quality of frames that have to be encoded", 1, 95, fixed=True),
    Parameter("frame_id", "head_camera", "frame of the pictures", fixed=True),
)


class CameraNode(Node):
    """Publishes camera/image/compressed."""

    def __init__(self) -> None:
        super().__init__("camera_node")
        settings = Settings(self, PARAMETERS)
        self._source, self._frame_id = settings["source"], settings["frame_id"]
        self._frames = open_source(self._source, settings["loop"], settings["max_width"], settings["quality"])
        self._count = 0
        self._health_now = Health(OK, "no frame yet", {"source": self._source})
        self._publisher = self.create_publisher(CompressedImage, "camera/image/compressed", LATEST_FRAME)
        self._timer = self.create_timer(1.0 / settings["rate"], self._publish, clock=steady_clock())
        self._diagnostics = Diagnostics(self, "camera", lambda: self._health_now)
        self.get_logger().info(f"ready: frames from {self._source} at {settings['rate']:g} Hz")

    def _publish(self) -> None:
        values: dict[str, object] = {"source": self._source}
        try:
            jpeg = next(self._frames)
        except StopIteration:
            self._end(Health(WARN, "the source has ended", {**values, "frames": self._count}))
            return
        except SpecDecodeError as error:
            self._end(Health(ERROR, str(error), {**values, "frames": self._count}))
            return
        message = compressed(jpeg)
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = self._frame_id
        self._publisher.publish(message)
        self._count += 1
        self._health_now = Health(OK, "publishing", {**values, "frames": self._count, "bytes": len(jpeg)})

    def _end(self, health: Health) -> None:
        self._timer.cancel()
        self._health_now = health
        self.get_logger().warning(health.message)

    def close(self) -> None:
        """Let go of the camera or the file."""
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()


def main(args: list[str] | None = None) -> NoReturn:
    """Entry point of the ``camera_node`` executable."""
    run(CameraNode, args)


if __name__ == "__main__":
    main()
