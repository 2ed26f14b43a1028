"""Which of the sessions that wait for the target share its next pass: pure functions.

Sessions take turns, first come first served. Those that verify or decode need a few tokens of a pass each; a new one
needs its whole prompt, so it is taken in by pieces where that would keep the others waiting (chunked prefill, as in
Sarathi-Serve, arXiv 2403.02310).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.models.warmup import PassTiming

_FEWEST, _MOST, _UNKNOWN = 64, 2048, 256
_STEPS, _STALL_MS = 8.0, 40.0
"""A pass that others wait for may take as long as so many passes over one token, or so many milliseconds."""

_LEAST_PREFILL = 4
"""New sessions get at least one token of so many in a full pass."""

NEWEST_PASS = 0.1
"""Weight of the newest pass in how many sessions share one on average."""


@dataclass(frozen=True)
class VerifyRequest:
    """What a waiting session brings to a pass: `unread` tokens of its prompt first, then `draft` ones to verify."""

    unread: int
    draft: int

    @property
    def width(self) -> int:
        """Tokens in the pass; at least one, the last committed token or the end of the prompt."""
        return max(1, self.unread) + self.draft


@dataclass(frozen=True)
class BatchSlot:
    """Turn number `index` has a part in the pass: all of it, or only `prefill` tokens of its prompt."""

    index: int
    prefill: int = 0


def pass_budget(pace: PassTiming) -> int:
    """How many tokens a shared pass may have, from what passes take: so many that nobody waits for it for long."""
    if not (pace.token_ms and pace.per_token_ms):
        return _UNKNOWN
    longest_ms = max(_STEPS * pace.token_ms, _STALL_MS)
    return round(min(max(longest_ms / pace.per_token_ms, _FEWEST), _MOST))


def schedule_step(turns: Sequence[VerifyRequest], budget: int) -> list[BatchSlot]:
    """Who shares the next pass of about `budget` tokens, of `turns` in the order of their arrival.

    The first one always has a part, so every session's turn comes. A whole part may exceed the budget where it is
    the only one. Prompts get what the others leave, and a quarter at least.
    """
    left = budget
    verifying = sum(turn.width for turn in turns if not turn.unread)
    reading = max(budget - verifying, budget // _LEAST_PREFILL, 1)
    seats: list[BatchSlot] = []
    for index, turn in enumerate(turns):
        room = min(left, reading) if turn.unread else left
        if turn.width <= room or (not seats and turn.unread <= 1):
            seats.append(BatchSlot(index))
        elif turn.unread > 1 and room > 0:
            seats.append(BatchSlot(index, min(room, turn.unread - 1)))
        else:
            continue
        taken = seats[-1].prefill or turn.width
        left -= taken
        reading -= taken if turn.unread else 0
        if left <= 0:
            break
    return seats
