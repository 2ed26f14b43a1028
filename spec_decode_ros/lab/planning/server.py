"""A GPU's server as it is planned with: what its rounds cost, and who has a part in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from spec_decode_ros.decoding.testing import Times
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.grid import Cell, World
from spec_decode_ros.models.warmup import PassTiming
from spec_decode_ros.server.scheduler import BatchSlot, VerifyRequest, pass_budget, schedule_step


@dataclass(frozen=True)
class PlannedServer:
    """A GPU with the target on it, whose rounds are those of `runtime.engine`.

    Attributes:
        times: what work costs.
        prompt_tokens: of a prompt with its frame.
    """

    times: Times
    prompt_tokens: int

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1:
            raise SpecDecodeError(f"prompt_tokens is at least 1, not {self.prompt_tokens}")

    @classmethod
    def of(cls, cell: Cell, world: World) -> PlannedServer:
        """The one that a profile describes."""
        return cls(world.times(cell), world.prompt_tokens)

    @cached_property
    def budget(self) -> int:
        """About how many tokens a pass may have, as a server chooses it."""
        return pass_budget(PassTiming(self.times.step * 1e3, self.times.per_token * 1e3))

    @cached_property
    def new_in_a_round(self) -> int:
        """Prompts that are made ready before a pass, at most."""
        return max(1, self.budget // self.prompt_tokens)

    @property
    def prompts_per_s(self) -> float:
        """How many prompts it could read in a second if it did nothing else: no method lets it serve more actions."""
        return 1 / max(self.times.prepare + self.times.prefill, 1e-9)

    def drafting_s(self, seconds: Sequence[float]) -> float:
        """What its own drafts for several actions take, of which each would take so long alone: they are made together."""
        return max(seconds, default=0.0)

    def pass_s(self, tokens: int, prompt_tokens: int) -> float:
        """A pass over so many tokens of answers and drafts, and so many of prompts."""
        return self.times.shared_pass(tokens, prompt_tokens / self.prompt_tokens)

    def seats(self, turns: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Who shares the next pass, of those in line with so many unread and drafted tokens each.

        A list of (place in the line, tokens of the prompt that are read and nothing else; 0 for a whole part).
        """
        if sum(max(1, unread) + draft for unread, draft in turns) <= self.budget:
            return [(place, 0) for place in range(len(turns))]
        seats: list[BatchSlot] = schedule_step([_turn(*turn) for turn in turns], self.budget)
        return [(seat.index, seat.prefill) for seat in seats]


@lru_cache(maxsize=4096)
def _turn(unread: int, draft: int) -> VerifyRequest:
    return VerifyRequest(unread, draft)
