"""Measure the decoding methods side by side through an emulated link."""

from __future__ import annotations

import argparse
import sys

from spec_decode_ros.commands._options import (
    Whole,
    add_json,
    add_sampling,
    add_value,
    console_of,
    finish,
    sampling_of,
)
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.link_profile import NETWORKS

SUITES = {"smoke": 8, "actions": 60, "text": 12, "fleet": 40}
"""Suites and how much they decode: frames from rooms that were never trained on, or prompts of the text pair."""

_PAIRS = {"text": "smollm2"}
_RTTS_MS = {"text": [0.0, 20.0, 60.0], "fleet": [20.0]}
_ROBOTS = (1, 4, 16, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verified = [name for name, method in METHODS.items() if method.uses_cloud]
    parser.add_argument(
        "--suite", choices=tuple(SUITES), default="smoke", help="what is decoded (%(default)s)"
    )
    parser.add_argument(
        "--frames",
        action=Whole,
        low=1,
        metavar="N",
        help="frames, or prompts; by default as many as the suite has",
    )
    parser.add_argument(
        "--methods", nargs="+", choices=verified, metavar="M", help="by default all that verify"
    )
    _add_links(parser)
    parser.add_argument("--pair", help="model pair, by name or as a .yaml file (tiny, for text smollm2)")
    parser.add_argument(
        "--device", metavar="D", help="of both models: auto, cpu or cuda; by default what the pair says"
    )
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="longest answer of text; by default what the pair says"
    )
    parser.add_argument(
        "--peers", action="store_true", help="with text: transformers' own decoding beside it, in one process"
    )
    _add_fleet(parser.add_argument_group("the suite fleet"))
    add_sampling(parser, "of the first room, and of the sampling")
    parser.add_argument("--plot", metavar="F", help="draw times, passes, compute and bytes of every method")
    parser.add_argument(
        "--timeline", metavar="F", help="draw where the milliseconds of a typical action go, at the last link"
    )
    add_json(parser)


def _add_links(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rtt-ms",
        type=float,
        nargs="+",
        metavar="R",
        help="links, 0 for none; by default 20, 60 and 120, for text 0, 20 and 60, and for a fleet 20",
    )
    add_value(parser, "--mbit", 20.0, "their bandwidth, Mbit/s", "B")
    parser.add_argument(
        "--network",
        nargs="+",
        default=[],
        metavar="NET",
        help=f"links by name instead: {', '.join(NETWORKS)}, or a recorded trace ending in .csv",
    )


def _add_fleet(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--robots", type=int, nargs="+", default=_ROBOTS, metavar="N", help="so many at a time (1 4 16 64)"
    )
    add_value(group, "--rate", 2.0, "actions a second of each robot", "R")
    add_value(group, "--seconds", 8.0, "that each load is measured", "S")
    add_value(group, "--rounds", 1, "measurements of each load", "N")
    add_value(group, "--refine", 4, "further loads of each method, to know its capacity", "N")
    group.add_argument(
        "--bound-ms",
        type=float,
        metavar="B",
        help="p95 that the server has to keep; by default the time between two actions",
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if all methods gave the same tokens, where they should."""
    from spec_decode_ros.lab.bench.run import BenchPlan, command_typed, run_suite
    from spec_decode_ros.lab.bench.suite import links

    if args.peers and args.suite != "text":
        raise SpecDecodeError("--peers goes with --suite text")
    pair = args.pair or _PAIRS.get(args.suite, "tiny")
    if args.suite == "fleet":
        return _run_fleet(args, pair)
    over = links(_rtts_ms(args), args.mbit, args.network)
    sampling = sampling_of(args)
    plan = BenchPlan(
        args.suite,
        args.frames or SUITES[args.suite],
        pair,
        over,
        args.methods or (),
        sampling,
        args.seed,
        args.device,
        args.max_tokens,
        args.peers,
        command_typed(sys.argv[1:]),
    )
    found = run_suite(plan, console_of(args))
    found.draw(args.plot, args.timeline, pair)
    return finish(args, found.document, sampling.separate or found.same_tokens)


def _run_fleet(args: argparse.Namespace, pair: str) -> int:
    from spec_decode_ros.lab.bench.fleet.rig import LoadSchedule
    from spec_decode_ros.lab.bench.fleet.run import fleet_document, measure_fleet
    from spec_decode_ros.lab.bench.fleet.suite import FleetPlan
    from spec_decode_ros.lab.bench.run import command_typed
    from spec_decode_ros.lab.bench.suite import links
    from spec_decode_ros.lab.bench.variants import variants_of

    if args.temperature:
        raise SpecDecodeError("recorded drafts are greedy ones: leave --temperature out")
    plan = FleetPlan(
        variants_of(args.methods or ["cloud", "colocated", "auto"]),
        tuple(args.robots),
        LoadSchedule(args.rate, args.seconds),
        args.rounds,
        args.refine,
        args.bound_ms,
        args.seed,
    )
    over = links(_rtts_ms(args), args.mbit, args.network)
    frames = args.frames or SUITES["fleet"]
    fleet = measure_fleet(pair, plan, over, frames, console_of(args))
    document = fleet_document(pair, command_typed(sys.argv[1:]), fleet, args.plot)
    return finish(args, document, fleet["same_tokens"])


def _rtts_ms(args: argparse.Namespace) -> list[float]:
    return args.rtt_ms or _RTTS_MS.get(args.suite, [20.0, 60.0, 120.0])
