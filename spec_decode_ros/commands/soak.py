"""Let many robots use one server for a long time, and check memory and actions."""

from __future__ import annotations

import argparse

from spec_decode_ros.commands._options import add_frames, add_json, add_pair, add_value, console_of, finish

_MOST_SAMPLES = 600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Starts a verifier, an emulated link and simulated robots with recorded drafts of the real draft model, lets them "
        "act, and compares the tokens of every action with what the target says alone. The exit code is 1 if an action "
        "failed or differed, or if the server's memory did not stay within 5 %."
    )
    add_value(parser, "--robots", 64, "number of robots", "N")
    add_value(parser, "--minutes", 10.0, "duration, minutes", "M")
    add_value(parser, "--rate", 0.2, "actions per second of each robot", "R")
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["cloud", "colocated", "auto"],
        metavar="M",
        help="methods that the robots use in turns, auto with each objective (cloud colocated auto)",
    )
    add_value(parser, "--rtt-ms", 20.0, "round-trip time of the link", "R")
    add_frames(parser)
    add_pair(parser)
    add_value(parser, "--seed", 0, "seed of the frames and the phases", "S")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if nothing was wrong."""
    from spec_decode_ros.lab.bench.fleet.soak import SoakPlan
    from spec_decode_ros.lab.bench.fleet.soak_report import run_soak
    from spec_decode_ros.lab.bench.machine import machine
    from spec_decode_ros.lab.bench.variants import variants_of

    seconds = 60.0 * args.minutes
    sample_s = max(0.25, seconds / _MOST_SAMPLES)
    plan = SoakPlan(variants_of(args.methods), args.robots, seconds, args.rate, sample_s, args.seed)
    found = run_soak(args.pair, plan, args.frames, args.rtt_ms, console_of(args))
    asked = {name: getattr(args, name) for name in ("robots", "minutes", "rate", "rtt_ms", "seed")}
    return finish(args, {"pair": args.pair, "machine": machine(), **asked, **found}, found["passed"])
