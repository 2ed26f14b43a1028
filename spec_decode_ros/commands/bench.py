"""Measure the decoding methods side by side through an emulated link."""

from __future__ import annotations

import argparse
import sys

from spec_decode_ros.commands._options import (
    add_json,
    add_number,
    add_sampling,
    add_value,
    console_of,
    finish,
    sampling_of,
)
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.link_profile import NETWORKS
from spec_decode_ros.lab.plan_judge import HELD_OUT_PLANS

SUITES = {"smoke": 8, "actions": 60, "text": 12, "plan": 12, "fleet": 40}
"""Suites and how much they decode: frames from rooms that were never trained on, prompts of the text pair, or sentences."""

_PAIRS = {"text": "smollm2", "plan": "planner"}
_RTTS_MS = {"text": [0.0, 20.0, 60.0], "plan": [0.0, 20.0, 60.0], "fleet": [20.0]}
_ROBOTS = (1, 4, 16, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verified = [name for name, method in METHODS.items() if method.uses_cloud]
    parser.add_argument(
        "--suite", choices=tuple(SUITES), default="smoke", help="what is measured (%(default)s)"
    )
    add_number(
        parser,
        "--frames",
        int,
        "number of frames, prompts or sentences; by default that of the suite",
        "N",
        low=1,
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=verified,
        metavar="M",
        help="methods to compare; by default all that verify",
    )
    _add_links(parser)
    parser.add_argument(
        "--pair", help="model pair, by name or as a .yaml file (tiny, for text smollm2, for plan planner)"
    )
    parser.add_argument(
        "--device",
        metavar="D",
        help="device of both models: auto, cpu or cuda; by default what the pair says",
    )
    add_number(parser, "--max-tokens", int, "longest text or plan; by default what the pair says", "N")
    parser.add_argument(
        "--peers",
        action="store_true",
        help="with text and plan: also measure transformers' own decoding, in one process",
    )
    _add_plan(parser.add_argument_group("the suite plan"))
    _add_fleet(parser.add_argument_group("the suite fleet"))
    add_sampling(parser, "seed of the rooms and of the sampling")
    parser.add_argument("--plot", metavar="F", help="draw times, passes, compute and bytes of every method")
    parser.add_argument(
        "--timeline", metavar="F", help="draw the timeline of a typical action, at the last link"
    )
    add_json(parser)


def _add_links(parser: argparse.ArgumentParser) -> None:
    add_number(
        parser,
        "--rtt-ms",
        float,
        "round-trip times, 0 for no link; by default 20, 60 and 120, for text and plan 0, 20 and 60, for a fleet 20",
        "R",
        nargs="+",
    )
    add_value(parser, "--mbit", 20.0, "bandwidth of the links, Mbit/s", "B")
    parser.add_argument(
        "--network",
        nargs="+",
        default=[],
        metavar="NET",
        help=f"links by name instead: {', '.join(NETWORKS)}, or a recorded trace ending in .csv",
    )


def _add_plan(group: argparse._ArgumentGroup) -> None:
    add_value(group, "--sentences", HELD_OUT_PLANS, "file of 'sentence => plan', one a line", "FILE")
    add_value(group, "--min-tokens", 1, "only plans of at least so many tokens", "N", low=1)


def _add_fleet(group: argparse._ArgumentGroup) -> None:
    add_number(
        group, "--robots", int, "numbers of robots to measure (1 4 16 64)", "N", default=_ROBOTS, nargs="+"
    )
    add_value(group, "--rate", 2.0, "actions a second of each robot", "R")
    add_value(group, "--seconds", 8.0, "duration of each measurement, seconds", "S")
    add_value(group, "--rounds", 1, "measurements of each number of robots", "N")
    add_value(group, "--refine", 4, "further numbers of robots, to find the capacity", "N")
    add_number(
        group,
        "--bound-ms",
        float,
        "p95 that the server has to keep; by default the time between two actions",
        "B",
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if all methods gave the same tokens, where they should."""
    from spec_decode_ros.lab.bench.run import BenchPlan, command_typed, run_suite
    from spec_decode_ros.lab.bench.suite import links

    if args.peers and args.suite not in ("text", "plan"):
        raise SpecDecodeError("--peers goes with --suite text or plan")
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
        args.sentences,
        args.min_tokens,
    )
    found = run_suite(plan, console_of(args))
    return finish(
        args,
        found.document,
        sampling.separate or found.same_tokens,
        lambda: found.draw(args.plot, args.timeline, pair),
    )


def _run_fleet(args: argparse.Namespace, pair: str) -> int:
    from spec_decode_ros.lab.bench.fleet.rig import LoadSchedule
    from spec_decode_ros.lab.bench.fleet.run import draw_document, fleet_document, measure_fleet
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
    document = fleet_document(pair, command_typed(sys.argv[1:]), fleet)
    return finish(args, document, fleet["same_tokens"], lambda: draw_document(document, args.plot))


def _rtts_ms(args: argparse.Namespace) -> list[float]:
    return args.rtt_ms or _RTTS_MS.get(args.suite, [20.0, 60.0, 120.0])
