"""One region with one method variant: how soon actions are verified with how many GPUs.

Robots stay with their server, and the servers of a region differ only in how many robots they have. Servers with some
numbers of robots are simulated; any number of GPUs is a mixture of these.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.planning.library import Library
from spec_decode_ros.lab.planning.queue import Gpu, PlannedServer, Served

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = 0.95
"""Share of its actions that a robot has to begin; below it the goal is missed, however soon they end."""

_MOST_ROBOTS = 4096
"""On one server."""

_MOST_GPUS_PER_ROBOT = 4

_NODE_RATIO = 1.12
"""Ratio of neighbouring numbers of robots that are simulated, where servers have random numbers of robots."""

_LEAST_CHANCE = 1e-4


class Sticky(str, enum.Enum):
    """Which server a robot stays with."""

    EVEN = "even"  # the one with the fewest robots, as `server.fleet.routing` chooses
    RANDOM = "random"  # any, where addresses are handed out at random


@dataclass(frozen=True)
class LatencyGoal:
    """Each robot begins `rate` actions per second, and 95 of 100 are verified within `p95_ms` of their frame."""

    rate: float = 2.0
    p95_ms: float = 500.0

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1000 and 0 < self.p95_ms <= 1e6):
            raise SpecDecodeError("a robot's rate is above 0 and at most 1000 a second, a goal above 0 ms")


@dataclass(frozen=True)
class SimulationSettings:
    """How servers are simulated: measured `actions` per number of robots, about, and recorded `traces` per load."""

    sticky: Sticky = Sticky.EVEN
    actions: int = 1500
    traces: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Mixture:
    """Actions of many servers: times in seconds, and the weight of each."""

    ttva_s: NDArray[np.float64]
    weights: NDArray[np.float64]
    utilisation: float
    kept: float

    def ttva_ms(self, share: float) -> float:
        """Percentile of the times, in milliseconds."""
        order = np.argsort(self.ttva_s, kind="stable")
        reached = np.cumsum(self.weights[order])
        place = np.searchsorted(reached, share * reached[-1])
        return float(self.ttva_s[order][min(int(place), len(order) - 1)]) * 1e3

    def keeps(self, goal: LatencyGoal) -> bool:
        return self.kept >= KEPT and self.ttva_ms(0.95) <= goal.p95_ms

    @classmethod
    def of(cls, parts: Sequence[tuple[float, Mixture]]) -> Mixture:
        """A mixture of several, each with its share of the actions."""
        total = sum(share for share, _ in parts)
        shares = [(share / total, mixture) for share, mixture in parts]
        return cls(
            np.concatenate([m.ttva_s for _, m in shares]),
            np.concatenate([share * m.weights / m.weights.sum() for share, m in shares]),
            float(sum(share * m.utilisation for share, m in shares)),
            float(sum(share * m.kept for share, m in shares)),
        )


class Site:
    """Simulated servers with different numbers of robots; each is simulated once and kept."""

    def __init__(
        self, library: Library, server: PlannedServer, goal: LatencyGoal, setting: SimulationSettings
    ) -> None:
        self.library, self.server, self.goal, self.setting = library, server, goal, setting
        self._served: dict[int, Served] = {}

    def served(self, robots: int) -> Served:
        """A server with this number of robots."""
        if robots not in self._served:
            gpu = Gpu(self.server, self.library, robots, self.goal.rate, self.setting.seed + robots)
            self._served[robots] = gpu.run(self.setting.actions)
        return self._served[robots]

    def with_gpus(self, robots: int, gpus: int) -> Mixture:
        """Robots on this number of servers."""
        parts = loads(robots, gpus, self.setting.sticky)
        served = [self.served(number) for number, _ in parts]
        # A server with more robots has more of the actions.
        actions = [number * chance * s.kept for (number, chance), s in zip(parts, served, strict=True)]
        robots_per_server = sum(number * chance for number, chance in parts)
        return Mixture(
            np.concatenate([s.ttva_s for s in served]),
            np.concatenate(
                [np.full(len(s.ttva_s), n / len(s.ttva_s)) for n, s in zip(actions, served, strict=True)]
            ),
            sum(chance * s.utilisation for (_, chance), s in zip(parts, served, strict=True)),
            sum(actions) / robots_per_server,
        )

    def gpus_needed(self, robots: int) -> int | None:
        """The smallest number of GPUs that keeps the goal; None where a robot with a GPU for itself does not."""
        if not self._keeps(1, 1):
            return None
        enough = max(1, robots // self.robots_per_gpu)
        while not self._keeps(robots, enough):
            enough = max(enough + 1, math.ceil(enough * 1.25))
            if enough > _MOST_GPUS_PER_ROBOT * robots:
                return None
        return 1 + _last_true(lambda gpus: not self._keeps(robots, gpus), 0, enough)

    @cached_property
    def robots_per_gpu(self) -> int:
        """The largest number of robots on one server that keeps the goal; 0 where not even one does."""
        fits, too_many = 0, 1
        while too_many <= _MOST_ROBOTS and self._keeps(too_many, 1):
            fits, too_many = too_many, 2 * too_many
        return _last_true(lambda robots: self._keeps(robots, 1), fits, too_many)

    def _keeps(self, robots: int, gpus: int) -> bool:
        return self.with_gpus(robots, gpus).keeps(self.goal)


def _last_true(holds: Callable[[int], bool], known: int, fails: int) -> int:
    """By bisection, the largest number for which it holds, from one where it does to one where it does not."""
    while fails - known > 1:
        middle = (known + fails) // 2
        known, fails = (middle, fails) if holds(middle) else (known, middle)
    return known


def loads(robots: int, gpus: int, sticky: Sticky) -> list[tuple[int, float]]:
    """Numbers of robots on a server, and their probabilities; servers without robots are left out.

    Random numbers are rounded at random to one of a few that are simulated.
    """
    if sticky is Sticky.EVEN:
        least, more = divmod(robots, gpus)
        found = [(least, 1 - more / gpus), (least + 1, more / gpus)]
        return [(number, chance) for number, chance in found if number and chance]
    chances: dict[int, float] = {}
    for number, chance in _binomial(robots, 1 / gpus):
        below, above = _simulated_around(number)
        share = (number - below) / (above - below) if above > below else 0.0
        for node, part in ((below, 1 - share), (above, share)):
            chances[node] = chances.get(node, 0.0) + chance * part
    return [(node, chance) for node, chance in sorted(chances.items()) if node and chance > _LEAST_CHANCE]


def _binomial(trials: int, chance: float) -> list[tuple[int, float]]:
    """Outcomes and their probabilities, within five standard deviations."""
    if chance >= 1:
        return [(trials, 1.0)]
    spread = 5 * math.sqrt(trials * chance * (1 - chance)) + 5
    lowest = max(0, math.floor(trials * chance - spread))
    highest = min(trials, math.ceil(trials * chance + spread))
    whole = math.lgamma(trials + 1)
    found = []
    for count in range(lowest, highest + 1):
        ways = whole - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
        log = ways + count * math.log(chance) + (trials - count) * math.log1p(-chance)
        found.append((count, math.exp(log)))
    return found


def _simulated_around(number: int) -> tuple[int, int]:
    """The simulated numbers of robots on both sides; every number up to 8 is simulated."""
    above = 8
    if number <= above:
        return number, number
    while above < number:
        below, above = above, max(above + 1, round(above * _NODE_RATIO))
    return (above, above) if above == number else (below, above)
