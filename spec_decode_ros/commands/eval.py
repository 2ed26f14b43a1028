"""Walk a simulated robot through closed-loop episodes, and count successes."""

from __future__ import annotations

import argparse

from spec_decode_ros.commands._options import (
    Number,
    add_decoding,
    add_json,
    add_number,
    add_value,
    add_verifier,
    finish,
    stack_options,
)
from spec_decode_ros.errors import SpecDecodeError

MEASURED = "measured"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_decoding(parser)
    add_value(parser, "--episodes", 20, "number of episodes", "N", low=1, high=100_000)
    add_number(
        parser,
        "--seed",
        int,
        "seed of the first episode; the next ones count up from it",
        "S",
        default=0,
        low=0,
    )
    parser.add_argument(
        "--instructions",
        metavar="FILE",
        help="file of phrasings, one per line, with {color} and {kind} of the target; by default the project's own",
    )
    parser.add_argument(
        "--planner",
        metavar="P",
        help="pair of language models that plans each instruction first, such as planner; by default the acting pair "
        "hears the words as they are",
    )
    add_verifier(parser, keys=False)
    parser.add_argument(
        "--latency-ms",
        action=Number,
        type=_latency,
        low=0,
        metavar="L",
        help="simulated time from a frame to its action: a number, which makes a run repeatable, or "
        f"'{MEASURED}', the time that each decision took (default 100 plus the RTT)",
    )
    add_json(parser)


def _latency(text: str) -> float | str:
    return MEASURED if text == MEASURED else float(text)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when at least one episode succeeded, else 1."""
    from spec_decode_ros.lab.episodes.evaluate import EpisodePlan, evaluate_pair, print_episodes

    if args.planner and args.endpoint:
        raise SpecDecodeError("--planner needs a verifier of its own, so --endpoint cannot be given with it.")
    plan = EpisodePlan(args.episodes, args.seed, args.instructions, args.planner, args.latency_ms)
    document = evaluate_pair(plan, stack_options(args))
    if args.json != "-":
        print_episodes(document)
    return finish(args, document, document["successes"] > 0)
