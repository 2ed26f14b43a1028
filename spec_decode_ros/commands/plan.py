"""Turn a free sentence into the plain steps that the robot is given."""

from __future__ import annotations

import argparse

from spec_decode_ros.commands._options import (
    add_json,
    add_method,
    add_sampling,
    add_value,
    add_verifier,
    console_of,
    finish,
    sampling_of,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--instruction", metavar="S", required=True, help="what the operator says, in plain English"
    )
    parser.add_argument(
        "--planner",
        default="planner",
        help="pair of language models, by name or as a .yaml file (%(default)s)",
    )
    add_method(parser)
    add_sampling(parser, "seed of the sampling")
    add_verifier(parser)
    add_value(parser, "--timeout", 60.0, "longest duration, seconds", "S")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the sentence was planned, refused or not understood; 1 when the text is not a plan."""
    from spec_decode_ros.lab.desk_stack import DeskStackOptions
    from spec_decode_ros.lab.one_plan import plan_sentence, print_plan

    options = DeskStackOptions(
        args.planner,
        args.method,
        args.objective,
        endpoint=args.endpoint,
        keys=args.keys,
        rtt_ms=args.rtt_ms,
        deadline_s=args.timeout,
    )
    document = plan_sentence(args.instruction, sampling_of(args), options)
    if args.json != "-":
        print_plan(document, console_of(args))
    return finish(args, document, not document["problem"])
