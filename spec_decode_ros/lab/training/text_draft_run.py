"""Making the draft of a text pair, or measuring it, told to people as it goes."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from spec_decode_ros.lab.training.display import make_folders, training_display
from spec_decode_ros.lab.training.text_draft import TextDraftRun, measure, train_draft
from spec_decode_ros.models.pair_config import PairConfig

PROMPTS_A_SECOND = 2.0
"""Prompts that one core answers, for the estimate of the time; measured on an AMD EPYC with bfloat16."""


def make_draft(recipe: TextDraftRun, console: Console) -> None:
    """Make the draft, or go on making it. Raises SpecDecodeError."""
    make_folders(recipe.out, recipe.work)
    answering = recipe.prompts / PROMPTS_A_SECOND / recipe.workers / 60
    console.print(
        f"{recipe.prompts} answers take about {answering:.0f} minutes on {recipe.workers} cores (less where they are "
        f"made already), training takes {recipe.minutes:g}. An interrupted run can be resumed with the same command."
    )
    bars = {"held-out": "held-out prompts", "training": "training prompts"}
    with training_display(console, disable=not sys.stderr.isatty()) as (advance, tell):

        def report(fraction: float, figures: dict[str, float]) -> None:
            advance("training", round(1000 * fraction), 1000)
            tell(f"{100 * fraction:3.0f} %", figures)

        train_draft(recipe, report, lambda which, done, total: advance(bars[which], done, total))


def measure_draft(config: PairConfig, console: Console) -> dict[str, Any]:
    """Print the acceptance on held-out prompts, and return it for JSON. Raises SpecDecodeError."""
    figures = measure(config)
    table = Table(title="acceptance on held-out prompts, four tokens drafted for a pass", box=None)
    for column in ("", "", "a token", "tokens a pass"):
        table.add_column(column)
    for way, drafters in figures.items():
        for name, found in drafters.items():
            table.add_row(way, name, f"{found.rate:.3f}", f"{found.length:.2f}")
    console.print(table)
    return {
        way: {
            name: {"acceptance_rate": found.rate, "accepted_length": found.length, **vars(found)}
            for name, found in drafters.items()
        }
        for way, drafters in figures.items()
    }
