"""The scheduler: which of the waiting sessions share the target's next pass. Pure functions.

First come, first served. A session that verifies or decodes needs a few tokens of a pass; a new one needs its whole
prompt, which is prefilled in chunks where that would keep the others waiting (chunked prefill, as in Sarathi-Serve,
arXiv 2403.02310).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.models.warmup import PassTiming

_FEWEST, _MOST, _UNKNOWN = 64, 2048, 256
_STEPS, _STALL_MS = 8.0, 40.0
"""A pass that others wait for may take as long as so many passes over one token, or so many milliseconds."""

_LEAST_PREFILL = 4
"""Prompts get at least one token of so many in a full pass."""

NEWEST_PASS = 0.1
"""Weight of the newest pass in the moving average of how many sessions share one."""


@dataclass(frozen=True)
class VerifyRequest:
    """A waiting session's tokens for a pass: `not_prefilled` ones of its prompt, then `draft` ones to verify."""

    not_prefilled: int
    draft: int

    @property
    def width(self) -> int:
        """Tokens in the pass; at least one, the last committed token or the end of the prompt."""
        return max(1, self.not_prefilled) + self.draft


@dataclass(frozen=True)
class BatchSlot:
    """The place in a pass of request number `index`: all of it, or only `prefill` tokens of its prompt."""

    index: int
    prefill: int = 0


def pass_budget(timing: PassTiming) -> int:
    """How many tokens a shared pass may have, from the times of passes, so that no session waits for it for long."""
    if not (timing.token_ms and timing.per_token_ms):
        return _UNKNOWN
    longest_ms = max(_STEPS * timing.token_ms, _STALL_MS)
    return round(min(max(longest_ms / timing.per_token_ms, _FEWEST), _MOST))


def schedule_step(requests: Sequence[VerifyRequest], budget: int) -> list[BatchSlot]:
    """The batch of the next pass of about `budget` tokens, from requests in the order of their arrival.

    The first one is always in it, so none waits for ever. A whole request may exceed the budget where it is the only
    one. Prompts get what the others leave, and a quarter at least.
    """
    left = budget
    verifying = sum(request.width for request in requests if not request.not_prefilled)
    for_prompts = max(budget - verifying, budget // _LEAST_PREFILL, 1)
    slots: list[BatchSlot] = []
    for index, request in enumerate(requests):
        prompt = request.not_prefilled
        room = min(left, for_prompts) if prompt else left
        if request.width <= room or (not slots and prompt <= 1):
            slots.append(BatchSlot(index))
        elif prompt > 1 and room > 0:
            slots.append(BatchSlot(index, min(room, prompt - 1)))
        else:
            continue
        taken = slots[-1].prefill or request.width
        left -= taken
        for_prompts -= taken if prompt else 0
        if left <= 0:
            break
    return slots
