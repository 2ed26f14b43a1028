"""Train the shipped pair: frames, target, draft."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spec_decode_ros.commands._options import add_number, add_value
from spec_decode_ros.errors import SpecDecodeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_value(parser, "--pair", "tiny", "which pair; there is a recipe for tiny alone")
    add_value(parser, "--out", Path("out/train/tiny"), "where the pair goes", "DIR")
    add_value(parser, "--work", Path("out/train/data"), "where the frames go", "DIR")
    add_value(parser, "--frames", 64_000, "number of frames to render", "N")
    add_number(parser, "--minutes", float, "training time; 120 on a CPU, 20 on a GPU", "M")
    add_value(parser, "--workers", 2, "rendering processes")
    add_number(parser, "--threads", int, "CPU threads; 0 leaves the choice to torch", default=0, low=0)
    add_value(parser, "--device", "auto", "auto, cpu or cuda")
    add_value(parser, "--seed", 1, "seed of frames and weights", low=0)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the pair is made."""
    from rich.console import Console

    from spec_decode_ros.lab.training.pair_run import default_minutes, train_pair, training_device
    from spec_decode_ros.lab.training.recipe import TrainingRun

    if args.pair != "tiny":
        raise SpecDecodeError(f"there is no recipe to train the pair {args.pair!r}: choose tiny")
    device = training_device(args.device)
    minutes = default_minutes(device) if args.minutes is None else args.minutes
    recipe = TrainingRun(args.out, args.work, args.frames, minutes, args.workers, args.seed)
    train_pair(recipe, device, args.threads, Console(file=sys.stderr))
    return 0
