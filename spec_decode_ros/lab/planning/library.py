"""Libraries of traces: many actions of one method in one region, under every pressure that a server may be under."""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from spec_decode_ros.decoding.acceptance import AcceptanceAverage
from spec_decode_ros.decoding.controller import OBJECTIVES, Objective, plan, server_draft_length
from spec_decode_ros.decoding.messages import ServerMode
from spec_decode_ros.decoding.methods import METHODS, Method
from spec_decode_ros.decoding.testing import Scenario
from spec_decode_ros.lab.bench.grid import Cell, World, measurements, scenario
from spec_decode_ros.lab.planning.trace import Trace, TracedAction

EXTRA_STEPS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""How much longer than alone a pass takes, in passes over one token."""

SHARING = (1.0, 2.0, 4.0)
"""Sessions that share a pass; with more of them drafts of the server hardly ever pay where there is anything else."""


@dataclass(frozen=True)
class Variant:
    """A method as a fleet runs it; an objective where the method has one."""

    method: str
    objective: Objective | None = None

    @property
    def name(self) -> str:
        return f"{self.method} {self.objective}" if self.objective else self.method

    def planned(self, cell: Cell, world: World) -> Method:
        """What a robot makes of it that has measured its link and its pair."""
        method = METHODS[self.method]
        if self.objective is not None:
            method = plan(method, self.objective, measurements(cell, world))
        return method


VARIANTS = (
    Variant("cloud"),
    Variant("colocated"),
    *(Variant("auto", objective) for objective in OBJECTIVES),
)


class Pick:
    """One action, and how it goes on when it has to yield.

    Args:
        extra_s: how much longer its passes take than alone.
        scenario: makes it anew.
        yields: whether it matters to it that somebody found no seat.
    """

    def __init__(self, extra_s: float, scenario: Callable[[], Scenario], yields: bool) -> None:
        self._extra_s, self._scenario, self._yields = extra_s, scenario, yields
        action = TracedAction(extra_s, scenario())
        self._traces: dict[tuple[int, ...], Trace] = {(): action.trace()}
        self.stale_judged = action.cloud.stale_judged if action.cloud is not None else (0, 0)

    def trace(self, crowded: tuple[int, ...] = ()) -> Trace:
        """How it goes if in these of its passes, from 0 and in rising order, somebody found no seat.

        Up to the last of them, that one included, it is the same as without it.
        """
        if not self._yields:
            crowded = ()
        if crowded not in self._traces:
            self._traces[crowded] = TracedAction(self._extra_s, self._scenario(), crowded).trace()
        return self._traces[crowded]


class Library:
    """Traces of `variant` in a cell, recorded when they are first wanted.

    Args:
        size: actions for each of `EXTRA_STEPS`, and of `SHARING` where it matters.
    """

    def __init__(self, variant: Variant, cell: Cell, world: World, size: int = 64) -> None:
        self.variant, self.cell, self.world = variant, cell, world
        self.method = variant.planned(cell, world)
        self.server_draft_tokens = server_draft_length(measurements(cell, world))
        alike = self.method.server is ServerMode.STREAM and not self.method.uses_draft_model
        self.size = 1 if alike else size
        self._extra_s = [steps * world.step_ms / 1e3 for steps in EXTRA_STEPS]
        if not self.method.uses_draft_model:  # the same passes follow each other however long they take
            del self._extra_s[1:]
        chooses = self.method.uses_draft_model and self.method.server is ServerMode.SELF_DRAFT
        self._sharing = SHARING if chooses else SHARING[:1]
        self._recorded: dict[tuple[int, int], tuple[Pick, ...]] = {}

    def pick(self, extra_s: float, sharing: float, rng: random.Random) -> Pick:
        """An action where passes take so much longer than alone and so many have a part in one.

        Between two recorded levels it is one of them by chance.
        """
        level = _near(self._extra_s, extra_s, rng.random())
        place = _near(self._sharing, sharing, rng.random()) if len(self._sharing) > 1 else 0
        return rng.choice(self.picks(level, place))

    def picks(self, level: int = 0, sharing: int = 0) -> tuple[Pick, ...]:
        """The actions of one of `EXTRA_STEPS` and one of `SHARING`."""
        if (level, sharing) not in self._recorded:
            actions = self._record(self._extra_s[level], self._sharing[sharing])
            self._recorded[level, sharing] = tuple(actions)
        return self._recorded[level, sharing]

    def _record(self, extra_s: float, sharing: float) -> Iterator[Pick]:
        stale = AcceptanceAverage(0.5)
        for seed in range(self.size):
            args = (self.method, self.cell, self.world, seed, self.server_draft_tokens, copy(stale))
            action = Pick(extra_s, partial(shared_scenario, sharing, *args), self.method.yields)
            stale.observe(*action.stale_judged)
            yield action


def shared_scenario(sharing: float, *args: Any) -> Scenario:
    """A scenario of the grid where `sharing` actions share a pass: all of them wait for the server's draft of one."""
    alone = scenario(*args)
    assert alone.measured is not None and alone.measured.server_draft_ms is not None
    return replace(
        alone, measured=replace(alone.measured, server_draft_ms=alone.measured.server_draft_ms * sharing)
    )


def _near(levels: Sequence[float], value: float, chance: float) -> int:
    """The place of one of the two levels around a value, the nearer the likelier."""
    above = bisect.bisect_right(levels, value)
    if above in (0, len(levels)):
        return min(above, len(levels) - 1)
    share = (value - levels[above - 1]) / (levels[above] - levels[above - 1])
    return above if chance < share else above - 1
