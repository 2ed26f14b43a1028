"""Train early exits, which predict tokens before a target's pass is over."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from spec_decode_ros.commands._options import add_json, add_number, add_value, finish
from spec_decode_ros.errors import SpecDecodeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--pair", default="tiny", help="the pair whose target gets exits, by name or as a .yaml file (tiny)"
    )
    which.add_argument("--checkpoint", type=Path, metavar="DIR", help="a target's folder instead of a pair")
    parser.add_argument(
        "--layers",
        metavar="2,3",
        help="layers that get an exit, counted from 0; by default at about two and four fifths of the depth",
    )
    add_number(parser, "--frames", int, "training frames; 3000 for the shipped architecture, 300 for others")
    add_value(parser, "--minutes", 2.0, "training time")
    add_value(parser, "--measured", 100, "held-out frames to measure on", "FRAMES")
    add_value(parser, "--agreement", 0.98, "agreement at which an exit counts as sure")
    add_value(parser, "--work", Path("out/train/data"), "folder for frames", "DIR")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where the exits go; by default exits.safetensors beside the target",
    )
    add_value(parser, "--workers", 2, "rendering processes")
    add_value(parser, "--seed", 1, "seed of frames and weights")
    add_json(parser, "what was measured")


def _layers(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise SpecDecodeError(f"--layers must be layer numbers such as 2,3, not {text!r}") from None


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the exits are made."""
    from spec_decode_ros.console import PlainConsole
    from spec_decode_ros.lab.training.exits import ExitTraining
    from spec_decode_ros.lab.training.exits_run import add_exits, target_of

    pair = target_of(args.pair, args.checkpoint)
    plan = ExitTraining(
        args.work,
        _layers(args.layers),
        minutes=args.minutes,
        measured=args.measured,
        agreement=args.agreement,
        workers=args.workers,
        seed=args.seed,
        style="instructed" if args.checkpoint else pair.prompt,  # type: ignore[arg-type]
        max_tokens=pair.max_tokens,
    )
    document = add_exits(pair, plan, args.frames, args.out, PlainConsole(file=sys.stderr))
    return finish(args, document)
