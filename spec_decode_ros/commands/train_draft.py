"""Distil the draft of a text pair from its target's answers."""

from __future__ import annotations

import argparse
from pathlib import Path

from spec_decode_ros.commands._options import add_json, add_value, finish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_value(parser, "--pair", "smollm2", "the pair whose draft is made, by name or as a .yaml file")
    add_value(parser, "--out", Path("out/train/smollm2/draft"), "where the draft goes", "DIR")
    add_value(
        parser,
        "--work",
        Path("out/train/smollm2/answers"),
        "where the target's answers go; those of an earlier run are reused",
        "DIR",
    )
    add_value(parser, "--prompts", 8000, "number of training prompts", "N")
    add_value(parser, "--minutes", 25.0, "training time, after the answers")
    add_value(parser, "--workers", 2, "processes that generate answers, training threads")
    add_value(parser, "--seed", 7, "seed of prompts and answers")
    parser.add_argument(
        "--measure-only",
        action="store_true",
        help="train nothing: measure the pair as it is on held-out prompts",
    )
    add_json(parser, "the acceptance")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the draft is made and measured."""
    from spec_decode_ros.console import PlainConsole
    from spec_decode_ros.lab.training.text_draft import TextDraftRun, with_draft
    from spec_decode_ros.lab.training.text_draft_run import make_draft, measure_draft
    from spec_decode_ros.models.pair_config import load_pair_config

    console = PlainConsole(stderr=True)
    if args.measure_only:
        return finish(args, measure_draft(load_pair_config(args.pair), console))
    recipe = TextDraftRun(
        args.pair, args.out, args.work, args.prompts, args.minutes, args.workers, seed=args.seed
    )
    make_draft(recipe, console)
    document = measure_draft(with_draft(args.pair, args.out), console)
    console.print(
        f"The draft is in {args.out}; to use it, name that folder in a pair file and pass --pair FILE."
    )
    return finish(args, document)
