"""The arithmetic of a fleet: percentiles, how many robots a server carries, and what theory says of that."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spec_decode_ros.lab.bench.fleet_log import Act

LATE_S = 0.01
"""An action that begins so much after its frame was captured is a late one: its robot was still busy."""


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share of the values does not exceed; infinite values count."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


@dataclass(frozen=True)
class Usage:
    """What server and robots did while a load was measured.

    Attributes:
        passes: of the target; None where the server does not tell.
        parts: sessions in them, all told; None as well.
        served: actions that were verified meanwhile, whenever they were due.
        server_cpu_s, edge_cpu_s: processor time of the server, and of robots and link; None where it is not known.
    """

    seconds: float
    passes: float | None = None
    parts: float | None = None
    server_cpu_s: float | None = None
    edge_cpu_s: float | None = None
    served: int = 0

    def __add__(self, other: Usage) -> Usage:
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Usage(*(None if a is None or b is None else a + b for a, b in pairs))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Load:
    """What so many robots met with that decoded in one way: all actions whose frames were captured in the time measured.

    An action without a verified answer took for ever.
    """

    way: str
    robots: int
    acts: tuple[Act, ...]
    usage: Usage

    def __add__(self, other: Load) -> Load:
        """More of the same load."""
        return Load(self.way, self.robots, self.acts + other.acts, self.usage + other.usage)

    @property
    def verified(self) -> list[Act]:
        return [act for act in self.acts if act.outcome == "verified"]

    @property
    def wrong(self) -> int:
        """Verified actions whose tokens are not the reference's."""
        return sum(not act.same for act in self.verified)

    def ttva_ms(self, share: float) -> float:
        """Percentile of the time from the capture of a frame to its verified action."""
        return percentile(
            [act.figure("ttva_ms") if act.outcome == "verified" else math.inf for act in self.acts]
            or [math.inf],
            share,
        )

    def mean(self, figure: str) -> float | None:
        """Of the verified actions."""
        return statistics.fmean(act.figure(figure) for act in self.verified) if self.verified else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON; an infinite time is null."""
        used = self.usage
        outcomes = {
            f"{name}_actions": sum(act.outcome == name for act in self.acts)
            for name in ("refused", "unverified")
        }
        began = [act.began - act.due for act in self.acts if act.began is not None]
        return {
            "robots": self.robots,
            "seconds": used.seconds,
            "actions": len(self.acts),
            "verified_actions": len(self.verified),
            **outcomes,
            "unfinished_actions": sum(act.outcome in (None, "cut off", "not started") for act in self.acts),
            "late_actions": len(self.acts) - len(began) + sum(late > LATE_S for late in began),
            "wrong_actions": self.wrong,
            "actions_per_s": used.served / used.seconds,
            "ttva_ms": {
                name: _finite(self.ttva_ms(share))
                for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
            },
            "cloud_passes": self.mean("cloud_passes"),
            "cloud_busy_ms": self.mean("cloud_busy_ms"),
            "passes_per_s": _ratio(used.passes, used.seconds),
            "batch": _ratio(used.parts, used.passes),
            "server_cores": _ratio(used.server_cpu_s, used.seconds),
            "edge_cores": _ratio(used.edge_cpu_s, used.seconds),
        }


@dataclass(frozen=True)
class Capacity:
    """Robots that a server carries within a bound; `more` where even the largest load kept it."""

    robots: float
    more: bool

    def as_dict(self) -> dict[str, float | bool]:
        return {"robots": round(self.robots, 2), "more": self.more}


def capacity(p95_ms: Mapping[int, float], bound_ms: float) -> Capacity:
    """The most robots whose p95 stays within the bound, between two loads on a line through the logarithm of the times.

    Args:
        p95_ms: by number of robots; infinite where too few actions were verified.
        bound_ms: what is allowed.
    """
    best = 0
    for robots in sorted(p95_ms):
        if p95_ms[robots] > bound_ms:
            return Capacity(_between(best, robots, p95_ms, bound_ms), False)
        best = robots
    return Capacity(best, True)


def _between(best: int, over: int, p95_ms: Mapping[int, float], bound_ms: float) -> float:
    if not best or math.isinf(p95_ms[over]):
        return best
    low, high = math.log(p95_ms[best]), math.log(p95_ms[over])
    return best + (over - best) * (math.log(bound_ms) - low) / (high - low)


def next_load(p95_ms: Mapping[int, float], bound_ms: float, precision: float = 0.08) -> int | None:
    """How many robots to try next to know the capacity better; None where that is known to a share of it.

    Half way between the largest load that kept the bound and the smallest beyond it; twice the largest where all kept it.
    """
    over = [robots for robots in sorted(p95_ms) if p95_ms[robots] > bound_ms]
    if not over:
        return 2 * max(p95_ms)
    best = max((robots for robots in p95_ms if robots < over[0]), default=0)
    middle = (best + over[0]) // 2
    return middle if over[0] - best > max(1, precision * over[0]) and middle > best else None


def predicted_gain(drafted: float, draft_ms: float, verify_ms: float) -> float:
    """How many times as many robots a server carries that leaves the drafting to them (arXiv 2606.25091).

    Args:
        drafted: tokens that a server drafts by itself for one pass.
        draft_ms: what one of them takes there.
        verify_ms: what a pass over all of them takes.
    """
    return 1.0 + drafted * draft_ms / verify_ms


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
