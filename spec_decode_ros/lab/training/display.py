"""What people see of a training run, and the folders that it writes to."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from spec_decode_ros.errors import SpecDecodeError

Advance = Callable[[str, float, float], None]
"""Told the name of a bar, how much is done, and of how much."""

Tell = Callable[[str, dict[str, float]], None]
"""Told a phase, and what was measured."""


@contextlib.contextmanager
def training_display(console: Console, disable: bool = False) -> Iterator[tuple[Advance, Tell]]:
    """Bars for the parts of a run, and a line for each report; yields what hears of both."""
    start = time.monotonic()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=disable) as progress:
        bars: dict[str, Any] = {}

        def advance(name: str, done: float, total: float) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total)
            progress.update(bars[name], completed=done, total=total)

        yield advance, lambda phase, figures: console.print(progress_line(start, phase, figures))


def progress_line(start: float, phase: str, figures: dict[str, float]) -> str:
    """A report as one line, with the seconds since `start` of `time.monotonic`."""
    shown = "  ".join(f"{key} {value:.4g}" for key, value in figures.items())
    return f"{time.monotonic() - start:6.0f} s  {phase}  {shown}"


def make_folders(*folders: Path) -> None:
    """Make them where they are not there. Raises SpecDecodeError, before the work begins."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecDecodeError(f"{folder} cannot be written to: {error.strerror}") from error
