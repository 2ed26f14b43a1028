"""Compare the methods in virtual time, or plan how many GPUs a fleet needs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from spec_decode_ros.commands._options import add_json, add_number, add_value, finish
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.profile.profile import profile_names
from spec_decode_ros.lab.planning.regions import fleet_names
from spec_decode_ros.lab.planning.site import Sticky

_OF_A_FLEET = ("robots", "regions", "rate", "goal_p95_ms", "acceptance", "sticky", "seed")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--profile",
        metavar="P",
        help=f"measured or published times: {', '.join(profile_names())}, or a .yaml file",
    )
    what.add_argument(
        "--grid",
        action="store_true",
        help="all combinations of round-trip times, acceptance rates and draft speeds",
    )
    add_value(parser, "--actions", 40, "actions per method and cell", "N", low=2)
    parser.add_argument("--plot", metavar="F", help="write the picture of a grid or a fleet here")
    add_json(parser)
    _add_fleet(parser.add_argument_group("planning a fleet"))


def _add_fleet(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fleet",
        action="store_true",
        help="plan how many GPUs a fleet needs; --profile is fleet-h100 by default",
    )
    add_number(group, "--robots", int, "sizes of the fleet (10 100 1000 10000 100000)", "N", nargs="+")
    group.add_argument(
        "--regions",
        metavar="F",
        help=f"shares, round-trip times and prices: {', '.join(fleet_names())}, or a .yaml file",
    )
    add_number(group, "--rate", float, "actions per second of a robot (2)", "R")
    add_number(
        group,
        "--goal-p95-ms",
        float,
        "bound on the p95 of ttva_ms; by default the time between two actions",
        "MS",
    )
    add_number(
        group,
        "--acceptance",
        float,
        "acceptance rate; by default the middle one of the profile",
        "A",
        low=0,
        high=1,
    )
    group.add_argument(
        "--sticky",
        choices=[way.value for way in Sticky],
        help="how robots are spread over servers: evenly, as the balancer does it, or at random",
    )
    add_number(group, "--seed", int, "random seed (0)", "N")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when there is a result."""
    from spec_decode_ros.console import PlainConsole
    from spec_decode_ros.lab.bench.grid_report import print_run, simulate_grid, simulate_profile

    if args.fleet:
        return _run_fleet(args)
    if given := [name for name in _OF_A_FLEET if getattr(args, name) is not None]:
        raise SpecDecodeError(f"--{given[0].replace('_', '-')} is about a fleet: add --fleet")
    if not (args.grid or args.profile):
        raise SpecDecodeError("say what to simulate: --profile P, --grid or --fleet")
    if args.plot and not args.grid:
        raise SpecDecodeError("--plot draws a grid or a fleet: add --grid or --fleet")
    found = simulate_grid(args.actions) if args.grid else simulate_profile(args.profile, args.actions)
    if args.json != "-":
        print_run(PlainConsole(), found)
    return finish(args, found.as_dict(), draw=_drawing(args.plot, found.draw))


def _run_fleet(args: argparse.Namespace) -> int:
    from spec_decode_ros.console import PlainConsole
    from spec_decode_ros.lab.planning.report import FleetOptions, plan, print_plan

    if args.grid:
        raise SpecDecodeError("--grid and --fleet are two simulations: choose one")
    given = {name: getattr(args, name) for name in (*_OF_A_FLEET, "profile")}
    given["sticky"] = args.sticky and Sticky(args.sticky)
    options = {name: value for name, value in given.items() if value is not None}
    found = plan(FleetOptions(**options, actions=args.actions))
    if args.json != "-":
        print_plan(PlainConsole(), found)
    return finish(args, found.as_dict(), draw=_drawing(args.plot, found.draw))


def _drawing(plot: str | None, draw: Callable[[Path], None]) -> Callable[[], None] | None:
    return partial(draw, Path(plot)) if plot else None
