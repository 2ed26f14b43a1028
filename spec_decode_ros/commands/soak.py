"""Let many robots use one server for a long time: no error, no growing memory, every action the target's own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    from rich.console import Console

    from spec_decode_ros.lab.bench.fleet_log import Act

_MOST_SAMPLES = 600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Starts a verifier, an emulated link and simulated robots with recorded drafts of the real draft model, lets them "
        "act, and compares the tokens of every action with what the target says alone. The exit code is 1 if an action "
        "failed or differed, or if the server's memory did not stay within 5 %."
    )
    parser.add_argument("--robots", type=int, default=64, metavar="N", help="how many (%(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, metavar="M", help="how long (%(default)g)")
    parser.add_argument(
        "--rate", type=float, default=0.2, metavar="R", help="actions a second of each robot (%(default)g)"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["cloud", "colocated", "auto"],
        metavar="M",
        help="the robots take them in turns, auto under each objective (cloud colocated auto)",
    )
    parser.add_argument(
        "--rtt-ms", type=float, default=20.0, metavar="R", help="round-trip time (%(default)g)"
    )
    parser.add_argument("--frames", type=int, default=40, metavar="N", help="recorded frames (%(default)s)")
    parser.add_argument("--pair", default="tiny", help="model pair, by name or as a .yaml file (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of frames and phases (%(default)s)")
    parser.add_argument(
        "--json", metavar="FILE", help="write the result here; - is standard output, and only it"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if nothing was wrong."""
    from rich.console import Console

    from spec_decode_ros.json_output import write_json
    from spec_decode_ros.lab.bench.fleet import ways_of
    from spec_decode_ros.lab.bench.fleet_recording import record_pair
    from spec_decode_ros.lab.bench.fleet_rig import fleet_rig
    from spec_decode_ros.lab.bench.machine import machine
    from spec_decode_ros.lab.bench.soak import SoakPlan, soak
    from spec_decode_ros.lab.network.link import LinkProfile

    if args.frames < 1:
        raise SpecDecodeError("--frames has to be at least 1")
    seconds = 60.0 * args.minutes
    plan = SoakPlan(
        ways_of(args.methods),
        args.robots,
        seconds,
        args.rate,
        sample_s=max(0.25, seconds / _MOST_SAMPLES),
        seed=args.seed,
    )
    console = Console(highlight=False, stderr=args.json == "-")
    console.print(f"recording what the draft model says about {args.frames} frames …")
    recording = record_pair(args.pair, args.frames, args.seed)
    profile = LinkProfile(rtt_ms=args.rtt_ms)
    console.print(f"{args.robots} robots for {args.minutes:g} minutes, each {args.rate:g} actions a second …")

    def report(elapsed_s: float, acts: Sequence[Act], memory: int | None) -> None:
        verified = sum(act.outcome == "verified" for act in acts)
        failed = sum(act.outcome not in ("verified", None) for act in acts)
        size = "" if memory is None else f", server {memory / 1e6:.0f} MB"
        console.print(f"[dim]{elapsed_s:.0f} s: {verified} actions verified, {failed} failed{size}[/]")

    with fleet_rig(args.pair, recording, profile) as rig:
        found = soak(rig, plan, report).as_dict()
    _print(console, found)
    if args.json:
        asked = {name: getattr(args, name) for name in ("robots", "minutes", "rate", "rtt_ms", "seed")}
        write_json(args.json, {"pair": args.pair, "machine": machine(), **asked, **found})
    return 0 if found["passed"] else 1


def _print(console: Console, found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False)
    table.add_row("actions", f"{found['actions']}, of them {found['late_actions']} begun late")
    table.add_row("verified", str(found["verified_actions"]))
    table.add_row("tokens as the target's alone", str(found["same_actions"]))
    table.add_row("by method", ", ".join(f"{way} {count}" for way, count in found["actions_by_way"].items()))
    if times := found["ttva_ms"]:
        told = ", ".join(f"{name} {ms:.0f}" for name, ms in times.items())
        table.add_row("frame to verified action, ms", told)
    for whose in ("server", "robots"):
        if memory := found[f"{whose}_memory"]:
            table.add_row(
                f"memory of the {whose}",
                f"{memory['median_mb']:.0f} MB, varied by {memory['spread']:.1%}, "
                f"grew by {memory['growth_mb']:.1f} MB ({memory['slope_mb_per_hour']:+.0f} an hour)",
            )
    console.print(table)
    for trouble in found["troubles"]:
        console.print(f"[red]wrong: {trouble}[/]")
    if found["passed"]:
        console.print("nothing was wrong")
