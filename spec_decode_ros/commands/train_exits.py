"""Train early exits for a target, which tell what it will choose before its pass is over."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from spec_decode_ros.commands._output import write_json
from spec_decode_ros.errors import SpecDecodeError

SPOKEN_FRAMES = 300
"""Default for targets that cannot be run in batches, for which every answer has to be written token by token."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pair", help="the pair whose target gets exits, by name or as a .yaml file (tiny)")
    which.add_argument("--checkpoint", type=Path, metavar="DIR", help="a target's folder instead of a pair")
    parser.add_argument(
        "--layers",
        metavar="2,3",
        help="layers that an exit comes after, counted from 0; by default about two and four fifths of the way",
    )
    parser.add_argument(
        "--frames",
        type=int,
        help=f"frames to learn from; 3000 for the shipped kind of target, {SPOKEN_FRAMES} for others",
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="time for learning proper (%(default)s)")
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
        help="with the final token, from which on an exit counts as sure (%(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/train/data"),
        metavar="DIR",
        help="where frames are, or go (%(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where the exits go; by default exits.safetensors beside the target",
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that render (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of frames and weights (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write what was measured; - for standard output")


def run(args: argparse.Namespace) -> int:
    from spec_decode_ros.lab.training.exits import (
        ExitTraining,
        default_layers,
        in_batches,
        make_exits,
        usable_layers,
    )
    from spec_decode_ros.models.exits import save_exits
    from spec_decode_ros.models.loading import load_model
    from spec_decode_ros.models.pair import (
        DEFAULT_PAIR,
        ModelConfig,
        PairConfig,
        exits_file,
        load_pair_config,
        resolve_location,
    )

    if args.checkpoint is not None:
        side = ModelConfig(location=str(args.checkpoint.resolve()))
        pair = PairConfig(name="checkpoint", draft=side, target=side)
    else:
        pair = load_pair_config(args.pair or DEFAULT_PAIR)
    out = args.out or exits_file(pair.target, pair.folder)
    if out is None:
        raise SpecDecodeError(
            f"{pair.target.location} is not a folder: say with --out where its exits go, and name that file in the "
            "pair's target as `exits:`."
        )
    _check_writable(out)
    layers = _layers(args.layers)
    model = load_model(pair.target, resolve_location(pair.target, pair.folder), pair.chat_template)
    layers = usable_layers(model, layers or default_layers(model))
    batched = in_batches(model)
    plan = ExitTraining(
        args.work,
        layers,
        args.frames if args.frames is not None else 3000 if batched else SPOKEN_FRAMES,
        args.minutes,
        args.measured,
        args.agreement,
        args.workers,
        args.seed,
        "trained" if batched else "instructed" if args.checkpoint else pair.prompt,  # type: ignore[arg-type]
        pair.max_tokens,
    )
    console = Console(file=sys.stderr)
    start = time.monotonic()

    def report(phase: str, fraction: float, figures: dict[str, float]) -> None:
        shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
        console.print(f"{time.monotonic() - start:6.0f} s  {phase} {fraction:4.0%}  {shown}", highlight=False)

    adapters, exits = make_exits(model, plan, report)
    try:
        save_exits(out, model, adapters, exits)
    except OSError as error:
        raise SpecDecodeError(f"{out} cannot be written: {error.strerror or error}") from error
    table = Table("exit after layer", "agrees", "sure from", "sure of", "agrees when sure")
    for exit in exits:
        shares = (f"{share:.1%}" for share in (exit.agreement, exit.sure_share, exit.sure_agreement))
        agreement, sure_share, sure_agreement = shares
        table.add_row(str(exit.layer), agreement, f"{exit.threshold:.3f}", sure_share, sure_agreement)
    console.print(table)
    console.print(f"The exits are in {out}.", soft_wrap=True)
    if args.json:
        write_json(
            args.json,
            {
                "file": str(out),
                "target": pair.target.location,
                "frames": plan.frames,
                "minutes": plan.minutes,
                "seed": plan.seed,
                "exits": [asdict(exit) for exit in exits],
            },
        )
    return 0


def _layers(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SpecDecodeError(f"--layers must be layer numbers such as 2,3, not {text!r}") from None


def _check_writable(path: Path) -> None:
    """Find out before the work."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpecDecodeError(f"{path.parent} cannot be written to: {error.strerror}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise SpecDecodeError(f"{path} cannot be written: choose another file with --out")
