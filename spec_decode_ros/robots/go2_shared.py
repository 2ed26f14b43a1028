"""What the threads that talk to a Go2 share: a lock, the robot's newest state, and which calls have failed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from spec_decode_ros.robots.go2_channel import meaning
from spec_decode_ros.robots.go2_state import Go2State


class Go2Shared:
    """``changed`` is the lock for all that the threads share, and is notified of changes."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.closing = False
        self.state = Go2State()
        self.failures: dict[str, str] = {}
        """For each call that failed when it was last made, a sentence."""

    @property
    def connected(self) -> bool:
        return self.state.connected(time.monotonic())

    def note(self, call: str, code: int) -> None:
        """Remember whether a call has failed; 0 is success."""
        with self.changed:
            if code == 0:
                self.failures.pop(call, None)
            else:
                self.failures[call] = f"{call} failed: {meaning(code)}"

    def wait(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        with self.changed:
            self.changed.wait_for(lambda: self.closing, seconds)

    def wait_for(self, event: threading.Event) -> bool:
        """Wait for an event; False if the end comes first."""
        while not event.wait(0.1):
            if self.closing:
                return False
        return True

    def poll(self, true: Callable[[], bool], timeout_s: float) -> None:
        """Wait until something is true, at most so many seconds."""
        end = time.monotonic() + timeout_s
        while not true() and time.monotonic() < end:
            time.sleep(0.05)
