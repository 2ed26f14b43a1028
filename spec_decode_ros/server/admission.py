"""Who gets in: how many actions a server works on at once, and how many a robot may begin in a second."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

from spec_decode_ros.errors import SpecDecodeError

_BURST_S = 1.0
"""A robot may begin as many actions at once as it may in so many seconds."""

_FIRST_ACTION_MS = 250.0


@dataclass(frozen=True)
class ServiceLimits:
    """What a server takes on.

    Attributes:
        max_sessions: unfinished actions at once.
        memory_mb: megabytes for the caches of these; 0 sets no limit of its own.
        session_tokens: tokens of prompt, answer and draft that the caches of one have room for.
        actions_per_second: that one robot may begin on average; 0 for any number.
        expire_s: an action of which nothing was heard for so long is dropped.
    """

    max_sessions: int = 64
    memory_mb: float = 0.0
    session_tokens: int = 2048
    actions_per_second: float = 0.0
    expire_s: float = 30.0

    def __post_init__(self) -> None:
        if isinstance(self.max_sessions, bool) or not 1 <= self.max_sessions <= 100_000:
            raise SpecDecodeError(f"max_sessions must be from 1 to 100000, not {self.max_sessions}.")
        if isinstance(self.session_tokens, bool) or not 1 <= self.session_tokens <= 10_000_000:
            raise SpecDecodeError(f"session_tokens must be from 1 to 10000000, not {self.session_tokens}.")
        for name in ("memory_mb", "actions_per_second"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise SpecDecodeError(f"{name} must be 0 (no limit) or positive, not {value}.")
        if not (math.isfinite(self.expire_s) and self.expire_s > 0):
            raise SpecDecodeError(f"expire_s must be a positive number of seconds, not {self.expire_s}.")

    def sessions(self, bytes_per_token: int) -> int:
        """How many actions fit into the memory, if one token takes `bytes_per_token`; 0 for not known.

        Raises:
            SpecDecodeError: not even one does.
        """
        if not (self.memory_mb and bytes_per_token):
            return self.max_sessions
        session_mb = bytes_per_token * self.session_tokens / 1e6
        fit = int(self.memory_mb / session_mb)
        if not fit:
            raise SpecDecodeError(
                f"The caches of one action of {self.session_tokens} tokens take {session_mb:.1f} MB: raise memory_mb above "
                f"{self.memory_mb:g}, or lower session_tokens."
            )
        return min(self.max_sessions, fit)


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

    def ask(self, robot: Hashable, now: float, unfinished: int) -> Refusal | None:
        """Whether `robot` may begin an action at `now` (seconds), while so many are unfinished; None lets it in."""
        if unfinished >= self.most:
            # One of them ends in this time on average; whoever was sent away comes back spread over it.
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
        """An action was worked on for so long."""
        self._action_ms += 0.1 * (milliseconds - self._action_ms)

    def forget(self, now: float) -> None:
        """Drop what is known of robots that may begin as many actions as ever."""
        if self._per_second:
            full_s = self._burst / self._per_second
            self._allowance = {
                robot: kept for robot, kept in self._allowance.items() if now - kept[1] < full_s
            }
