"""Every method in virtual time: over a grid of networks and pairs, from a profile of times, or for a whole fleet."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spec_decode_ros.commands import _simulate_fleet
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_json
from spec_decode_ros.lab.bench.grid import Cell, Figures, World, cells, compare
from spec_decode_ros.lab.bench.profiles import load_profile, profile_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--profile", metavar="P", help=f"times to use: {', '.join(profile_names())}, or a .yaml file"
    )
    what.add_argument(
        "--grid", action="store_true", help="round-trip times, acceptances and draft speeds, crossed"
    )
    parser.add_argument(
        "--actions", type=int, default=40, metavar="N", help="actions per method and cell (%(default)s)"
    )
    parser.add_argument("--plot", metavar="F", help="write the picture of a grid or a fleet here")
    parser.add_argument(
        "--json", metavar="F", help="write the result here; - is standard output, and only it"
    )
    _simulate_fleet.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.fleet:
        return _simulate_fleet.run(args)
    _simulate_fleet.refuse_arguments(args)
    if not (args.grid or args.profile):
        raise SpecDecodeError("say what to simulate: --profile P, --grid or --fleet")
    if args.actions < 2:
        raise SpecDecodeError("--actions has to be at least 2, or there is no spread")
    if args.plot and not args.grid:
        raise SpecDecodeError("--plot draws a grid or a fleet: add --grid or --fleet")
    published: Mapping[str, float] = {}
    if args.grid:
        title, world, wanted = "grid", World(), list(cells())
    else:
        profile = load_profile(args.profile)
        title, world = f"{profile.name}: {profile.source}", profile.world
        wanted, published = list(profile.cells(args.actions)), profile.published
    rows = _rows(wanted, world, args.actions)
    if args.plot:
        from spec_decode_ros.lab.bench.grid_plot import draw_grid

        draw_grid(rows, Path(args.plot))
    if args.json != "-":
        _print(title, rows)
        _print_published(rows, published)
    if args.json:
        document = [
            {**asdict(cell), "methods": {name: asdict(value) for name, value in row.items()}}
            for cell, row in rows
        ]
        write_json(
            args.json,
            {"title": title, "world": asdict(world), "published": dict(published), "cells": document},
        )
    return 0


def _rows(wanted: list[Cell], world: World, actions: int) -> list[tuple[Cell, dict[str, Figures]]]:
    from rich.progress import track

    shown = track(
        wanted, "cells", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()
    )
    return [(cell, compare(cell, world, actions)) for cell in shown]


def _print(title: str, rows: list[tuple[Cell, dict[str, Figures]]]) -> None:
    console = Console(highlight=False)
    console.print(f"[bold]{title}[/]\nmean milliseconds to the verified action")
    console.print("acc.: share of drafted tokens accepted; ratio: draft over target time, a token")
    table = Table(box=None, padding=(0, 1, 0, 0))
    for name in ("RTT", "acc.", "ratio", *rows[0][1]):
        table.add_column(name, justify="right", no_wrap=True)
    for cell, row in rows:
        best = min(figures.ttva_ms for figures in row.values())
        times = (
            f"[bold green]{f.ttva_ms:.0f}[/]" if f.ttva_ms == best else f"{f.ttva_ms:.0f}"
            for f in row.values()
        )
        table.add_row(f"{cell.rtt_ms:g}", f"{cell.acceptance:g}", f"{cell.ratio:.2g}", *times)
    console.print(table)
    console.print(_verdict(rows))


def _print_published(rows: list[tuple[Cell, dict[str, Figures]]], published: Mapping[str, float]) -> None:
    """How many times as fast as the cloud alone, predicted beside published."""
    if not published:
        return
    table = Table(title="times as fast as the cloud alone", box=None, padding=(0, 1, 0, 0))
    for name in ("acc.", "", "predicted", "published", "difference"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for cell, row in rows:
        for method in (*published, *({"auto"} - published.keys())):
            told, found = published.get(method), row["cloud"].ttva_ms / row[method].ttva_ms
            beside = (f"{told:.2f}", f"{found / told - 1:+.0%}") if told else ("–", "–")
            table.add_row(f"{cell.acceptance:g}", method, f"{found:.2f}", *beside)
    Console(highlight=False).print(table)


def _verdict(rows: list[tuple[Cell, dict[str, Figures]]]) -> str:
    def others(row: dict[str, Figures]) -> dict[str, Any]:
        return {name: figures for name, figures in row.items() if not name.startswith("auto")}

    worst = max(row["auto"].ttva_ms / min(f.ttva_ms for f in others(row).values()) for _, row in rows)
    fewest = all(row["auto cost"].passes <= min(f.passes for f in others(row).values()) for _, row in rows)
    passes = (
        "never takes more passes than any of them" if fewest else "does not always take the fewest passes"
    )
    return f"auto takes at most {worst:.2f} times as long as the best other method; auto cost {passes}."
