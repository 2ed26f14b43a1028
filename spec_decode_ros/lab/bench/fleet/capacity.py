"""Load measurements of a server, their percentiles, and the capacity that follows: robots it carries within a bound."""

from __future__ import annotations

import math
import operator
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spec_decode_ros.lab.bench.fleet.log import LoggedAction


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share of the values does not exceed; infinite values count."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True)
class Usage:
    """Resources used while a load was measured; None where they are not known.

    `parts` counts the sessions in all `passes` of the target, `served` the actions verified meanwhile, whenever they were
    due. `edge_cpu_s` is the processor time of robots and link.
    """

    seconds: float
    passes: float | None = None
    parts: float | None = None
    server_cpu_s: float | None = None
    edge_cpu_s: float | None = None
    served: int = 0

    def __add__(self, other: Usage) -> Usage:
        return self._combined(other, operator.add)

    def __sub__(self, other: Usage) -> Usage:
        return self._combined(other, operator.sub)

    def _combined(self, other: Usage, how: Callable[[Any, Any], Any]) -> Usage:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        values: list[Any] = [None if a is None or b is None else how(a, b) for a, b in pairs]
        return Usage(*values)


@dataclass(frozen=True)
class Load:
    """One measurement of a number of robots with one method variant.

    `acts` are all actions whose frames were captured in the time measured. One without a verified answer counts as
    infinitely slow.
    """

    way: str
    robots: int
    acts: tuple[LoggedAction, ...]
    usage: Usage

    def __add__(self, other: Load) -> Load:
        """Two measurements of the same load as one."""
        return Load(self.way, self.robots, self.acts + other.acts, self.usage + other.usage)

    @property
    def verified(self) -> list[LoggedAction]:
        return [act for act in self.acts if act.outcome == "verified"]

    @property
    def wrong(self) -> int:
        """Number of verified actions whose tokens are not those of the reference."""
        return sum(not act.same for act in self.verified)

    def ttva_ms(self, share: float) -> float:
        """Percentile of the time from the capture of a frame to its verified action."""
        times = [act.figure("ttva_ms") if act.outcome == "verified" else math.inf for act in self.acts]
        return percentile(times or [math.inf], share)

    def mean(self, figure: str) -> float | None:
        """Mean over the verified actions."""
        return statistics.fmean(act.figure(figure) for act in self.verified) if self.verified else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; an infinite time is null."""
        used = self.usage
        outcomes = [act.outcome for act in self.acts]
        percentiles = {
            name: self.ttva_ms(share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        }
        return {
            "robots": self.robots,
            "seconds": used.seconds,
            "actions": len(self.acts),
            "verified_actions": len(self.verified),
            "refused_actions": outcomes.count("refused"),
            "unverified_actions": outcomes.count("unverified"),
            "unfinished_actions": sum(outcome in (None, "cut off", "not started") for outcome in outcomes),
            "late_actions": sum(act.late for act in self.acts),
            "wrong_actions": self.wrong,
            "actions_per_s": used.served / used.seconds,
            "ttva_ms": {name: ms if math.isfinite(ms) else None for name, ms in percentiles.items()},
            "cloud_passes": self.mean("cloud_passes"),
            "cloud_busy_ms": self.mean("cloud_busy_ms"),
            "passes_per_s": _ratio(used.passes, used.seconds),
            "batch": _ratio(used.parts, used.passes),
            "server_cores": _ratio(used.server_cpu_s, used.seconds),
            "edge_cores": _ratio(used.edge_cpu_s, used.seconds),
        }


@dataclass(frozen=True)
class Capacity:
    """Robots that a server carries within a bound; `more` where even the largest load was within it."""

    robots: float
    more: bool


def capacity(p95_ms: Mapping[int, float], bound_ms: float) -> Capacity:
    """The most robots whose p95 is within the bound, interpolated between two loads by the logarithm of the times.

    `p95_ms` is by number of robots, infinite where too few actions were verified.
    """
    best = 0
    for robots in sorted(p95_ms):
        if p95_ms[robots] > bound_ms:
            if not best or math.isinf(p95_ms[robots]):
                return Capacity(best, False)
            low, high = math.log(p95_ms[best]), math.log(p95_ms[robots])
            return Capacity(best + (robots - best) * (math.log(bound_ms) - low) / (high - low), False)
        best = robots
    return Capacity(best, True)


def next_load(p95_ms: Mapping[int, float], bound_ms: float, precision: float = 0.08) -> int | None:
    """Number of robots to measure next to know the capacity better; None where it is known to that precision.

    Half way between the largest load within the bound and the smallest beyond it; twice the largest where all were
    within it.
    """
    over = [robots for robots in sorted(p95_ms) if p95_ms[robots] > bound_ms]
    if not over:
        return 2 * max(p95_ms)
    best = max((robots for robots in p95_ms if robots < over[0]), default=0)
    middle = (best + over[0]) // 2
    return middle if over[0] - best > max(1, precision * over[0]) and middle > best else None


def predicted_gain(drafted: float, draft_ms: float, verify_ms: float) -> float:
    """Predicted ratio of the capacity with drafts made by the robots to that with drafts of the server (arXiv 2606.25091).

    The server drafts `drafted` tokens in `draft_ms` each, and verifies all in one pass of `verify_ms`.
    """
    return 1.0 + drafted * draft_ms / verify_ms


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
