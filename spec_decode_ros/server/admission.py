"""Admission control: bounds on concurrent actions, per server and per robot, and on new actions per second per robot."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

_BURST_S = 1.0
"""A robot may begin as many actions at once as it may in so many seconds."""

_LEAST = 2
"""Actions that every robot may have at once, where the server can do so many."""

_FIRST_ACTION_MS = 250.0
_NEWEST = 0.1
"""Weight of the newest action in the moving average of how long one takes."""


@dataclass(frozen=True)
class Refusal:
    """Why an action is not begun now, and in how many milliseconds to ask again."""

    sentence: str
    retry_ms: float


class Admission:
    """Decides about each new action; the clock is the caller's.

    Args:
        most: unfinished actions at once.
        per_second: actions that one robot may begin on average; 0 for any number.
    """

    def __init__(self, most: int, per_second: float = 0.0) -> None:
        self.most = most
        self._per_second = per_second
        self._burst = max(1.0, per_second * _BURST_S)
        # Actions that a robot may begin, and since when.
        self._allowance: dict[Hashable, tuple[float, float]] = {}
        self._action_ms = _FIRST_ACTION_MS

    def ask(
        self, robot: Hashable, now: float, unfinished: int, own: int = 0, robots: int = 0
    ) -> Refusal | None:
        """Whether `robot` may begin an action at `now` (seconds); None admits it.

        Args:
            robot: who asks.
            now: seconds.
            unfinished: actions of all robots.
            own: those of this robot.
            robots: how many are connected, this one among them. Each may have an equal part, and one part stays free for
                one more robot.
        """
        share = max(_LEAST, self.most // (robots + 1))
        if own >= share:
            return Refusal(
                f"A robot may have {share} unfinished actions here now, and this one has.", self._action_ms
            )
        if unfinished >= self.most:
            # One of them ends in this time on average; those that are refused come back spread over it.
            wait_ms = max(10.0, self._action_ms * (1.0 + unfinished) / self.most)
            return Refusal(f"The verifier is full: it works on {self.most} actions already.", wait_ms)
        if not self._per_second:
            return None
        had, since = self._allowance.get(robot, (self._burst, now))
        has = min(self._burst, had + (now - since) * self._per_second)
        if has < 1.0:
            wait_ms = (1.0 - has) / self._per_second * 1000.0
            return Refusal(f"A robot may begin {self._per_second:g} actions a second here.", wait_ms)
        self._allowance[robot] = (has - 1.0, now)
        return None

    def lasted(self, milliseconds: float) -> None:
        """Take the duration of a finished action into the average."""
        self._action_ms += _NEWEST * (milliseconds - self._action_ms)

    def forget(self, now: float) -> None:
        """Drop the records of robots that may begin as many actions as ever."""
        if self._per_second:
            full_s = self._burst / self._per_second
            self._allowance = {
                robot: kept for robot, kept in self._allowance.items() if now - kept[1] < full_s
            }
