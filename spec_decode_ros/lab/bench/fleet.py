"""More and more robots against one server, in every way to decode: how soon actions are verified, how many it carries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from spec_decode_ros.decoding.controller import OBJECTIVES, Measurements, server_draft_length
from spec_decode_ros.decoding.messages import Welcome
from spec_decode_ros.decoding.methods import method_named
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet_figures import Capacity, Load, capacity, next_load, predicted_gain
from spec_decode_ros.lab.bench.fleet_recording import DraftRecording
from spec_decode_ros.lab.bench.fleet_rig import FleetRig, LoadSchedule
from spec_decode_ros.lab.bench.fleet_robots import Way

STRICT = 1.5
"""The second bound: so many times the p95 of one robot alone with the first way."""


ENOUGH_ACTIONS = 60


@dataclass(frozen=True)
class FleetPlan:
    """What a fleet suite measures.

    Attributes:
        ways: in which robots decode; the first one's p95 with the fewest robots sets the second bound.
        robots: so many at a time.
        pace: of the robots, and how long each load is measured.
        rounds: every load is measured so often, the ways in the other order each time.
        refine: so many more loads per way, to know its capacity better.
        bound_ms: p95 that a server has to keep; None is the period of the robots.
        seed: of phases and frames.
    """

    ways: tuple[Way, ...]
    robots: tuple[int, ...] = (1, 4, 16, 64)
    pace: LoadSchedule = field(default_factory=LoadSchedule)
    rounds: int = 1
    refine: int = 4
    bound_ms: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.ways or not self.robots or min(self.robots) < 1:
            raise SpecDecodeError("a fleet suite needs ways to decode, and loads of at least 1 robot")
        if self.rounds < 1 or self.refine < 0:
            raise SpecDecodeError("a fleet suite needs at least 1 round, and 0 or more refinements")

    def pace_of(self, robots: int) -> LoadSchedule:
        """Few robots are looked at for longer, up to three times, so that a percentile is one of some actions."""
        enough_s = ENOUGH_ACTIONS / (robots * self.pace.rate)
        return replace(self.pace, seconds=max(self.pace.seconds, min(enough_s, 3 * self.pace.seconds)))

    @property
    def bound(self) -> float:
        """Milliseconds."""
        return 1000.0 / self.pace.rate if self.bound_ms is None else self.bound_ms


def ways_of(methods: Sequence[str]) -> tuple[Way, ...]:
    """The methods; those that adapt under each objective."""
    return tuple(
        way
        for name in methods
        for way in (
            [Way(name, objective) for objective in OBJECTIVES] if method_named(name).adapts else [Way(name)]
        )
    )


Loads = dict[str, dict[int, Load]]
"""By way and number of robots."""


def run_fleet(rig: FleetRig, plan: FleetPlan, report: Callable[[Load], None] = lambda load: None) -> Loads:
    """Measure every load in every way, in turns, and then those that tell the capacities; `report` is told of each."""
    loads: Loads = {way.name: {} for way in plan.ways}

    def measure(way: Way, robots: int) -> None:
        found = rig.load(way, robots, plan.pace_of(robots), plan.seed)
        known = loads[way.name].get(robots)
        loads[way.name][robots] = known + found if known else found
        report(loads[way.name][robots])

    for turn in range(plan.rounds):
        for place, robots in enumerate(sorted(set(plan.robots))):
            for way in plan.ways if (turn + place) % 2 == 0 else reversed(plan.ways):
                measure(way, robots)
    for _ in range(plan.refine):
        for way in plan.ways:
            more = next_load(_p95(loads[way.name]), plan.bound)
            if more is not None and more <= 2 * max(plan.robots):
                measure(way, more)
    return loads


def fleet_result(
    plan: FleetPlan, loads: Loads, recording: DraftRecording, welcome: Welcome
) -> dict[str, Any]:
    """What was found, for JSON."""
    first = loads[plan.ways[0].name]
    alone_ms = first[min(first)].ttva_ms(0.95)
    bounds = {"period" if plan.bound_ms is None else "given": plan.bound}
    if math.isfinite(alone_ms):
        bounds["strict"] = STRICT * alone_ms
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
                    bound: capacity(_p95(points), bound_ms).as_dict() for bound, bound_ms in bounds.items()
                },
            }
            for name, points in loads.items()
        },
        "gain": _gains(loads, bounds, welcome, recording.acceptance),
        "same_tokens": all(not load.wrong for points in loads.values() for load in points.values()),
    }


def _p95(points: dict[int, Load]) -> dict[int, float]:
    return {robots: load.ttva_ms(0.95) for robots, load in points.items()}


def _gains(loads: Loads, bounds: dict[str, float], welcome: Welcome, acceptance: float) -> dict[str, Any]:
    """Capacity in each way beside `cloud` and `colocated`, and what theory says of leaving `colocated`."""
    found: dict[str, Any] = {}
    for base in ("cloud", "colocated"):
        if base not in loads:
            continue
        found[f"over_{base}"] = {
            bound: {
                name: _over(capacity(_p95(points), bound_ms), capacity(_p95(loads[base]), bound_ms))
                for name, points in loads.items()
                if name != base
            }
            for bound, bound_ms in bounds.items()
        }
        found[f"compute_of_{base}_over"] = {
            name: _compute_ratio(loads[base], points) for name, points in loads.items() if name != base
        }
    if "colocated" in loads and welcome.server_draft_ms and welcome.step_ms:
        found["predicted"] = _predicted(welcome, acceptance)
    return found


def _predicted(welcome: Welcome, acceptance: float) -> dict[str, float]:
    """Rounds as the paper has them: so many tokens drafted by the server, then one pass over them; no prompts."""
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
    """Target compute of an action, beside that in another way, with the fewest robots."""
    least = [load.mean("cloud_busy_ms") for load in (base[min(base)], points[min(points)])]
    return None if None in least or not least[1] else (least[0] or 0.0) / least[1]


def _over(way: Capacity, base: Capacity) -> float | None:
    """How many times as many robots; at least so many where `way` may carry more, None where `base` may."""
    return round(way.robots / base.robots, 3) if base.robots and not base.more else None
