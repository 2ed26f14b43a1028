"""Rebuild a shipped pair: frames, target, draft."""

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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spec_decode_ros.errors import SpecDecodeError

if TYPE_CHECKING:
    import torch

FRAME_SECONDS = {"tiny": 0.012, "small": 0.014}
"""Of one core, with OpenGL."""

TRAINED_ON = (
    "the shipped target had about two hours and the draft half an hour, on two busy cores of an AMD EPYC with "
    "bfloat16"
)
MINUTES = {"tiny": (120.0, 20.0), "small": (2000.0, 18.0)}
"""Of learning by default, on a CPU and on a GPU."""

FRAMES = {"tiny": 64_000, "small": 96_000}
BATCH = {"cpu": 8, "cuda": 96}
TO_BE_CONTINUED = 75
"""Exit code of a run that stopped where it was told to, before the end."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pair", choices=tuple(FRAMES), default="tiny", help="which pair (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the pair goes (out/train/PAIR)")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="where the frames go (out/train/data, for small OUT/work)"
    )
    parser.add_argument("--frames", type=int, metavar="N", help="to render; 64000, for small 96000")
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="of learning; 20 on a GPU for tiny, 18 for small"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes that render (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 leaves the choice to torch")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of frames and weights (%(default)s)")
    small = parser.add_argument_group("of the pair small")
    small.add_argument(
        "--resume", type=Path, metavar="DIR", help="go on with what an earlier run left in its --out"
    )
    small.add_argument(
        "--stop-after",
        type=float,
        metavar="M",
        help=f"pause so many minutes from now with exit code {TO_BE_CONTINUED}; the same command goes on",
    )
    small.add_argument(
        "--batch", type=int, metavar="N", help=f"frames a step; {BATCH['cuda']} on a GPU, else {BATCH['cpu']}"
    )
    small.add_argument(
        "--language",
        metavar="LM",
        help="the target's language model: a folder, or module:<package>/<file>.gguf",
    )


def run(args: argparse.Namespace) -> int:
    import torch

    if args.threads < 0 or args.seed < 0:
        raise SpecDecodeError("--threads and --seed cannot be negative")
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(_device(args.device))
    minutes = MINUTES[args.pair][device.type == "cuda"] if args.minutes is None else args.minutes
    if not math.isfinite(minutes):
        raise SpecDecodeError(f"--minutes cannot be {minutes}: training has to end")
    frames = FRAMES[args.pair] if args.frames is None else args.frames
    if args.pair == "small":
        return _small(args, device, minutes, frames)
    if args.resume or args.stop_after or args.batch or args.language:
        raise SpecDecodeError("--resume, --stop-after, --batch and --language go with --pair small")
    return _tiny(args, device, minutes, frames)


def _device(name: str) -> str:
    import torch

    name = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise SpecDecodeError(f"there is no device {name!r}: choose auto, cpu or cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise SpecDecodeError("there is no CUDA device here: leave --device out, or say --device cpu")
    return name


def _tiny(args: argparse.Namespace, device: torch.device, minutes: float, frames: int) -> int:
    from spec_decode_ros.lab.training.recipe import TrainingRun, train

    out, work = args.out or Path("out/train/tiny"), args.work or Path("out/train/data")
    try:
        recipe = TrainingRun(out, work, frames, minutes, args.workers, args.seed)
    except ValueError as error:
        raise SpecDecodeError(str(error)) from error
    with _run(args, out, work, frames, minutes, device) as (report, frames_made):
        train(recipe, device, report, frames_made)
    _goodbye(f"The pair is in {out}; to use it, name that folder in a pair file and pass --pair FILE.")
    return 0


def _small(args: argparse.Namespace, device: torch.device, minutes: float, frames: int) -> int:
    from spec_decode_ros.lab.training.fit import Paused
    from spec_decode_ros.lab.training.small import LANGUAGE, PROGRESS, Plan, train_small, write_pair

    out = args.resume or args.out or Path("out/train/small")
    work = args.work or out / "work"
    if args.resume and args.out and args.resume != args.out:
        raise SpecDecodeError("--resume names the folder that the pair goes to: leave --out away")
    if args.resume and not ((out / PROGRESS).exists() or work.is_dir()):
        raise SpecDecodeError(f"there is nothing to go on with in {out}: leave --resume away to begin")
    if args.stop_after is not None and not 0 < args.stop_after < math.inf:
        raise SpecDecodeError(f"--stop-after must be some minutes, not {args.stop_after}")
    until = time.monotonic() + 60 * args.stop_after if args.stop_after else math.inf
    plan = Plan(
        out,
        work,
        args.language or LANGUAGE,
        frames=frames,
        driven=max(frames // 6, 1),
        held_out=min(1000, frames),
        minutes=minutes,
        batch=args.batch or min(BATCH[device.type], max(1, frames // 6)),
        workers=args.workers,
        seed=args.seed,
    )
    try:
        with _run(args, out, work, frames, minutes, device) as (report, frames_made):
            train_small(plan, device, report, frames_made, until)
    except Paused:
        _goodbye(f"Paused after {args.stop_after:g} minutes; the same command goes on.")
        return TO_BE_CONTINUED
    _goodbye(f"The pair is in {out}; to use it, pass --pair {write_pair(plan)}.")
    return 0


@contextlib.contextmanager
def _run(
    args: argparse.Namespace, out: Path, work: Path, frames: int, minutes: float, device: torch.device
) -> Iterator[tuple[Callable[[str, float, dict[str, float]], None], Callable[[int, int], None]]]:
    """Folders and a display; yields what hears of phases, and of frames."""
    for folder in (out, work):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecDecodeError(f"{folder} cannot be written to: {error.strerror}") from error
    console = Console(file=sys.stderr)
    rendering = frames * FRAME_SECONDS[args.pair] / max(1, args.workers) / 60
    console.print(
        f"{frames} frames take about {rendering:.0f} minutes with {args.workers} workers (less where they are made "
        f"already), training takes {minutes:g} minutes on {device}."
        + (f" For comparison, {TRAINED_ON}." if args.pair == "tiny" else "")
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

        yield report, lambda done, total: advance(f"{total} frames", done, total)


def _goodbye(sentence: str) -> None:
    Console(file=sys.stderr).print(sentence, soft_wrap=True)
