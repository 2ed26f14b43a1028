"""The fleet suite: latency and capacity of one server as the number of robots grows, by method variant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from spec_decode_ros.decoding.controller import Measurements, server_draft_length
from spec_decode_ros.decoding.messages import Welcome
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.capacity import Capacity, Load, capacity, next_load, predicted_gain
from spec_decode_ros.lab.bench.fleet.recording import DraftRecording
from spec_decode_ros.lab.bench.fleet.rig import FleetRig, LoadSchedule
from spec_decode_ros.lab.bench.variants import MethodVariant

STRICT = 1.5
"""The strict bound, as a multiple of the p95 of the fewest robots with the first variant."""

_ENOUGH_ACTIONS = 60


@dataclass(frozen=True)
class FleetPlan:
    """What a fleet suite measures: all variants with all numbers of robots, `rounds` times.

    Then `refine` further loads per variant, to know its capacity better. `bound_ms` is the p95 that a server has to keep;
    None is the period of the robots.
    """

    variants: tuple[MethodVariant, ...]
    robots: tuple[int, ...] = (1, 4, 16, 64)
    pace: LoadSchedule = field(default_factory=LoadSchedule)
    rounds: int = 1
    refine: int = 4
    bound_ms: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.variants or not self.robots or min(self.robots) < 1:
            raise SpecDecodeError("a fleet suite needs ways to decode, and loads of at least 1 robot")
        if self.rounds < 1 or self.refine < 0:
            raise SpecDecodeError("a fleet suite needs at least 1 round, and 0 or more refinements")

    def pace_of(self, robots: int) -> LoadSchedule:
        """Few robots are measured up to three times as long, so that percentiles are of enough actions."""
        enough_s = _ENOUGH_ACTIONS / (robots * self.pace.rate)
        return replace(self.pace, seconds=max(self.pace.seconds, min(enough_s, 3 * self.pace.seconds)))

    @property
    def bound(self) -> float:
        """Milliseconds."""
        return 1000.0 / self.pace.rate if self.bound_ms is None else self.bound_ms


Loads = dict[str, dict[int, Load]]
"""By variant and number of robots."""


def run_fleet(rig: FleetRig, plan: FleetPlan, report: Callable[[Load], None] = lambda load: None) -> Loads:
    """Measure all loads of the plan, then those that narrow down the capacities; `report` gets each load."""
    loads: Loads = {variant.name: {} for variant in plan.variants}

    def measure(variant: MethodVariant, robots: int) -> None:
        found = rig.load(variant, robots, plan.pace_of(robots), plan.seed)
        known = loads[variant.name].get(robots)
        loads[variant.name][robots] = known + found if known else found
        report(loads[variant.name][robots])

    for turn in range(plan.rounds):
        for place, robots in enumerate(sorted(set(plan.robots))):
            for variant in plan.variants if (turn + place) % 2 == 0 else reversed(plan.variants):
                measure(variant, robots)
    for _ in range(plan.refine):
        for variant in plan.variants:
            more = next_load(_p95(loads[variant.name]), plan.bound)
            if more is not None and more <= 2 * max(plan.robots):
                measure(variant, more)
    return loads


def fleet_result(
    plan: FleetPlan, loads: Loads, recording: DraftRecording, welcome: Welcome
) -> dict[str, Any]:
    """The `fleet` part of the suite's JSON document."""
    first = loads[plan.variants[0].name]
    alone_ms = first[min(first)].ttva_ms(0.95)
    bounds = {"period" if plan.bound_ms is None else "given": plan.bound}
    if math.isfinite(alone_ms):
        bounds["strict"] = STRICT * alone_ms
    capacities = {
        name: {bound: capacity(_p95(points), ms) for bound, ms in bounds.items()}
        for name, points in loads.items()
    }
    gain = _gains(loads, capacities)
    if "colocated" in loads and welcome.server_draft_ms and welcome.step_ms:
        gain["predicted"] = _predicted(welcome, recording.acceptance)
    return {
        "pace": asdict(plan.pace),
        "rounds": plan.rounds,
        "draft": {
            "prefill_ms": recording.prefill_ms,
            "token_ms": recording.token_ms,
            "acceptance": recording.acceptance,
            "frames": len(recording.frames),
        },
        "bounds_ms": bounds,
        "ways": {
            name: {
                "loads": [points[robots].as_dict() for robots in sorted(points)],
                "capacity": {
                    bound: {"robots": round(held.robots, 2), "more": held.more}
                    for bound, held in capacities[name].items()
                },
            }
            for name, points in loads.items()
        },
        "gain": gain,
        "same_tokens": all(not load.wrong for points in loads.values() for load in points.values()),
    }


def _p95(points: dict[int, Load]) -> dict[int, float]:
    return {robots: load.ttva_ms(0.95) for robots, load in points.items()}


def _gains(loads: Loads, capacities: dict[str, dict[str, Capacity]]) -> dict[str, Any]:
    """Ratios of capacities, and of target compute per action, to those of `cloud` and of `colocated`."""
    found: dict[str, Any] = {}
    for base in ("cloud", "colocated"):
        if base not in loads:
            continue
        others = [name for name in loads if name != base]
        found[f"over_{base}"] = {
            bound: {name: _capacity_ratio(capacities[name][bound], held) for name in others}
            for bound, held in capacities[base].items()
        }
        found[f"compute_of_{base}_over"] = {name: _compute_ratio(loads[base], loads[name]) for name in others}
    return found


def _predicted(welcome: Welcome, acceptance: float) -> dict[str, float]:
    """The prediction of arXiv 2606.25091: the server drafts some tokens, then runs one pass over them; no prompts."""
    here = Measurements(
        0.0,
        welcome.server_draft_ms,
        welcome.step_ms,
        acceptance,
        welcome.per_token_ms,
        welcome.server_draft_ms,
    )
    drafted = server_draft_length(here)
    verify_ms = welcome.step_ms + drafted * welcome.per_token_ms
    return {
        "drafted": drafted,
        "draft_ms": welcome.server_draft_ms,
        "verify_ms": verify_ms,
        "gain": predicted_gain(drafted, welcome.server_draft_ms, verify_ms),
    }


def _compute_ratio(base: dict[int, Load], points: dict[int, Load]) -> float | None:
    """Ratio of the target compute per action, each with the fewest robots."""
    least = [load.mean("cloud_busy_ms") for load in (base[min(base)], points[min(points)])]
    return None if None in least or not least[1] else (least[0] or 0.0) / least[1]


def _capacity_ratio(held: Capacity, base: Capacity) -> float | None:
    """A lower bound where `held` may be more; None where `base` may."""
    return round(held.robots / base.robots, 3) if base.robots and not base.more else None
