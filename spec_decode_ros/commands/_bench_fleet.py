"""The fleet suite of `spec-decode bench`."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from rich.console import Console

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet_figures import Load

METHODS = ["cloud", "colocated", "auto"]
_RTT_MS = 20.0


def add_fleet_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the suite fleet")
    group.add_argument(
        "--robots", type=int, nargs="+", metavar="N", help="so many at a time; by default 1, 4, 16 and 64"
    )
    group.add_argument("--rate", type=float, metavar="R", help="actions a second of each robot; by default 2")
    group.add_argument("--seconds", type=float, metavar="S", help="that each load is measured; by default 8")
    group.add_argument("--rounds", type=int, metavar="N", help="measurements of each load; by default 1")
    group.add_argument(
        "--refine",
        type=int,
        metavar="N",
        help="further loads in each way, to know its capacity; by default 4",
    )
    group.add_argument(
        "--bound-ms",
        type=float,
        metavar="B",
        help="p95 that the server has to keep; by default the time between two actions",
    )


def measure_fleet(args: argparse.Namespace, frames: int, console: Console) -> dict[str, Any]:
    """Record drafts, run the fleets, show what was found, and return it for JSON.

    Raises:
        SpecDecodeError: what was asked for does not go together.
    """
    from spec_decode_ros.lab.bench.fleet import FleetPlan, fleet_result, run_fleet, ways_of
    from spec_decode_ros.lab.bench.fleet_recording import record_pair
    from spec_decode_ros.lab.bench.fleet_rig import LoadSchedule, fleet_rig
    from spec_decode_ros.lab.bench.fleet_tables import print_fleet, print_load
    from spec_decode_ros.lab.bench.suite import links

    if args.temperature:
        raise SpecDecodeError("recorded drafts are greedy ones: leave --temperature out")
    over = links(args.rtt_ms or [_RTT_MS], args.mbit, args.network)
    if len(over) != 1:
        raise SpecDecodeError("a fleet is measured over one link: give one --rtt-ms or one --network")
    pace = LoadSchedule(
        LoadSchedule.rate if args.rate is None else args.rate,
        LoadSchedule.seconds if args.seconds is None else args.seconds,
    )
    plan = FleetPlan(
        ways_of(args.methods or METHODS),
        tuple(args.robots or FleetPlan.robots),
        pace,
        FleetPlan.rounds if args.rounds is None else args.rounds,
        FleetPlan.refine if args.refine is None else args.refine,
        args.bound_ms,
        args.seed,
    )
    console.print(f"recording what the draft model says about {frames} frames …")
    recording = record_pair(args.pair, frames, args.seed)
    show = partial(_show, console, print_load)
    with fleet_rig(args.pair, recording, over[0].profile) as rig:
        found = fleet_result(plan, run_fleet(rig, plan, show), recording, rig.welcome)
    found["link"] = over[0].name
    print_fleet(console, found)
    return found


def _show(console: Console, print_load: Any, load: Load) -> None:
    print_load(console, load.way, load.as_dict())
