"""Rebuild the shipped pair from nothing: frames, target, draft."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spec_decode_ros.errors import SpecDecodeError

FRAME_SECONDS = 0.012
TRAINED_ON = (
    "the shipped target had about two hours and the draft half an hour, on two busy cores of an AMD EPYC with "
    "bfloat16"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("out/train/tiny"), help="where the pair goes (%(default)s)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("out/train/data"), help="where the frames go (%(default)s)"
    )
    parser.add_argument("--frames", type=int, default=64_000, help="training frames to render (%(default)s)")
    parser.add_argument("--minutes", type=float, help="time for training proper; 120 on a CPU, 20 on a GPU")
    parser.add_argument("--workers", type=int, default=2, help="processes that render (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves the choice to torch")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of frames and weights (%(default)s)")


def run(args: argparse.Namespace) -> int:
    import torch

    from spec_decode_ros.training.recipe import Recipe, train

    if args.threads < 0 or args.seed < 0:
        raise SpecDecodeError("--threads and --seed cannot be negative")
    if args.threads:
        torch.set_num_threads(args.threads)
    name = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise SpecDecodeError(f"there is no device {name!r}: choose auto, cpu or cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SpecDecodeError("there is no CUDA device here: leave --device out, or say --device cpu")
    minutes = args.minutes
    if minutes is None:
        minutes = 20.0 if name.startswith("cuda") else 120.0
    if not math.isfinite(minutes):
        raise SpecDecodeError(f"--minutes cannot be {minutes}: training has to end")
    try:
        recipe = Recipe(args.out, args.work, args.frames, minutes, args.workers, args.seed)
    except ValueError as error:
        raise SpecDecodeError(str(error)) from error
    for folder in (args.out, args.work):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecDecodeError(f"{folder} cannot be written to: {error.strerror}") from error
    console = Console(file=sys.stderr)
    rendering = args.frames * FRAME_SECONDS / args.workers / 60
    console.print(
        f"{args.frames} frames take about {rendering:.0f} minutes with {args.workers} workers (less where they are made "
        f"already), training takes {minutes:g} minutes on {name}. For comparison, {TRAINED_ON}."
    )
    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bars: dict[str, int] = {}

        def advance(name: str, done: float, total: float) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
            progress.update(bars[name], completed=done, total=total)

        def report(phase: str, fraction: float, figures: dict[str, float]) -> None:
            advance(phase, round(1000 * fraction), 1000)
            shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
            progress.console.print(f"{time.monotonic() - start:6.0f} s  {phase}  {shown}")

        train(recipe, torch.device(name), report, lambda done, total: advance(f"{total} frames", done, total))
    console.print(
        f"The pair is in {args.out}; to use it, name that folder in a pair file and pass --pair FILE."
    )
    return 0
