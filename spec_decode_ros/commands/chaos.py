"""Break servers, links, robots and messages while robots act; check every action."""

from __future__ import annotations

import argparse
import importlib.util

from spec_decode_ros.commands._options import add_frames, add_json, add_pair, add_value, console_of, finish
from spec_decode_ros.extras import require_modules

_METHODS = ["cloud", "colocated", "sync", "pipelined", "auto"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Starts two verifiers (and with Ray one of two replicas), and groups of simulated robots with recorded drafts, each "
        "behind links of its own. Connections are cut, servers frozen or killed, robots killed, messages delayed by "
        "seconds, repeated, reordered, truncated or followed by garbage. Every action has to end verified, with the tokens "
        "that the target says alone, or marked unverified, or refused with a reason, before its time is up; the exit code "
        "is 1 if one does not, or if robots are not served again afterwards."
    )
    add_value(parser, "--faults", 1000, "number of faults", "N")
    add_value(parser, "--every", 0.5, "average seconds between two faults", "S")
    add_value(parser, "--seed", 0, "seed of the faults and their times", "N")
    add_value(parser, "--groups", 3, "groups of robots", "N")
    add_value(parser, "--robots", 4, "robots in each group", "N")
    add_value(parser, "--rate", 1.0, "actions per second of each robot", "R")
    add_value(parser, "--deadline", 4.0, "longest duration of an action, seconds", "S")
    add_value(parser, "--rtt-ms", 20.0, "round-trip time of the links", "R")
    add_frames(parser)
    add_pair(parser)
    parser.add_argument(
        "--ray",
        action=argparse.BooleanOptionalAction,
        help="also two replicas under Ray, one killed now and then; by default where Ray is installed",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if every action ended as it may."""
    from spec_decode_ros.lab.bench.machine import machine
    from spec_decode_ros.lab.bench.variants import variants_of
    from spec_decode_ros.lab.faults.chaos import ChaosPlan
    from spec_decode_ros.lab.faults.chaos_report import run_chaos

    if args.ray:
        require_modules("ray")
    plan = ChaosPlan(
        variants_of(_METHODS),
        args.faults,
        args.every,
        args.groups,
        args.robots,
        args.rate,
        args.deadline,
        args.rtt_ms,
        importlib.util.find_spec("ray") is not None if args.ray is None else args.ray,
        args.seed,
    )
    found = run_chaos(args.pair, plan, args.frames, console_of(args))
    asked = {name: getattr(args, name) for name in ("seed", "groups", "robots", "rate", "rtt_ms", "every")}
    return finish(args, {"pair": args.pair, "machine": machine(), **asked, **found}, found["passed"])
