"""Progress bars on standard error, shown where that is a terminal."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from spec_decode_ros.console import PlainConsole

Item = TypeVar("Item")


@contextlib.contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar that vanishes at its end; yields what moves it on by one and describes where it is."""
    name, place = TextColumn(what, markup=False), TextColumn("{task.description}", markup=False)
    with Progress(
        name,
        BarColumn(),
        MofNCompleteColumn(),
        place,
        TimeRemainingColumn(),
        console=PlainConsole(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda description: bar.update(task, advance=1, description=description)


def tracked(items: Sequence[Item], what: str) -> Iterable[Item]:
    """The items, with a bar that tells how many are done."""
    return track(
        items, what, console=PlainConsole(stderr=True), transient=True, disable=not sys.stderr.isatty()
    )
