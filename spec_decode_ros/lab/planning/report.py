"""Runs `spec-decode simulate --fleet`: plans a fleet from options, and makes its tables, plot and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from spec_decode_ros.lab.bench.grid import Cell
from spec_decode_ros.lab.bench.profile.profile import Profile, load_profile
from spec_decode_ros.lab.planning.library import VARIANTS
from spec_decode_ros.lab.planning.plan import TOTAL, Gain, Need, plan_fleet
from spec_decode_ros.lab.planning.queue import PlannedServer
from spec_decode_ros.lab.planning.regions import Fleet, load_fleet
from spec_decode_ros.lab.planning.site import LatencyGoal, SimulationSettings, Sticky
from spec_decode_ros.lab.progress import tracked
from spec_decode_ros.lab.text_table import TextTable


@dataclass(frozen=True)
class FleetOptions:
    """What is planned: profile and regions by name or as a .yaml file, and numbers of robots.

    By default the goal is the time between two actions, and the acceptance the middle one of the profile, which `actions`
    actions find out where the profile does not tell it.
    """

    profile: str = "fleet-h100"
    regions: str = "example"
    robots: Sequence[int] = (10, 100, 1000, 10_000, 100_000)
    rate: float = 2.0
    goal_p95_ms: float | None = None
    acceptance: float | None = None
    actions: int = 40
    sticky: Sticky = Sticky.EVEN
    seed: int = 0


@dataclass(frozen=True)
class PlanningResult:
    """What the fleet needs, and the inputs from which that follows."""

    profile: Profile
    fleet: Fleet
    cell: Cell
    goal: LatencyGoal
    setting: SimulationSettings
    needs: Sequence[Need]
    gains: Sequence[Gain]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "profile": self.profile.name,
            "source": self.profile.source,
            "world": asdict(self.profile.world),
            "draft_ms": self.profile.draft_ms,
            "acceptance": self.cell.acceptance,
            "goal": asdict(self.goal),
            "setting": {**asdict(self.setting), "sticky": self.setting.sticky.value},
            "currency": self.fleet.currency,
            "regions": [asdict(region) for region in self.fleet.regions],
            "needs": [{**asdict(need), "variant": need.variant.label} for need in self.needs],
            "gains": [asdict(gain) for gain in self.gains],
        }

    def draw(self, out: Path) -> None:
        """Write the picture."""
        from spec_decode_ros.lab.planning.plot import draw_plan

        draw_plan(self.needs, self.fleet, self.goal, out)


def plan(options: FleetOptions) -> PlanningResult:
    """Simulate the fleet. Raises SpecDecodeError."""
    profile, fleet = load_profile(options.profile), load_fleet(options.regions)
    rate, goal_ms = options.rate, options.goal_p95_ms
    if goal_ms is None:
        goal_ms = 1000.0 / rate if rate > 0 else 0.0  # which is refused as a rate
    goal = LatencyGoal(rate, goal_ms)
    cell = _cell(profile, options.acceptance, options.actions)
    setting = SimulationSettings(options.sticky, seed=options.seed)
    robots = sorted(set(options.robots))

    needs, gains = plan_fleet(
        fleet, cell, profile.world, robots, goal, setting, lambda variants: tracked(list(variants), "methods")
    )
    return PlanningResult(profile, fleet, cell, goal, setting, needs, gains)


def _cell(profile: Profile, acceptance: float | None, actions: int) -> Cell:
    """The pair; each region has its own round-trip time."""
    if acceptance is None:
        acceptance = statistics.median_low(cell.acceptance for cell in profile.cells(actions))
    return Cell(0.0, acceptance, profile.draft_ms / profile.world.step_ms)


def print_plan(console: Console, found: PlanningResult) -> None:
    """Print what all regions need, what each needs for the largest fleet, and the gains over `colocated`."""
    fleet, goal, needs = found.fleet, found.goal, found.needs
    console.print(Text(found.profile.name, "bold") + Text(f": {found.profile.source}"))
    console.print(
        f"regions {fleet.name}; {goal.rate:g} actions a second and robot, acceptance {found.cell.acceptance:g}; "
        f"goal: 95 of 100 actions verified within {goal.p95_ms:g} ms"
    )
    most = PlannedServer.of(found.cell, found.profile.world).prompts_per_s / goal.rate
    console.print(f"reading prompts and doing nothing else, a GPU would serve {most:.1f} robots")
    largest = max(need.fleet for need in needs)
    _table("all regions", fleet, [need for need in needs if need.region == TOTAL]).print(console)
    regional = [need for need in needs if need.fleet == largest and need.region != TOTAL]
    _table(f"{largest:,} robots", fleet, regional).print(console)
    console.print("–: no number of GPUs keeps the goal; the times are those of robots with a GPU each")
    _gain_table(found.gains).print(console)
    console.print(
        "* 1 + gamma t_draft / t_verify (arXiv 2606.25091), for a server that serves one robot at a time",
        style="dim",
    )


def _table(title: str, fleet: Fleet, needs: Sequence[Need]) -> TextTable:
    regional = any(need.region != TOTAL for need in needs)
    rows = []
    last = None
    for need in needs:
        cells = (
            "" if need.variant == last else need.variant.label,
            *([need.region] if regional else []),
            f"{need.robots:,}",
            "–" if need.gpus is None else f"{need.gpus:,}",
            "–" if need.gpus is None else f"{need.robots / need.gpus:.1f}",
            f"{need.p50_ms:.0f}",
            f"{need.p95_ms:.0f}",
            f"{need.utilisation:.0%}",
            "–" if need.cost is None else f"{need.cost:.3f}",
        )
        rows.append(cells)
        last = need.variant
    names = ["method", "region"] if regional else ["method"]
    price = f"{fleet.currency} per robot hour".strip()
    columns = [*names, "robots", "GPUs", "robots a GPU", "p50, ms", "p95, ms", "busy", price]
    return TextTable(columns, rows, f"\n{title}", left=len(names))


def _gain_table(gains: Sequence[Gain]) -> TextTable:
    rows = []
    for gain in gains:
        simulated = (gain.simulated[variant.label] for variant in VARIANTS)
        ratios = ("–" if value is None else f"{value:.2f}" for value in simulated)
        rows.append([gain.region, f"{gain.predicted:.2f}", *ratios])
    columns = ["region", "predicted*", *(variant.label for variant in VARIANTS)]
    return TextTable(columns, rows, "\nrobots per GPU, over those of colocated")
