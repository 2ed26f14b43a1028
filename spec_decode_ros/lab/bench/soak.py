"""A fleet against one server for long: does everything go on as it began?"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet_figures import LATE_S, percentile
from spec_decode_ros.lab.bench.fleet_log import Act, read_log
from spec_decode_ros.lab.bench.fleet_rig import FleetRig
from spec_decode_ros.lab.bench.fleet_robots import FleetOrders, Way
from spec_decode_ros.lab.bench.processes import rss_bytes

FLAT = 0.05
"""By so much of its median the server's memory may vary after the warm-up."""

_WARM_UP = 0.1
_DEADLINE_S = 10.0
_MARGIN_S = 30.0
_MEGA = 1e6


@dataclass(frozen=True)
class SoakPlan:
    """What is run.

    Attributes:
        robots: how many; they take the `ways` in turns.
        seconds: how long.
        rate: actions a second of each.
        sample_s: between two looks at the memory.
        seed: of phases and frames.
    """

    ways: tuple[Way, ...]
    robots: int = 64
    seconds: float = 600.0
    rate: float = 0.2
    sample_s: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.robots < 1 or not self.rate > 0:
            raise SpecDecodeError("a soak needs at least 1 robot, and a rate above 0")
        if not self.seconds * (1 - _WARM_UP) > 2 * self.sample_s:
            raise SpecDecodeError(
                f"a soak of {self.seconds:g} s is too short to look at the memory: run it longer"
            )


@dataclass(frozen=True)
class Memory:
    """The resident memory of a process over time.

    Attributes:
        samples: (seconds since the start, bytes), after the warm-up.
    """

    samples: Sequence[tuple[float, int]]

    @property
    def median(self) -> float:
        """Bytes."""
        return statistics.median(size for _, size in self.samples)

    @property
    def spread(self) -> float:
        """Between the largest and the smallest, as a share of the median."""
        sizes = [size for _, size in self.samples]
        return (max(sizes) - min(sizes)) / self.median

    @property
    def slope(self) -> float:
        """Bytes an hour, by least squares."""
        times, sizes = zip(*self.samples, strict=True)
        return statistics.linear_regression(times, sizes).slope * 3600.0

    @property
    def growth(self) -> float:
        """Bytes from the first sample to the last, along the slope."""
        return self.slope * (self.samples[-1][0] - self.samples[0][0]) / 3600.0

    def as_dict(self) -> dict[str, float]:
        """For JSON."""
        return {
            "median_mb": self.median / _MEGA,
            "spread": self.spread,
            "growth_mb": self.growth / _MEGA,
            "slope_mb_per_hour": self.slope / _MEGA,
        }


@dataclass(frozen=True)
class Soaked:
    """What came of it; `server` and `robots` are None where the system does not tell the memory of processes."""

    acts: tuple[Act, ...]
    server: Memory | None
    robots: Memory | None
    server_alive: bool

    @property
    def troubles(self) -> list[str]:
        """What is wrong, in sentences; nothing should be."""
        found = []
        if not self.acts:
            found.append("no action was begun")
        if failed := [act for act in self.acts if act.outcome != "verified"]:
            ends = Counter(act.outcome or "never ended" for act in failed)
            why = next((f": {act.sentence}" for act in failed if act.sentence), "")
            found.append(", ".join(f"{count} actions {end}" for end, count in ends.items()) + why)
        if wrong := sum(act.outcome == "verified" and not act.same for act in self.acts):
            found.append(f"{wrong} verified actions had other tokens than the reference")
        if not self.server_alive:
            found.append("the server has ended")
        if self.server and self.server.spread > FLAT:
            found.append(f"the server's memory varied by {self.server.spread:.1%}, more than {FLAT:.0%}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        times = [act.figure("ttva_ms") for act in self.acts if act.outcome == "verified"]
        ways = sorted({act.way for act in self.acts})
        return {
            "actions": len(self.acts),
            "verified_actions": len(times),
            "same_actions": sum(act.same for act in self.acts),
            "late_actions": sum(act.began is None or act.began - act.due > LATE_S for act in self.acts),
            "ttva_ms": {
                "p50": percentile(times, 0.5),
                "p95": percentile(times, 0.95),
                "p99": percentile(times, 0.99),
                "slowest": max(times),
            }
            if times
            else None,
            "actions_by_way": {way: sum(act.way == way for act in self.acts) for way in ways},
            "server_memory": self.server.as_dict() if self.server else None,
            "robots_memory": self.robots.as_dict() if self.robots else None,
            "troubles": self.troubles,
            "passed": not self.troubles,
        }


def soak(rig: FleetRig, plan: SoakPlan, report: Callable[[float, Sequence[Act], int | None], None]) -> Soaked:
    """Run it; `report` is told ten times of the seconds so far, the actions and the server's memory."""
    log = Path(rig.folder) / "soak.jsonl"
    orders = FleetOrders(
        rig.recording,
        rig.endpoint,
        str(log),
        plan.ways,
        robots=plan.robots,
        rate=plan.rate,
        seconds=plan.seconds,
        grace_s=_DEADLINE_S + 1.0,
        deadline_s=_DEADLINE_S,
        seed=plan.seed,
    )
    sizes: dict[str, list[tuple[float, int]]] = {"server": [], "robots": []}
    with rig.robots(orders) as robots:
        start = time.perf_counter()
        child = {"server": rig.server, "robots": robots}
        robots.write_line(repr(start))
        told = 0
        while (now := time.perf_counter() - start) < plan.seconds and rig.server.running:
            if now >= _WARM_UP * plan.seconds:
                for name, process in child.items():
                    if size := rss_bytes(process.pid):
                        sizes[name].append((now, size))
            if now >= (told + 1) * plan.seconds / 10:
                told += 1
                report(now, read_log(log), rss_bytes(rig.server.pid))
            time.sleep(plan.sample_s)
        robots.wait(orders.grace_s + _MARGIN_S)
    memory = {name: Memory(found) if len(found) > 1 else None for name, found in sizes.items()}
    return Soaked(tuple(read_log(log)), memory["server"], memory["robots"], rig.server.running)
