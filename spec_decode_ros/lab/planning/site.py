"""One region under one method: how soon actions are verified with how many GPUs.

Robots stay with their server, and servers of a region are alike but for how many robots they have: some with some numbers
of robots are simulated, and any number of GPUs is a mixture of these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.planning.library import Library
from spec_decode_ros.lab.planning.loads import Sticky, loads
from spec_decode_ros.lab.planning.queue import Gpu, Served
from spec_decode_ros.lab.planning.server import PlannedServer

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = 0.95
"""Share of its actions that a robot has to get to begin, or the goal is not kept however soon they end."""

_MOST_ROBOTS = 4096
"""On one server."""

_MOST_GPUS_A_ROBOT = 4


@dataclass(frozen=True)
class LatencyGoal:
    """What a fleet is asked for.

    Attributes:
        rate: actions per second that each robot would like.
        p95_ms: 95 of 100 actions have to be verified so soon after their frame.
    """

    rate: float = 2.0
    p95_ms: float = 500.0

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1000 and 0 < self.p95_ms <= 1e6):
            raise SpecDecodeError("a robot's rate is above 0 and at most 1000 a second, a goal above 0 ms")


@dataclass(frozen=True)
class SimulationSettings:
    """How the simulation goes about it.

    Attributes:
        sticky: which server a robot stays with.
        actions: measured for each number of robots on a server, about.
        traces: recorded actions for each method, region and pressure.
        seed: of everything that is drawn.
    """

    sticky: Sticky = Sticky.EVEN
    actions: int = 1500
    traces: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.actions < 100 or self.traces < 2:
            raise SpecDecodeError("a fleet is simulated from at least 100 actions and 2 traces")


@dataclass(frozen=True)
class Mixture:
    """Actions of many servers: times in seconds, and how much each counts."""

    ttva_s: NDArray[np.float64]
    weights: NDArray[np.float64]
    utilisation: float
    kept: float

    def ttva_ms(self, share: float) -> float:
        """So that this share of the actions is sooner."""
        order = np.argsort(self.ttva_s, kind="stable")
        reached = np.cumsum(self.weights[order])
        place = np.searchsorted(reached, share * reached[-1])
        return float(self.ttva_s[order][min(int(place), len(order) - 1)]) * 1e3

    def keeps(self, goal: LatencyGoal) -> bool:
        return self.kept >= KEPT and self.ttva_ms(0.95) <= goal.p95_ms

    @classmethod
    def of(cls, parts: Sequence[tuple[float, Mixture]]) -> Mixture:
        """Several, each with its share of the actions."""
        shares = np.array([share for share, _ in parts])
        shares /= shares.sum()
        return cls(
            np.concatenate([mixture.ttva_s for _, mixture in parts]),
            np.concatenate(
                [share * m.weights / m.weights.sum() for share, (_, m) in zip(shares, parts, strict=True)]
            ),
            float(sum(share * m.utilisation for share, (_, m) in zip(shares, parts, strict=True))),
            float(sum(share * m.kept for share, (_, m) in zip(shares, parts, strict=True))),
        )


class Site:
    """One region under one method: simulated servers with different numbers of robots, kept for all questions about it."""

    def __init__(
        self, library: Library, server: PlannedServer, goal: LatencyGoal, setting: SimulationSettings
    ) -> None:
        self.library, self.server, self.goal, self.setting = library, server, goal, setting
        self._served: dict[int, Served] = {}

    def served(self, robots: int) -> Served:
        """A server with so many robots."""
        if robots not in self._served:
            gpu = Gpu(self.server, self.library, robots, self.goal.rate, self.setting.seed + robots)
            self._served[robots] = gpu.run(self.setting.actions)
        return self._served[robots]

    def with_gpus(self, robots: int, gpus: int) -> Mixture:
        """So many robots on so many servers."""
        parts = loads(robots, gpus, self.setting.sticky)
        served = [self.served(number) for number, _ in parts]
        # A server with more robots has more of the actions.
        actions = [number * chance * s.kept for (number, chance), s in zip(parts, served, strict=True)]
        robots_a_server = sum(number * chance for number, chance in parts)
        return Mixture(
            np.concatenate([s.ttva_s for s in served]),
            np.concatenate(
                [np.full(len(s.ttva_s), n / len(s.ttva_s)) for n, s in zip(actions, served, strict=True)]
            ),
            sum(chance * s.utilisation for (_, chance), s in zip(parts, served, strict=True)),
            sum(actions) / robots_a_server,
        )

    def gpus_needed(self, robots: int) -> int | None:
        """The smallest number of GPUs that keeps the goal; None where even a server for itself does not keep a robot's."""
        if not self.with_gpus(1, 1).keeps(self.goal):
            return None
        enough = max(1, robots // self.robots_per_gpu)
        while not self._keeps(robots, enough):
            enough = max(enough + 1, math.ceil(enough * 1.25))
            if enough > _MOST_GPUS_A_ROBOT * robots:
                return None
        too_few = 0
        while enough - too_few > 1:
            middle = (enough + too_few) // 2
            if self._keeps(robots, middle):
                enough = middle
            else:
                too_few = middle
        return enough

    @cached_property
    def robots_per_gpu(self) -> int:
        """How many robots one server takes while the goal is kept; 0 where not even one."""
        fits, too_many = 0, 1
        while too_many <= _MOST_ROBOTS and self._keeps(too_many, 1):
            fits, too_many = too_many, 2 * too_many
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            if self._keeps(middle, 1):
                fits = middle
            else:
                too_many = middle
        return fits

    def _keeps(self, robots: int, gpus: int) -> bool:
        return self.with_gpus(robots, gpus).keeps(self.goal)
