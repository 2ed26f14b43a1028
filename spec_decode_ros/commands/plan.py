"""Turn a free sentence into the plain steps that the robot is given."""

from __future__ import annotations

import argparse

from spec_decode_ros.commands._options import (
    add_json,
    add_method,
    add_number,
    add_sampling,
    add_value,
    add_verifier,
    console_of,
    finish,
    sampling_of,
)
from spec_decode_ros.errors import SpecDecodeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--instruction", metavar="S", help="what the operator says, in plain English")
    asked.add_argument(
        "--sentences",
        metavar="FILE",
        help="plan every line of a file of 'sentence => plan' instead, and judge the plans; the plan may also be 'stop', "
        "'refused' or 'not understood'",
    )
    add_number(parser, "--limit", int, "with --sentences: only the first N lines", "N", low=1)
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
    """Exit code 0 when the sentence was planned, refused or not understood; of a file, when at least one plan is right."""
    from spec_decode_ros.lab.desk_stack import DeskStackOptions
    from spec_decode_ros.lab.one_plan import plan_sentence, print_plan
    from spec_decode_ros.lab.plan_evaluation import evaluate_plans, print_evaluation
    from spec_decode_ros.lab.plan_judge import read_expected

    if args.limit and not args.sentences:
        raise SpecDecodeError("--limit goes with --sentences")
    options = DeskStackOptions(
        args.planner,
        args.method,
        args.objective,
        endpoint=args.endpoint,
        keys=args.keys,
        rtt_ms=args.rtt_ms,
        deadline_s=args.timeout,
    )
    if args.sentences:
        expected = read_expected(args.sentences)[: args.limit]
        document = evaluate_plans(expected, sampling_of(args), options)
    else:
        document = plan_sentence(args.instruction, sampling_of(args), options)
    if args.json != "-":
        (print_evaluation if args.sentences else print_plan)(document, console_of(args))
    return finish(args, document, document["right"] > 0 if args.sentences else not document["problem"])
