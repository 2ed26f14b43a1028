"""The soak test: a fleet against one server for a long time. No action may fail, and memory must not grow."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.capacity import percentile
from spec_decode_ros.lab.bench.fleet.log import LoggedAction, read_log
from spec_decode_ros.lab.bench.fleet.rig import FleetRig
from spec_decode_ros.lab.bench.fleet.robots import FleetOrders
from spec_decode_ros.lab.bench.machine import rss_bytes
from spec_decode_ros.lab.bench.variants import MethodVariant

FLAT = 0.05
"""Most that the server's memory may vary after the warm-up, as a share of its median."""

_WARM_UP = 0.1
_DEADLINE_S = 10.0
_MARGIN_S = 30.0


@dataclass(frozen=True)
class SoakPlan:
    """What is run: `rate` actions per second and robot, the variants in turns, a sample of the memory every `sample_s`."""

    variants: tuple[MethodVariant, ...]
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


def memory_use(samples: Sequence[tuple[float, int]]) -> dict[str, float] | None:
    """Median of a process's resident memory, its spread as a share of that, and its growth by least squares.

    Samples are (seconds, bytes). None with fewer than two, as where the system does not tell the memory of processes.
    """
    if len(samples) < 2:
        return None
    times, sizes = zip(*samples, strict=True)
    median, slope = statistics.median(sizes), statistics.linear_regression(times, sizes).slope
    return {
        "median_mb": median / 1e6,
        "spread": (max(sizes) - min(sizes)) / median,
        "growth_mb": slope * (times[-1] - times[0]) / 1e6,
        "slope_mb_per_hour": slope * 3600.0 / 1e6,
    }


@dataclass(frozen=True)
class SoakResult:
    """The result of a soak; `server` and `robots` are their memory use after the warm-up."""

    acts: tuple[LoggedAction, ...]
    server: dict[str, float] | None
    robots: dict[str, float] | None
    server_alive: bool

    @property
    def troubles(self) -> list[str]:
        """What went wrong, in sentences."""
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
        if self.server and self.server["spread"] > FLAT:
            found.append(f"the server's memory varied by {self.server['spread']:.1%}, more than {FLAT:.0%}")
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        times = [act.figure("ttva_ms") for act in self.acts if act.outcome == "verified"]
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "slowest": 1.0}
        return {
            "actions": len(self.acts),
            "verified_actions": len(times),
            "same_actions": sum(act.same for act in self.acts),
            "late_actions": sum(act.late for act in self.acts),
            "ttva_ms": {name: percentile(times, share) for name, share in shares.items()} if times else None,
            "actions_by_way": dict(sorted(Counter(act.way for act in self.acts).items())),
            "server_memory": self.server,
            "robots_memory": self.robots,
            "troubles": self.troubles,
            "passed": not self.troubles,
        }


def soak(
    rig: FleetRig, plan: SoakPlan, report: Callable[[float, Sequence[LoggedAction], int | None], None]
) -> SoakResult:
    """Run it; ten times, `report` gets the seconds so far, the actions and the server's memory."""
    log = rig.folder / "soak.jsonl"
    orders = FleetOrders(
        str(rig.recording),
        rig.endpoint,
        str(log),
        plan.variants,
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
        robots.write_line(repr(start))
        reported = 0
        while (now := time.perf_counter() - start) < plan.seconds and rig.server.running:
            if now >= _WARM_UP * plan.seconds:
                for name, process in (("server", rig.server), ("robots", robots)):
                    if size := rss_bytes(process.pid):
                        sizes[name].append((now, size))
            if now >= (reported + 1) * plan.seconds / 10:
                reported += 1
                report(now, read_log(log), rss_bytes(rig.server.pid))
            time.sleep(plan.sample_s)
        robots.wait(orders.grace_s + _MARGIN_S)
    memory = {name: memory_use(found) for name, found in sizes.items()}
    return SoakResult(tuple(read_log(log)), memory["server"], memory["robots"], rig.server.running)
