"""Traces of actions: what an action asks of its server, recorded in virtual time for each method and load of the server."""

from __future__ import annotations

import bisect
import random
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial

from spec_decode_ros.decoding.acceptance import AcceptanceAverage
from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.decoding.commands import CloudCommand, RunPass
from spec_decode_ros.decoding.controller import plan, server_draft_length
from spec_decode_ros.decoding.messages import ServerMode
from spec_decode_ros.decoding.methods import METHODS, Method
from spec_decode_ros.decoding.testing import Scenario, VirtualAction
from spec_decode_ros.lab.bench.grid import Cell, World, measurements, scenario
from spec_decode_ros.lab.bench.variants import MethodVariant, variants_of

EXTRA_STEPS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Levels of load: how much longer than alone a pass takes, in passes over one token."""

SHARING = (1.0, 2.0, 4.0)
"""Levels of sharing: sessions in a pass. With more, server drafts hardly ever pay where there is anything else."""

_NO_GAP_S = 1e-9
"""A shorter gap is none: the pass was wanted when the one before it ended."""

VARIANTS = variants_of(("cloud", "colocated", "auto"))


def planned_method(variant: MethodVariant, cell: Cell, world: World) -> Method:
    """The method as a robot runs it that has measured its link and its pair."""
    method = METHODS[variant.method]
    return plan(method, variant.objective, measurements(cell, world)) if variant.objective else method


@dataclass(frozen=True)
class Visit:
    """One pass of an action, with `draft` draft tokens, after `own_s` seconds of the server's own drafting.

    `gap_s` is the time from the end of the pass before, or from the prompt being ready, until this one is wanted.
    """

    gap_s: float
    draft: int
    own_s: float = 0.0


@dataclass(frozen=True)
class Trace:
    """An action as its server sees it: it arrives after `arrive_s`, and the robot has the answer `tail_s` after the end."""

    arrive_s: float
    visits: tuple[Visit, ...]
    tail_s: float


class TracedAction(VirtualAction):
    """Records the trace of an action whose passes take `extra_s` longer than alone, because they are shared.

    `crowded_in` are its passes, from 0, in which another action found no slot; it matters to actions that yield.
    """

    def __init__(self, extra_s: float, scenario: Scenario, crowded_in: Collection[int] = ()) -> None:
        super().__init__(scenario)
        self._extra_s, self._crowded_in = extra_s, crowded_in
        self._arrived: float | None = None
        self._free_at = 0.0
        self._visits: list[Visit] = []

    def trace(self) -> Trace:
        """Run the action to its end."""
        outcome = self.run()
        assert self._arrived is not None
        return Trace(self._arrived, tuple(self._visits), outcome.at - self._free_at)

    def prepare(self, cloud: CloudMachine) -> None:
        self._arrived = self.now
        ready_s = self._others_s + self.times.prepare
        self._free_at = self.now + ready_s
        self.after(ready_s, cloud, cloud.prepared)

    def take_turn(self, cloud: CloudMachine, run: RunPass) -> None:
        gap_s = self.now - self._free_at
        gap_s = gap_s if gap_s > _NO_GAP_S else 0.0
        wait_s = self._others_s if gap_s else 0.0  # without a gap it joins the pass that follows at once
        self.after(wait_s, cloud, partial(self._begin, cloud, run, gap_s))

    @property
    def _others_s(self) -> float:
        """What is left of a pass of others, on average."""
        return self._extra_s / 2

    def _begin(self, cloud: CloudMachine, run: RunPass, gap_s: float) -> list[CloudCommand]:
        made, own_s = self.server_draft(run)
        self.after(own_s, cloud, partial(self._pass, cloud, made, Visit(gap_s, 0, own_s)))
        return []

    def _pass(self, cloud: CloudMachine, made: tuple[int, ...], visit: Visit) -> list[CloudCommand]:
        run = cloud.pass_begins(made)
        width = len(run.tree or run.draft)
        self._visits.append(replace(visit, draft=width))
        shared_s = self.times.target_pass(not self.prefilled, width) + self._extra_s
        self._free_at = self.now + shared_s
        cloud.others_wait(len(self._visits) - 1 in self._crowded_in)
        self.run_pass(cloud, run, shared_s)
        return []


class LibraryAction:
    """One action, with a trace for each way in which it has to yield; `make` makes its scenario."""

    def __init__(self, extra_s: float, make: Callable[[], Scenario], yields: bool) -> None:
        self._extra_s, self._make, self._yields = extra_s, make, yields
        action = TracedAction(extra_s, make())
        self._traces: dict[tuple[int, ...], Trace] = {(): action.trace()}
        self.stale_judged = action.cloud.stale_judged if action.cloud is not None else (0, 0)

    def trace(self, crowded: tuple[int, ...] = ()) -> Trace:
        """The trace if in these of its passes, from 0 and rising, another action found no slot.

        Up to the last of them, inclusive, it is the same as without it.
        """
        if not self._yields:
            crowded = ()
        if crowded not in self._traces:
            self._traces[crowded] = TracedAction(self._extra_s, self._make(), crowded).trace()
        return self._traces[crowded]


class Library:
    """Actions of a variant in a cell, `size` for each level of load and sharing, recorded when they are first wanted."""

    def __init__(self, variant: MethodVariant, cell: Cell, world: World, size: int = 64) -> None:
        self.variant, self.cell, self.world = variant, cell, world
        self.method = planned_method(variant, cell, world)
        self.server_draft_tokens = server_draft_length(measurements(cell, world))
        alike = self.method.server is ServerMode.STREAM and not self.method.uses_draft_model
        self.size = 1 if alike else size
        self._extra_s = [steps * world.step_ms / 1e3 for steps in EXTRA_STEPS]
        if not self.method.uses_draft_model:  # its passes are the same however long they take
            del self._extra_s[1:]
        chooses = self.method.uses_draft_model and self.method.server is ServerMode.SELF_DRAFT
        self._sharing = SHARING if chooses else SHARING[:1]
        self._recorded: dict[tuple[int, int], tuple[LibraryAction, ...]] = {}

    def pick(self, extra_s: float, sharing: float, rng: random.Random) -> LibraryAction:
        """A random action at this load and this sharing; between two levels, of one of them at random."""
        level = _near(self._extra_s, extra_s, rng.random())
        place = _near(self._sharing, sharing, rng.random()) if len(self._sharing) > 1 else 0
        return rng.choice(self.picks(level, place))

    def picks(self, level: int = 0, sharing: int = 0) -> tuple[LibraryAction, ...]:
        """All actions at one level of load and one of sharing."""
        if (level, sharing) not in self._recorded:
            actions = self._record(self._extra_s[level], self._sharing[sharing])
            self._recorded[level, sharing] = tuple(actions)
        return self._recorded[level, sharing]

    def _record(self, extra_s: float, sharing: float) -> Iterator[LibraryAction]:
        stale = AcceptanceAverage(0.5)
        for seed in range(self.size):
            make = partial(self.scenario, seed, copy(stale), sharing)
            action = LibraryAction(extra_s, make, self.method.yields)
            stale.observe(*action.stale_judged)
            yield action

    def scenario(self, seed: int, stale: AcceptanceAverage, sharing: float) -> Scenario:
        """An action on a server whose passes are shared by `sharing` sessions."""
        alone = scenario(self.method, self.cell, self.world, seed, self.server_draft_tokens, stale)
        assert alone.measured is not None and alone.measured.server_draft_ms is not None
        # All sessions in a pass wait for the server's draft of one of them.
        draft_ms = alone.measured.server_draft_ms * sharing
        return replace(alone, measured=replace(alone.measured, server_draft_ms=draft_ms))


def _near(levels: Sequence[float], value: float, chance: float) -> int:
    """Index of one of the two levels around a value, the nearer the likelier."""
    above = bisect.bisect_right(levels, value)
    if above in (0, len(levels)):
        return min(above, len(levels) - 1)
    share = (value - levels[above - 1]) / (levels[above] - levels[above - 1])
    return above if chance < share else above - 1
