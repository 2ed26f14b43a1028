"""Train early exits for a target, which predict its tokens before its forward pass is over."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_json

if TYPE_CHECKING:
    from spec_decode_ros.lab.training.exits import ExitTraining
    from spec_decode_ros.models.exits import ExitFigures
    from spec_decode_ros.models.hf_model import HfModel
    from spec_decode_ros.models.pair import PairConfig

BATCHED_FRAMES, GENERATED_FRAMES = 3000, 300
"""Default number of frames for targets of the shipped architecture, which run in batches, and for all others, whose answers
are generated token by token."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pair", help="the pair whose target gets exits, by name or as a .yaml file (tiny)")
    which.add_argument("--checkpoint", type=Path, metavar="DIR", help="a target's folder instead of a pair")
    parser.add_argument(
        "--layers",
        metavar="2,3",
        help="layers that get an exit, counted from 0; by default at about two and four fifths of the depth",
    )
    parser.add_argument(
        "--frames",
        type=int,
        help=f"training frames; {BATCHED_FRAMES} for the shipped architecture, {GENERATED_FRAMES} for others",
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="training time (%(default)s)")
    parser.add_argument(
        "--measured",
        type=int,
        default=100,
        metavar="FRAMES",
        help="held-out frames to measure on (%(default)s)",
    )
    parser.add_argument(
        "--agreement",
        type=float,
        default=0.98,
        help="agreement with the final token at which an exit counts as sure (%(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/train/data"),
        metavar="DIR",
        help="folder for frames (%(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where the exits go; by default exits.safetensors beside the target",
    )
    parser.add_argument("--workers", type=int, default=2, help="rendering processes (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of frames and weights (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write what was measured; - for standard output")


def run(args: argparse.Namespace) -> int:
    from spec_decode_ros.lab.training.exits import default_layers, make_exits, usable_layers
    from spec_decode_ros.models.exits import save_exits
    from spec_decode_ros.models.loading import load_model
    from spec_decode_ros.models.pair import exits_file, resolve_location

    pair = _pair(args)
    out = args.out or exits_file(pair.target, pair.folder)
    if out is None:
        raise SpecDecodeError(
            f"{pair.target.location} is not a folder: say with --out where its exits go, and name that file in the "
            "pair's target as `exits:`."
        )
    _check_writable(out)
    layers = _layers(args.layers)
    model = load_model(pair.target, resolve_location(pair.target, pair.folder), pair.chat_template)
    recipe = _recipe(args, pair, model, usable_layers(model, layers or default_layers(model)))
    console = Console(file=sys.stderr)
    start = time.monotonic()

    def report(phase: str, fraction: float, figures: dict[str, float]) -> None:
        shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
        console.print(f"{time.monotonic() - start:6.0f} s  {phase} {fraction:4.0%}  {shown}", highlight=False)

    adapters, exits = make_exits(model, recipe, report)
    try:
        save_exits(out, model, adapters, exits)
    except OSError as error:
        raise SpecDecodeError(f"{out} cannot be written: {error.strerror or error}") from error
    console.print(_table(exits))
    console.print(f"The exits are in {out}.", soft_wrap=True)
    if args.json:
        write_json(
            args.json,
            {
                "file": str(out),
                "target": pair.target.location,
                "frames": recipe.frames,
                "minutes": recipe.minutes,
                "seed": recipe.seed,
                "exits": [asdict(exit) for exit in exits],
            },
        )
    return 0


def _pair(args: argparse.Namespace) -> PairConfig:
    """The pair whose target gets exits; a checkpoint folder counts as a pair with itself."""
    from spec_decode_ros.models.pair import DEFAULT_PAIR, ModelConfig, PairConfig, load_pair_config

    if args.checkpoint is None:
        return load_pair_config(args.pair or DEFAULT_PAIR)
    side = ModelConfig(location=str(args.checkpoint.resolve()))
    return PairConfig(name="checkpoint", draft=side, target=side)


def _recipe(
    args: argparse.Namespace, pair: PairConfig, model: HfModel, layers: tuple[int, ...]
) -> ExitTraining:
    from spec_decode_ros.lab.training.exits import ExitTraining, in_batches

    batched = in_batches(model)
    frames = args.frames
    if frames is None:
        frames = BATCHED_FRAMES if batched else GENERATED_FRAMES
    return ExitTraining(
        args.work,
        layers,
        frames,
        args.minutes,
        args.measured,
        args.agreement,
        args.workers,
        args.seed,
        "trained" if batched else "instructed" if args.checkpoint else pair.prompt,  # type: ignore[arg-type]
        pair.max_tokens,
    )


def _table(exits: Sequence[ExitFigures]) -> Table:
    table = Table("exit after layer", "agrees", "sure from", "sure of", "agrees when sure")
    for exit in exits:
        shares = (f"{share:.1%}" for share in (exit.agreement, exit.sure_share, exit.sure_agreement))
        agreement, sure_share, sure_agreement = shares
        table.add_row(str(exit.layer), agreement, f"{exit.threshold:.3f}", sure_share, sure_agreement)
    return table


def _layers(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SpecDecodeError(f"--layers must be layer numbers such as 2,3, not {text!r}") from None


def _check_writable(path: Path) -> None:
    """Raise SpecDecodeError if the file cannot be written; called before the training."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecDecodeError(f"{path.parent} cannot be written to: {error.strerror}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise SpecDecodeError(f"{path} cannot be written: choose another file with --out")
