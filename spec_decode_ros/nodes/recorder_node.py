"""Records what a replay and a viewer need into an mcap bag: frames, commands, plans, actions, velocities, diagnostics."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from rclpy.node import Node

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.nodes.common import RECEIVED, Settings, run, steady_clock
from spec_decode_ros.nodes.recorder import BagRecorder
from spec_decode_ros.settings import Setting

TOPICS = (
    "camera/image/compressed",
    "overlay/compressed",
    RECEIVED,
    "step",
    "plan",
    "plan/tokens",
    "posture",
    "cmd_vel",
    "odom",
)
"""Relative names, so that a namespace and remappings apply."""

ACTIONS = "action/"
DIAGNOSTICS = "/diagnostics"

PARAMETERS = (
    Setting("out", "", "folder of the bag; empty: a new one named after the time", fixed=True),
    Setting(
        "max_size_mb", 2000.0, "MB of messages after which recording ends; 0: never", 0.0, 1e7, fixed=True
    ),
    Setting("max_duration", 0.0, "s after which recording ends; 0: never", 0.0, 1e7, fixed=True),
    Setting("all_topics", False, "record every topic, not only the project's own", fixed=True),
)

_LOOK_PERIOD_S = 0.1


class RecorderNode(Node):
    """Subscribes to the project's topics, or to all, and writes them until it is interrupted or a limit is reached."""

    def __init__(self) -> None:
        super().__init__("recorder_node")
        settings = Settings(self, PARAMETERS)
        self.finished = False
        self._folder = _new_folder(settings["out"])
        names = {self.resolve_topic_name(name) for name in TOPICS} | {DIAGNOSTICS}
        actions = self.resolve_topic_name(ACTIONS + "text").removesuffix("text")

        def wanted(topic: str) -> bool:
            return settings["all_topics"] or topic in names or topic.startswith(actions)

        try:
            self._recorder = BagRecorder(
                self, self._folder, self._folder.name, wanted, round(settings["max_size_mb"] * 1e6)
            )
        except OSError as error:
            raise SpecDecodeError(f"cannot write into {self._folder}: {error.strerror or error}") from error
        self._began = time.monotonic()
        self._max_s = settings["max_duration"]
        self.create_timer(_LOOK_PERIOD_S, self._look, clock=steady_clock())
        self.get_logger().info(f"ready: recording into {self._folder}; Ctrl-C ends it")

    def _look(self) -> None:
        if self._recorder.full:
            self.get_logger().warning(self._recorder.full)
        over = 0.0 < self._max_s <= time.monotonic() - self._began
        self.finished = self.finished or over or bool(self._recorder.full)

    def close(self) -> None:
        """Finish the bag, so that it can be read."""
        try:
            bag = self._recorder.close()
        except OSError as error:
            self.get_logger().error(f"the bag in {self._folder} is not whole: {error.strerror or error}")
            return
        count = sum(self._recorder.counts.values())
        self.get_logger().info(f"recorded {count} messages, {self._recorder.bytes / 1e6:.1f} MB, into {bag}")


def _new_folder(out: str) -> Path:
    folder = Path(out) if out else Path(time.strftime("bag_%Y%m%d_%H%M%S"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpecDecodeError(f"{folder} exists already and is not overwritten: name another folder")
    return folder.resolve()


main = partial(run, RecorderNode)
"""Entry point of the ``recorder_node`` executable."""


if __name__ == "__main__":
    main()
