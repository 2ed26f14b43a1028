"""Watchdog that tells whether the loop of a thread still runs."""

from __future__ import annotations

import math
import threading
import time


class Watchdog:
    """Watches one thread, which calls :meth:`feed` in every iteration of its loop. Any thread may ask."""

    def __init__(self) -> None:
        self._fed = time.monotonic()

    def feed(self) -> float:
        """Note that the loop runs; returns the time in seconds of the monotonic clock."""
        self._fed = time.monotonic()
        return self._fed

    def stalled_s(self, thread: threading.Thread, stopping: bool) -> float | None:
        """Seconds since the last iteration.

        None before the thread was started and while it is being stopped, infinite if it has ended by itself.
        """
        if thread.ident is None or stopping:
            return None
        return time.monotonic() - self._fed if thread.is_alive() else math.inf
