"""For what others could make happen at any rate, such as a line in the log."""

from __future__ import annotations

import time


class RateLimiter:
    """True at most once in `every_s` seconds."""

    def __init__(self, every_s: float = 1.0) -> None:
        self._every_s = every_s
        self._next = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._every_s
        return True
