"""Distil the draft of a text pair from its target's own answers."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_json

PROMPTS_A_SECOND = 2.0
"""Prompts that one core answers, for the estimate of the time; measured on an AMD EPYC with bfloat16."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--pair",
        default="smollm2",
        help="the pair whose draft is made, by name or as a .yaml file (%(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out/train/smollm2/draft"),
        metavar="DIR",
        help="where the draft goes (%(default)s)",
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=Path("out/train/smollm2/answers"),
        metavar="DIR",
        help="where the target's answers go; those of an earlier run are reused (%(default)s)",
    )
    parser.add_argument(
        "--prompts", type=int, default=8000, metavar="N", help="number of training prompts (%(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, default=25.0, help="training time, after the answers (%(default)g)"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=2,
        help="processes that generate answers, training threads (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=7, help="of prompts and answers (%(default)s)")
    parser.add_argument(
        "--measure-only",
        action="store_true",
        help="train nothing: measure the pair as it is on held-out prompts",
    )
    parser.add_argument(
        "--json", metavar="F", help="write the acceptance here; - is standard output, and only it"
    )


def run(args: argparse.Namespace) -> int:
    from spec_decode_ros.lab.training.text_draft import measure, with_draft
    from spec_decode_ros.models.pair import load_pair_config

    console = Console(stderr=True, highlight=False)
    if not args.measure_only:
        _train(args, console)
    config = load_pair_config(args.pair) if args.measure_only else with_draft(args.pair, args.out)
    figures = measure(config)
    table = Table(title="acceptance on held-out prompts, four tokens drafted for a pass", box=None)
    for column in ("", "", "a token", "tokens a pass"):
        table.add_column(column)
    for way, drafters in figures.items():
        for name, found in drafters.items():
            table.add_row(way, name, f"{found.rate:.3f}", f"{found.length:.2f}")
    console.print(table)
    if not args.measure_only:
        console.print(
            f"The draft is in {args.out}; to use it, name that folder in a pair file and pass --pair FILE."
        )
    if args.json:
        document = {
            way: {
                name: {"acceptance_rate": found.rate, "accepted_length": found.length, **vars(found)}
                for name, found in drafters.items()
            }
            for way, drafters in figures.items()
        }
        write_json(args.json, document)
    return 0


def _train(args: argparse.Namespace, console: Console) -> None:
    from spec_decode_ros.lab.training.text_draft import TextDraftRun, train_draft

    if not math.isfinite(args.minutes):
        raise SpecDecodeError(f"--minutes cannot be {args.minutes}: training has to end")
    recipe = TextDraftRun(
        args.pair, args.out, args.work, args.prompts, args.minutes, args.workers, seed=args.seed
    )
    for folder in (args.out, args.work):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecDecodeError(f"{folder} cannot be written to: {error.strerror}") from error
    answering = args.prompts / PROMPTS_A_SECOND / args.workers / 60
    console.print(
        f"{args.prompts} answers take about {answering:.0f} minutes on {args.workers} cores (less where they are made "
        f"already), training takes {args.minutes:g}. An interrupted run can be resumed with the same command."
    )
    start = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        bars = {
            "held-out": progress.add_task("held-out prompts", total=None),
            "training": progress.add_task("training prompts", total=None),
            "learning": progress.add_task("training", total=1000),
        }

        def asked(which: str, done: int, total: int) -> None:
            progress.update(bars[which], completed=done, total=total)

        def report(fraction: float, figures: dict[str, float]) -> None:
            progress.update(bars["learning"], completed=round(1000 * fraction))
            shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
            console.print(f"{time.monotonic() - start:6.0f} s  {100 * fraction:3.0f} %  {shown}")

        train_draft(recipe, report, asked)
