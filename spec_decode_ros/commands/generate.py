"""Decode one action from one camera frame and one instruction."""

from __future__ import annotations

import argparse

from spec_decode_ros.commands._options import (
    add_decoding,
    add_json,
    add_number,
    add_sampling,
    add_value,
    add_verifier,
    finish,
    sampling_of,
    stack_options,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument(
        "--instruction", metavar="S", help="what the robot is told, such as 'go to the red chair'"
    )
    asked.add_argument("--prompt", metavar="S", help="any text instead, for a pair of text models")
    parser.add_argument(
        "--image", metavar="F", action="append", default=[], help="the camera frame, a picture file"
    )
    parser.add_argument(
        "--last-action", metavar="S", help="text of the last verified action, part of the next prompt"
    )
    add_decoding(parser)
    add_number(parser, "--max-tokens", int, "longest answer; by default what the pair says", "N")
    parser.add_argument(
        "--grammar",
        default="",
        metavar="FILE",
        help="what the answer is constrained to: EBNF or, named .json, a JSON schema; action; or none; by default what the "
        "pair says",
    )
    add_sampling(parser, "seed of the sampling")
    add_verifier(parser)
    add_value(parser, "--timeout", 60.0, "longest duration of the action, seconds", "S")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when there is an answer."""
    from spec_decode_ros.lab.one_action import SingleQuestion, answer, print_answer

    question = SingleQuestion(
        args.instruction, args.prompt, tuple(args.image), args.last_action, sampling_of(args)
    )
    options = stack_options(args, max_tokens=args.max_tokens, deadline_s=args.timeout, grammar=args.grammar)
    document = answer(question, options)
    if args.json != "-":
        print_answer(document)
    return finish(args, document)
