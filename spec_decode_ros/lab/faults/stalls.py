"""Detects times in which the machine itself stood still, so that no action is blamed for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from pathlib import Path

_BEAT_S = 0.1
_LONG_S = 0.4
_JOIN_S = 5.0

Span = tuple[float, float]
"""Start and end, by `time.perf_counter`."""


class StallDetector:
    """A thread that wakes up ten times a second, writes to a file as robots do, and notes when that took long.

    It runs on the cores on which it is started.
    """

    def __init__(self, path: Path) -> None:
        self.spans: list[Span] = []
        self._path = path
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stalls", daemon=True)

    def __enter__(self) -> StallDetector:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            last = time.perf_counter()
            while not self._over.wait(_BEAT_S):
                file.write(".")
                file.flush()
                now = time.perf_counter()
                if now - last > _LONG_S:
                    self.spans.append((last, now))
                last = now


def overlap_s(began: float, ended: float, spans: Iterable[Span]) -> float:
    """Seconds of a time that lie within the spans."""
    return sum(max(0.0, min(ended, until) - max(began, since)) for since, until in spans)
