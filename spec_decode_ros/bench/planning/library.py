"""Libraries of traces: many actions of one method in one region, under every pressure that a server may be under."""

from __future__ import annotations

import bisect
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from spec_decode_ros.bench.grid import Cell, World, action_options, conditions
from spec_decode_ros.bench.planning.trace import Trace, TracedAction
from spec_decode_ros.decoding.acceptance import Share
from spec_decode_ros.decoding.controller import OBJECTIVES, Objective, own_length, plan
from spec_decode_ros.decoding.messages import ServerMode
from spec_decode_ros.decoding.methods import METHODS, Method

EXTRA_STEPS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""How much longer than alone a pass takes, in passes over one token."""


@dataclass(frozen=True)
class Variant:
    """A method as a fleet runs it; an objective where the method has one."""

    method: str
    objective: Objective | None = None

    @property
    def name(self) -> str:
        return f"{self.method} {self.objective}" if self.objective else self.method

    def planned(self, cell: Cell, world: World) -> Method:
        """What a robot makes of it that has measured its link and its pair; a fleet's servers take no trees."""
        method = METHODS[self.method]
        if self.objective is not None:
            method = plan(method, self.objective, conditions(cell, world))
        return replace(method, sends_branches=False)


VARIANTS = (
    Variant("cloud"),
    Variant("colocated"),
    *(Variant("auto", objective) for objective in OBJECTIVES),
)


class Pick(NamedTuple):
    """One action, twice: as it goes while nobody else waits, and while others do; the same for methods that do not care."""

    free: Trace
    crowded: Trace


class Library:
    """Traces of `variant` in a cell, recorded when they are first wanted.

    Args:
        size: actions for each of `EXTRA_STEPS`.
    """

    def __init__(self, variant: Variant, cell: Cell, world: World, size: int = 64) -> None:
        self.variant, self.cell, self.world = variant, cell, world
        self.method = variant.planned(cell, world)
        self.own = own_length(conditions(cell, world))
        alike = self.method.server is ServerMode.STREAM and not self.method.uses_draft_model
        self.size = 1 if alike else size
        self._extra_s = [steps * world.step_ms / 1e3 for steps in EXTRA_STEPS]
        if not self.method.uses_draft_model:  # the same passes follow each other however long they take
            del self._extra_s[1:]
        self._recorded: dict[int, tuple[Pick, ...]] = {}

    def pick(self, extra_s: float, rng: random.Random) -> Pick:
        """An action where passes take so much longer than alone, between two recorded levels one of them by chance."""
        return rng.choice(self.picks(_near(self._extra_s, extra_s, rng.random())))

    def picks(self, level: int = 0) -> tuple[Pick, ...]:
        """The actions of one of `EXTRA_STEPS`."""
        if level not in self._recorded:
            alone = self._record(self._extra_s[level], crowded=False)
            crowded = self._record(self._extra_s[level], crowded=True) if self.method.yields else alone
            self._recorded[level] = tuple(map(Pick, alone, crowded))
        return self._recorded[level]

    def _record(self, extra_s: float, crowded: bool) -> list[Trace]:
        wild, traces = Share(0.5), []
        for seed in range(self.size):
            options = action_options(self.method, self.cell, self.world, seed, self.own, wild)
            action = TracedAction(extra_s, crowded=crowded, **options)
            traces.append(action.trace())
            if action.cloud is not None:
                wild.observe(*action.cloud.wild_judged)
        return traces


def _near(levels: Sequence[float], value: float, chance: float) -> int:
    """The place of one of the two levels around a value, the nearer the likelier."""
    above = bisect.bisect_right(levels, value)
    if above in (0, len(levels)):
        return min(above, len(levels) - 1)
    share = (value - levels[above - 1]) / (levels[above] - levels[above - 1])
    return above if chance < share else above - 1
