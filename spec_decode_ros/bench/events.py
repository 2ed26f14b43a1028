"""Virtual time: what is going to happen, and when."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Events:
    """A queue of what is going to happen, in the order of time; `now` is in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def next_at(self) -> float:
        return self._queue[0][0]

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._order), action))

    def happen(self) -> None:
        """Let the next one happen."""
        self.now, _, action = heapq.heappop(self._queue)
        action()
