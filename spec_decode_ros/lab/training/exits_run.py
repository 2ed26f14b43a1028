"""Making the early exits of a target, with its progress printed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.training.display import make_folders, progress_line
from spec_decode_ros.lab.training.exits import (
    ExitTraining,
    default_layers,
    in_batches,
    make_exits,
    usable_layers,
)
from spec_decode_ros.models.exits import ExitFigures, save_exits
from spec_decode_ros.models.loading import load_side
from spec_decode_ros.models.pair_config import ModelConfig, PairConfig, exits_file, load_pair_config

BATCHED_FRAMES, GENERATED_FRAMES = 3000, 300
"""Default number of frames for targets of the shipped architecture, which run in batches, and for all others, whose answers
are generated token by token."""


def target_of(pair: str, checkpoint: Path | None) -> PairConfig:
    """The pair of that name or file, or one of the target in a folder. Raises SpecDecodeError."""
    if checkpoint is None:
        return load_pair_config(pair)
    side = ModelConfig(location=str(checkpoint.resolve()))
    return PairConfig(name="checkpoint", draft=side, target=side)


def add_exits(
    pair: PairConfig, plan: ExitTraining, frames: int | None, out: Path | None, console: Console
) -> dict[str, Any]:
    """Make the exits of the pair's target, save them, and return what was measured, for JSON.

    Args:
        pair: as of `target_of`.
        plan: how they are made; without layers, those that are usual for the target.
        frames: to learn from; None for what is usual for the target.
        out: file that they go to; None for the one beside the target.
        console: where progress is printed.

    Raises:
        SpecDecodeError: they cannot be made or saved.
    """
    file = out or exits_file(pair.target, pair.folder)
    if file is None:
        raise SpecDecodeError(
            f"{pair.target.location} is not a folder: say with --out where its exits go, and name that file in the "
            "pair's target as `exits:`."
        )
    _check_writable(file)
    model = load_side(pair, pair.target)
    batched = in_batches(model)
    plan = replace(
        plan,
        layers=usable_layers(model, plan.layers or default_layers(model)),
        frames=frames if frames is not None else BATCHED_FRAMES if batched else GENERATED_FRAMES,
        style="trained" if batched else plan.style,
    )
    start = time.monotonic()

    def report(phase: str, fraction: float, figures: dict[str, float]) -> None:
        console.print(progress_line(start, f"{phase} {fraction:4.0%}", figures))

    adapters, exits = make_exits(model, plan, report)
    try:
        save_exits(file, model, adapters, exits)
    except OSError as error:
        raise SpecDecodeError(f"{file} cannot be written: {error.strerror or error}") from error
    console.print(_table(exits))
    console.print(f"The exits are in {file}.", soft_wrap=True)
    return {
        "file": str(file),
        "target": pair.target.location,
        "frames": plan.frames,
        "minutes": plan.minutes,
        "seed": plan.seed,
        "exits": [asdict(exit) for exit in exits],
    }


def _table(exits: Sequence[ExitFigures]) -> Table:
    table = Table("exit after layer", "agrees", "sure from", "sure of", "agrees when sure")
    for exit in exits:
        shares = (f"{share:.1%}" for share in (exit.agreement, exit.sure_share, exit.sure_agreement))
        agreement, sure_share, sure_agreement = shares
        table.add_row(str(exit.layer), agreement, f"{exit.threshold:.3f}", sure_share, sure_agreement)
    return table


def _check_writable(path: Path) -> None:
    """Raise SpecDecodeError if the file cannot be written; called before the training."""
    make_folders(path.parent)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise SpecDecodeError(f"{path} cannot be written: choose another file with --out")
