"""Train a pair of the project from nothing: tiny, which acts, or planner."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spec_decode_ros.commands._options import add_number, add_value
from spec_decode_ros.errors import SpecDecodeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_value(parser, "--pair", "tiny", "which pair: tiny or planner")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the pair goes (out/train/ and its name)"
    )
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="what is kept for an interrupted run (the same and -data)"
    )
    add_value(parser, "--workers", 2, "processes that render or write plans; threads of the planner")
    add_number(parser, "--seed", int, "seed of data and weights; by default that of the shipped pair", low=0)
    tiny = parser.add_argument_group("for tiny")
    add_value(tiny, "--frames", 64_000, "number of frames to render", "N")
    add_value(tiny, "--images", 640_000, "number of images to learn from, in all phases together", "N")
    add_number(tiny, "--threads", int, "CPU threads; 0 leaves the choice to torch", default=0, low=0)
    add_value(tiny, "--device", "auto", "auto, cpu or cuda")
    planner = parser.add_argument_group("for planner")
    add_value(planner, "--sentences", 18_000, "number of sentences that its target learns from", "N", low=16)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the pair is made."""
    from spec_decode_ros.console import PlainConsole
    from spec_decode_ros.lab.training.pair_run import train_pair, training_device
    from spec_decode_ros.lab.training.recipe import TrainingRun

    if args.pair not in ("tiny", "planner"):
        raise SpecDecodeError(f"there is no recipe to train the pair {args.pair!r}: choose tiny or planner")
    console = PlainConsole(file=sys.stderr)
    out = args.out or Path("out/train") / args.pair
    work = args.work or out.with_name(f"{out.name}-data")
    if args.pair == "planner":
        from spec_decode_ros.lab.training.planner_recipe import PlannerRun
        from spec_decode_ros.lab.training.planner_run import make_planner

        seed = PlannerRun.seed if args.seed is None else args.seed
        make_planner(PlannerRun(out, work, args.sentences, workers=args.workers, seed=seed), console)
        return 0
    seed = TrainingRun.seed if args.seed is None else args.seed
    device = training_device(args.device)
    train_pair(
        TrainingRun(out, work, args.frames, args.images, args.workers, seed), device, args.threads, console
    )
    return 0
