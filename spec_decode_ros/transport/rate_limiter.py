"""Rate limiter for what a peer could otherwise trigger at any rate, such as log lines."""

from __future__ import annotations

import time


class RateLimiter:
    """Allows something at most once in `period_s` seconds."""

    def __init__(self, period_s: float = 1.0) -> None:
        self._period_s = period_s
        self._next = 0.0

    def allow(self) -> bool:
        """Whether it may be done now; if so, the next time is a period later."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._period_s
        return True
