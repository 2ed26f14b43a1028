"""What one action asks of the server: when it comes, its passes and what lies between them, from the state machines."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import partial

from spec_decode_ros.decoding.cloud import CloudMachine
from spec_decode_ros.decoding.commands import CloudCommand, RunPass
from spec_decode_ros.decoding.testing import Scenario, VirtualAction

_NEVER_S = 1e-9
"""A gap below this is no gap: the pass was wanted as the one before it ended."""


@dataclass(frozen=True)
class Visit:
    """One pass of an action.

    Attributes:
        gap_s: seconds from the end of the visit before, or from the prompt being ready, to this one being wanted.
        draft: draft tokens in the pass.
        own_s: seconds of the server's own draft model before it.
    """

    gap_s: float
    draft: int
    own_s: float = 0.0


@dataclass(frozen=True)
class Trace:
    """One action as its server sees it: the frame comes after `arrive_s`, the robot knows `tail_s` after the last visit."""

    arrive_s: float
    visits: tuple[Visit, ...]
    tail_s: float

    @property
    def away_s(self) -> float:
        """Seconds of the action in which the server has nothing to do for it."""
        return self.arrive_s + sum(visit.gap_s for visit in self.visits) + self.tail_s


class TracedAction(VirtualAction):
    """An action that is written down.

    Args:
        extra_s: how much longer a pass takes than one of this action alone, because others have a part in it.
        crowded_in: its passes, from 0, in which somebody else found no seat, which matters to one that yields.
    """

    def __init__(self, extra_s: float, scenario: Scenario, crowded_in: Collection[int] = ()) -> None:
        super().__init__(scenario)
        self._extra_s, self._crowded_in = extra_s, crowded_in
        self._arrived: float | None = None
        self._free_at = 0.0
        self._visits: list[Visit] = []

    def trace(self) -> Trace:
        """Play the action to its end."""
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
        gap_s = gap_s if gap_s > _NEVER_S else 0.0
        wait_s = self._others_s if gap_s else 0.0  # else it has a part in the pass that follows at once
        self.after(wait_s, cloud, partial(self._begin, cloud, run, gap_s))

    @property
    def _others_s(self) -> float:
        """What is left of the others' pass, on average."""
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
