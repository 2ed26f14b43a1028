"""Whether a thread that comes round several times a second still does."""

from __future__ import annotations

import math
import threading
import time


class Watchdog:
    """Of one thread, which calls :meth:`comes_round`; everybody else may ask."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def comes_round(self) -> float:
        """To be called in each round; the time, in seconds of the monotonic clock."""
        self._at = time.monotonic()
        return self._at

    def missed_s(self, thread: threading.Thread, stopping: bool) -> float | None:
        """For how many seconds the thread has not come round.

        None while it does not run because nobody wants it to, infinite where it has ended by itself.
        """
        if thread.ident is None or stopping:
            return None
        return time.monotonic() - self._at if thread.is_alive() else math.inf
