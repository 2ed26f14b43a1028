"""The part of `simulate` that plans a fleet: robots, regions and GPUs."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_json
from spec_decode_ros.lab.bench.grid import Cell
from spec_decode_ros.lab.bench.profiles import Profile, load_profile
from spec_decode_ros.lab.planning.library import VARIANTS, Variant
from spec_decode_ros.lab.planning.loads import Sticky
from spec_decode_ros.lab.planning.plan import TOTAL, Gain, Need, plan_fleet
from spec_decode_ros.lab.planning.regions import Fleet, fleet_names, load_fleet
from spec_decode_ros.lab.planning.server import PlannedServer
from spec_decode_ros.lab.planning.site import LatencyGoal, SimulationSettings

_PROFILE, _REGIONS, _RATE = "fleet-h100", "example", 2.0
_ROBOTS = (10, 100, 1000, 10_000, 100_000)
_OURS = ("robots", "regions", "rate", "goal_p95_ms", "acceptance", "sticky", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    fleet = parser.add_argument_group("planning a fleet")
    fleet.add_argument(
        "--fleet",
        action="store_true",
        help=f"how many GPUs a fleet needs; --profile is {_PROFILE} by default",
    )
    fleet.add_argument("--robots", type=int, nargs="+", metavar="N", help="by default 10 to 100000 by tens")
    fleet.add_argument(
        "--regions",
        metavar="F",
        help=f"shares, round-trip times and prices: {', '.join(fleet_names())}, or a .yaml file",
    )
    fleet.add_argument("--rate", type=float, metavar="R", help=f"actions per second of a robot ({_RATE:g})")
    fleet.add_argument(
        "--goal-p95-ms", type=float, metavar="MS", help="for ttva_ms; by default the time between two actions"
    )
    fleet.add_argument(
        "--acceptance",
        type=float,
        metavar="A",
        help="share of drafted tokens; by default the middle one of the profile",
    )
    fleet.add_argument(
        "--sticky",
        choices=[way.value for way in Sticky],
        help="robots stay with the emptiest server, as the balancer chooses (even), or with any (random)",
    )
    fleet.add_argument("--seed", type=int, metavar="N", help="of all that is drawn (0)")


def refuse_arguments(args: argparse.Namespace) -> None:
    """Say so where the arguments of a fleet are given without one."""
    given = [name for name in _OURS if getattr(args, name) is not None]
    if given:
        raise SpecDecodeError(f"--{given[0].replace('_', '-')} is about a fleet: add --fleet")


def run(args: argparse.Namespace) -> int:
    if args.grid:
        raise SpecDecodeError("--grid and --fleet are two simulations: choose one")
    profile = load_profile(args.profile or _PROFILE)
    fleet = load_fleet(args.regions or _REGIONS)
    rate = _RATE if args.rate is None else args.rate
    goal = LatencyGoal(rate, _default_goal_ms(rate) if args.goal_p95_ms is None else args.goal_p95_ms)
    cell = _cell(profile, args.acceptance, args.actions)
    setting = SimulationSettings(Sticky(args.sticky or Sticky.EVEN), seed=args.seed or 0)
    robots = sorted(set(args.robots or _ROBOTS))
    needs, gains = plan_fleet(fleet, cell, profile.world, robots, goal, setting, _track)
    if args.plot:
        from spec_decode_ros.lab.planning.plot import draw_plan

        draw_plan(needs, fleet, goal, Path(args.plot))
    if args.json != "-":
        _print(profile, fleet, cell, goal, needs, gains)
    if args.json:
        write_json(args.json, _document(profile, fleet, cell, goal, setting, needs, gains))
    return 0


def _default_goal_ms(rate: float) -> float:
    return 1000.0 / rate if rate > 0 else 0.0  # which is refused as a rate


def _cell(profile: Profile, acceptance: float | None, actions: int) -> Cell:
    """The pair; each region has its own round-trip time."""
    if acceptance is None:
        acceptance = statistics.median_low(cell.acceptance for cell in profile.cells(actions))
    if not 0 <= acceptance <= 1:
        raise SpecDecodeError(f"--acceptance is from 0 to 1, not {acceptance:g}")
    return Cell(0.0, acceptance, profile.draft_ms / profile.world.step_ms)


def _track(variants: Iterable[Variant]) -> Iterable[Variant]:
    from rich.progress import track

    console = Console(stderr=True)
    return track(list(variants), "methods", console=console, transient=True, disable=not sys.stderr.isatty())


def _print(
    profile: Profile,
    fleet: Fleet,
    cell: Cell,
    goal: LatencyGoal,
    needs: Sequence[Need],
    gains: Sequence[Gain],
) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]{profile.name}[/]: {profile.source}", markup=True)
    console.print(
        f"regions {fleet.name}; {goal.rate:g} actions a second and robot, acceptance {cell.acceptance:g}; "
        f"goal: 95 of 100 actions verified within {goal.p95_ms:g} ms"
    )
    most = PlannedServer.of(cell, profile.world).prompts_per_s / goal.rate
    console.print(f"reading prompts and doing nothing else, a GPU would serve {most:.1f} robots")
    largest = max(need.fleet for need in needs)
    console.print(_table("all regions", fleet, [need for need in needs if need.region == TOTAL]))
    regional = [need for need in needs if need.fleet == largest and need.region != TOTAL]
    console.print(_table(f"{largest:,} robots", fleet, regional))
    console.print("–: no number of GPUs keeps the goal; the times are those of robots with a GPU each")
    console.print(_gain_table(gains))


def _table(title: str, fleet: Fleet, needs: Sequence[Need]) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    if any(need.region != TOTAL for need in needs):
        table.add_column("region", no_wrap=True)
    price = f"{fleet.currency} per robot hour".strip()
    for name in ("robots", "GPUs", "robots a GPU", "p50, ms", "p95, ms", "busy", price):
        table.add_column(name, justify="right")
    last = None
    for need in needs:
        table.add_row(
            "" if need.variant == last else need.variant.name,
            *([] if need.region == TOTAL else [need.region]),
            f"{need.robots:,}",
            "–" if need.gpus is None else f"{need.gpus:,}",
            "–" if need.gpus is None else f"{need.robots / need.gpus:.1f}",
            f"{need.p50_ms:.0f}",
            f"{need.p95_ms:.0f}",
            f"{need.utilisation:.0%}",
            "–" if need.cost is None else f"{need.cost:.3f}",
        )
        last = need.variant
    return table


def _gain_table(gains: Sequence[Gain]) -> Table:
    title = "\nrobots per GPU, over those of colocated"
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("region")
    table.add_column("predicted*", justify="right")
    for variant in VARIANTS:
        table.add_column(variant.name, justify="right")
    for gain in gains:
        simulated = (gain.simulated[variant.name] for variant in VARIANTS)
        table.add_row(
            gain.region,
            f"{gain.predicted:.2f}",
            *("–" if value is None else f"{value:.2f}" for value in simulated),
        )
    table.caption = (
        "* 1 + gamma t_draft / t_verify (arXiv 2606.25091), for a server that serves one robot at a time"
    )
    table.caption_justify = "left"
    return table


def _document(
    profile: Profile,
    fleet: Fleet,
    cell: Cell,
    goal: LatencyGoal,
    setting: SimulationSettings,
    needs: Sequence[Need],
    gains: Sequence[Gain],
) -> dict[str, Any]:
    return {
        "profile": profile.name,
        "source": profile.source,
        "world": asdict(profile.world),
        "draft_ms": profile.draft_ms,
        "acceptance": cell.acceptance,
        "goal": asdict(goal),
        "setting": {**asdict(setting), "sticky": setting.sticky.value},
        "currency": fleet.currency,
        "regions": [asdict(region) for region in fleet.regions],
        "needs": [{**asdict(need), "variant": need.variant.name} for need in needs],
        "gains": [asdict(gain) for gain in gains],
    }
