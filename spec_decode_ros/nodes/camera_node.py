"""Publishes frames from a Go2's front camera, a camera device, a video file or a folder of pictures."""

from __future__ import annotations

import math
import threading
import time
from functools import partial

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.nodes.common import (
    ERROR,
    LATEST,
    LATEST_FRAME,
    OK,
    WARN,
    Diagnostics,
    Health,
    Settings,
    run,
    steady_clock,
)
from spec_decode_ros.nodes.messages import CAMERA_FRAME, camera_info, compressed
from spec_decode_ros.pictures import picture_size
from spec_decode_ros.robots.frames import open_source
from spec_decode_ros.robots.go2_camera import Go2Camera
from spec_decode_ros.robots.go2_channel import MAX_DOMAIN, check_middleware
from spec_decode_ros.settings import Setting

GO2 = "go2"
_RETRY_S = 0.5

PARAMETERS = (
    Setting(
        "source",
        "",
        "go2 (the robot's own camera), or folder of pictures, picture, video file, camera such as /dev/video0",
        fixed=True,
    ),
    Setting("network_interface", "", "that the Go2 is plugged into, such as eth0; empty: any", fixed=True),
    Setting("dds_domain", 0, "of the Go2's own DDS, not of ROS", 0, MAX_DOMAIN, fixed=True),
    Setting("rate", 10.0, "Hz, frames published a second", 0.1, 60.0, fixed=True),
    Setting("loop", True, "begin anew at the end of the pictures or of the video", fixed=True),
    Setting("max_width", 0, "pixels, wider frames are scaled down; 0: leave them", 0, 4096, fixed=True),
    Setting("quality", 85, "JPEG quality of frames that have to be encoded", 1, 95, fixed=True),
    Setting(
        "frame_id",
        CAMERA_FRAME,
        "frame of the pictures, x to the right, y down, z ahead (REP 103)",
        fixed=True,
    ),
    Setting(
        "horizontal_fov",
        0.0,
        "degrees, of undistorted pictures; with it camera/camera_info is published; 0: it is not",
        0.0,
        170.0,
        fixed=True,
    ),
)


class CameraNode(Node):
    """Publishes camera/image/compressed, and camera/camera_info where the field of view is known."""

    def __init__(self) -> None:
        super().__init__("camera_node")
        self._settings = settings = Settings(self, PARAMETERS)
        self._source, self._frame_id = settings["source"], settings["frame_id"]
        self._count = self._skipped = 0
        self._health_now = Health(OK, "no frame yet", {"source": self._source})
        self._publisher = self.create_publisher(CompressedImage, "camera/image/compressed", LATEST_FRAME)
        self._fov = math.radians(settings["horizontal_fov"])
        self._camera = self.create_publisher(CameraInfo, "camera/camera_info", LATEST) if self._fov else None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        if self._source == GO2:
            self._start_go2()
        else:
            self._start_source()
        self._diagnostics = Diagnostics(self, "camera", lambda: self._health_now)
        self.get_logger().info(f"ready: frames from {self._source} at {settings['rate']:g} Hz")

    def _publish(self, jpeg: bytes, stamp: Time) -> None:
        frame = compressed(jpeg, stamp, self._frame_id)
        self._publisher.publish(frame)
        if self._camera:
            self._camera.publish(camera_info(frame.header, *picture_size(jpeg), self._fov))
        self._count += 1
        self._health_now = self._health(OK, "publishing", bytes=len(jpeg))

    def _health(self, level: bytes, message: str, **values: object) -> Health:
        counts = {"frames": self._count, "skipped": self._skipped}
        return Health(level, message, {"source": self._source, **counts, **values})

    # -- files and devices ----------------------------------------------------------------------------------

    def _start_source(self) -> None:
        settings = self._settings
        self._frames = open_source(
            self._source, settings["loop"], settings["max_width"], settings["quality"], self._skip
        )
        self._timer = self.create_timer(1.0 / settings["rate"], self._publish_next, clock=steady_clock())

    def _publish_next(self) -> None:
        try:
            jpeg = next(self._frames)
        except StopIteration:
            self._end(self._health(WARN, "the source has ended"))
        except SpecDecodeError as error:
            self._end(self._health(ERROR, str(error)))
        else:
            self._publish(jpeg, self.get_clock().now().to_msg())

    def _skip(self, sentence: str) -> None:
        self._skipped += 1
        self.get_logger().warning(f"skipped: {sentence}", throttle_duration_sec=10.0)

    def _end(self, health: Health) -> None:
        self._timer.cancel()
        self._health_now = health
        self.get_logger().warning(health.message)

    # -- the Go2 --------------------------------------------------------------------------------------------

    def _start_go2(self) -> None:
        check_middleware()
        settings = self._settings
        camera = Go2Camera(
            settings["dds_domain"], settings["network_interface"], settings["max_width"], settings["quality"]
        )
        # In a thread of its own, because the call blocks while the robot is gone.
        self._thread = threading.Thread(target=self._watch, args=(camera,), name="go2 camera", daemon=True)
        self._thread.start()

    def _watch(self, camera: Go2Camera) -> None:
        period_s = 1.0 / self._settings["rate"]
        due = time.monotonic()
        while not self._closing.is_set():
            wait_s = period_s
            try:
                picture = camera.look()
                if picture is not None:
                    age = Duration(seconds=time.monotonic() - picture.asked)
                    self._publish(picture.jpeg, (self.get_clock().now() - age).to_msg())
            except Exception as error:
                # Reported and tried again, whatever it is: nobody would notice the end of this thread.
                known = isinstance(error, SpecDecodeError)
                problem = str(error) if known else f"the camera failed: {type(error).__name__}: {error}"
                self._health_now = self._health(ERROR, problem)
                self.get_logger().warning(problem, throttle_duration_sec=10.0)
                wait_s = max(period_s, _RETRY_S)
            due = max(due + wait_s, time.monotonic())
            self._closing.wait(due - time.monotonic())

    def close(self) -> None:
        """Release the camera or the file."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(2.0)
            return
        close = getattr(self._frames, "close", None)
        if close is not None:
            close()


main = partial(run, CameraNode)
"""Entry point of the ``camera_node`` executable."""


if __name__ == "__main__":
    main()
