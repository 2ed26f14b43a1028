"""What a fuzzing run has done, and how much memory it holds."""

from __future__ import annotations

import os
import time
from pathlib import Path

_WARM = 0.2


def rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Account:
    """Counts messages, and remembers how much memory there was when a fifth of those `wanted` were done."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.messages = 0
        self.executions = 0
        self._warm_mb = 0.0
        self._began = time.monotonic()

    def add(self, messages: int) -> bool:
        """Whether that was enough."""
        self.messages += messages
        self.executions += 1
        if not self._warm_mb and self.messages >= _WARM * self.wanted:
            self._warm_mb = rss_mb()
        return self.messages >= self.wanted

    def as_dict(self) -> dict[str, object]:
        return {
            "messages": self.messages,
            "executions": self.executions,
            "seconds": round(time.monotonic() - self._began, 1),
            "rss_mb": [round(self._warm_mb, 1), round(rss_mb(), 1)],
        }
