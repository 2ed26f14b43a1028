"""Train the shipped pair: frames, target, draft."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    import torch

    from spec_decode_ros.lab.training.fit import Report
    from spec_decode_ros.lab.training.recipe import TrainingRun

FramesMade = Callable[[int, int], None]
"""Called with the number of frames that are rendered, and of all."""

PAIRS = ("tiny",)
"""The pairs that can be trained."""

FRAME_SECONDS = 0.012
"""Rendering time of a frame on one core, with OpenGL."""

TRAINED_ON = (
    "the shipped target had about two hours and the draft half an hour, on two busy cores of an AMD EPYC with "
    "bfloat16"
)
CPU_MINUTES, GPU_MINUTES = 120.0, 20.0
"""Default training time."""

FRAMES = 64_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pair", default="tiny", help=f"which pair: {', '.join(PAIRS)} (%(default)s)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/train/tiny"),
        metavar="DIR",
        help="where the pair goes (%(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/train/data"),
        metavar="DIR",
        help="where the frames go (%(default)s)",
    )
    parser.add_argument(
        "--frames", type=int, default=FRAMES, metavar="N", help="number of frames to render (%(default)s)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help=f"training time; {CPU_MINUTES:g} on a CPU, {GPU_MINUTES:g} on a GPU",
    )
    parser.add_argument("--workers", type=int, default=2, help="rendering processes (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves the choice to torch")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of frames and weights (%(default)s)")


def run(args: argparse.Namespace) -> int:
    import torch

    from spec_decode_ros.lab.training.recipe import TrainingRun, train

    if args.pair not in PAIRS:
        raise SpecDecodeError(
            f"there is no recipe to train the pair {args.pair!r}: choose {' or '.join(PAIRS)}"
        )
    if args.threads < 0 or args.seed < 0:
        raise SpecDecodeError("--threads and --seed cannot be negative")
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(_device(args.device))
    minutes = args.minutes
    if minutes is None:
        minutes = GPU_MINUTES if device.type == "cuda" else CPU_MINUTES
    if not math.isfinite(minutes):
        raise SpecDecodeError(f"--minutes cannot be {minutes}: training has to end")
    try:
        recipe = TrainingRun(args.out, args.work, args.frames, minutes, args.workers, args.seed)
    except ValueError as error:
        raise SpecDecodeError(str(error)) from error
    console = Console(file=sys.stderr)
    with _display(console, recipe, device) as (report, frames_made):
        train(recipe, device, report, frames_made)
    console.print(
        f"The pair is in {args.out}; to use it, name that folder in a pair file and pass --pair FILE.",
        soft_wrap=True,
    )
    return 0


def _device(name: str) -> str:
    import torch

    name = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise SpecDecodeError(f"there is no device {name!r}: choose auto, cpu or cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SpecDecodeError("there is no CUDA device here: leave --device out, or say --device cpu")
    return name


@contextlib.contextmanager
def _display(
    console: Console, recipe: TrainingRun, device: torch.device
) -> Iterator[tuple[Report, FramesMade]]:
    """Make the folders and show progress bars; yields the callbacks of the training."""
    for folder in (recipe.out, recipe.work):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecDecodeError(f"{folder} cannot be written to: {error.strerror}") from error
    rendering = recipe.frames * FRAME_SECONDS / recipe.workers / 60
    console.print(
        f"{recipe.frames} frames take about {rendering:.0f} minutes with {recipe.workers} workers (less where they are "
        f"made already), training takes {recipe.minutes:g} minutes on {device}. For comparison, {TRAINED_ON}."
    )
    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bars: dict[str, TaskID] = {}

        def advance(name: str, done: float, total: float) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
            progress.update(bars[name], completed=done, total=total)

        def report(phase: str, fraction: float, figures: dict[str, float]) -> None:
            advance(phase, round(1000 * fraction), 1000)
            shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
            progress.console.print(f"{time.monotonic() - start:6.0f} s  {phase}  {shown}")

        yield report, lambda done, total: advance(f"{total} frames", done, total)
