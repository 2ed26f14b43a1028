"""A button of a joystick as the emergency stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from rclpy.node import Node
from sensor_msgs.msg import Joy

from spec_decode_ros.nodes.common import EVENTS

NO_BUTTON = -1
_HEARD_S = 3.0


class EmergencyButton:
    """Listens to ``joy`` and calls ``stop`` as long as the button is pressed; letting it go releases nothing."""

    def __init__(self, node: Node, button: int, stop: Callable[[], None]) -> None:
        self._button, self._stop = button, stop
        self._heard: float | None = None
        self._count = 0
        self._subscription = node.create_subscription(Joy, "joy", self._on_joy, EVENTS)

    def _on_joy(self, message: Joy) -> None:
        self._heard, self._count = time.monotonic(), len(message.buttons)
        if self._button < self._count and message.buttons[self._button]:
            self._stop()

    @property
    def problem(self) -> str:
        """Why pressing the button would stop nothing; empty where it would."""
        topic = self._subscription.topic_name
        if self._heard is None:
            return (
                f"no joystick has been heard on {topic}, so its emergency button does nothing: start joy_node"
            )
        if time.monotonic() - self._heard > _HEARD_S:
            return (
                f"the joystick on {topic} says nothing any more, so its emergency button does nothing: is it there, and "
                "is autorepeat_rate of joy_node above 0?"
            )
        if self._button >= self._count:
            return f"the joystick on {topic} has no button {self._button}: set emergency_button below {self._count}"
        return ""
