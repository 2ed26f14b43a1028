"""Runs `spec-decode simulate` over a grid or a profile: tables, conclusion and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from spec_decode_ros.lab.bench.grid import Cell, MethodFigures, World, cells, simulate_cell
from spec_decode_ros.lab.bench.profile.profile import load_profile
from spec_decode_ros.lab.progress import tracked
from spec_decode_ros.lab.text_table import TextTable

Row = tuple[Cell, dict[str, MethodFigures]]


@dataclass(frozen=True)
class VirtualRun:
    """The figures of every method in each cell, and published speeds by method."""

    title: str
    world: World
    rows: Sequence[Row]
    published: Mapping[str, float] = field(default_factory=dict)

    def draw(self, out: Path) -> None:
        """Write the picture of a grid. Raises SpecDecodeError."""
        from spec_decode_ros.lab.bench.grid_plot import draw_grid

        draw_grid(self.rows, out)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "title": self.title,
            "world": asdict(self.world),
            "published": dict(self.published),
            "cells": [
                {**asdict(cell), "methods": {name: asdict(value) for name, value in row.items()}}
                for cell, row in self.rows
            ],
        }


def simulate_grid(actions: int) -> VirtualRun:
    """Every method in all cells of the grid."""
    world = World()
    return VirtualRun("grid", world, _rows(list(cells()), world, actions))


def simulate_profile(name: str, actions: int) -> VirtualRun:
    """Every method with the times of a profile. Raises SpecDecodeError."""
    profile = load_profile(name)
    rows = _rows(list(profile.cells(actions)), profile.world, actions)
    return VirtualRun(f"{profile.name}: {profile.source}", profile.world, rows, profile.published)


def _rows(wanted: list[Cell], world: World, actions: int) -> list[Row]:
    return [(cell, simulate_cell(cell, world, actions)) for cell in tracked(wanted, "cells")]


def print_run(console: Console, run: VirtualRun) -> None:
    """Print times to the verified action, the conclusion, and published figures."""
    console.print(run.title, style="bold")
    console.print("mean milliseconds to the verified action")
    console.print("acc.: share of drafted tokens accepted; ratio: draft over target time, a token")
    rows = []
    for cell, row in run.rows:
        best = min(figures.ttva_ms for figures in row.values())
        times = (
            Text(f"{f.ttva_ms:.0f}", "bold green") if f.ttva_ms == best else f"{f.ttva_ms:.0f}"
            for f in row.values()
        )
        rows.append([f"{cell.rtt_ms:g}", f"{cell.acceptance:g}", f"{cell.ratio:.2g}", *times])
    TextTable(["RTT", "acc.", "ratio", *run.rows[0][1]], rows, left=0).print(console)
    console.print(_conclusion(run.rows))
    if run.published:
        _published_table(run).print(console)


def _published_table(run: VirtualRun) -> TextTable:
    """Speeds as multiples of that of the cloud alone, predicted and published."""
    rows = []
    for cell, row in run.rows:
        for method in (*run.published, *({"auto"} - run.published.keys())):
            expected, found = run.published.get(method), row["cloud"].ttva_ms / row[method].ttva_ms
            published = (f"{expected:.2f}", f"{found / expected - 1:+.0%}") if expected else ("–", "–")
            rows.append([f"{cell.acceptance:g}", method, f"{found:.2f}", *published])
    columns = ["acc.", "", "predicted", "published", "difference"]
    return TextTable(columns, rows, "times as fast as the cloud alone", left=2)


def _conclusion(rows: Sequence[Row]) -> str:
    def others(row: dict[str, MethodFigures]) -> dict[str, MethodFigures]:
        return {name: figures for name, figures in row.items() if not name.startswith("auto")}

    worst = max(row["auto"].ttva_ms / min(f.ttva_ms for f in others(row).values()) for _, row in rows)
    slowest = max(row["auto cost"].ttva_ms / row["cloud"].ttva_ms for _, row in rows)
    passes = statistics.fmean(row["auto cost"].passes / row["cloud"].passes for _, row in rows)
    return (
        f"auto takes at most {worst:.2f} times as long as the best other method; auto cost at most {slowest:.2f} times as "
        f"long as the cloud alone, with {passes:.2f} times its passes on average."
    )
