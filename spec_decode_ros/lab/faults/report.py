"""Runs `spec-decode faults`: tries cases, prints each result, and makes the table and the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.demo.go2 import Go2Stack
from spec_decode_ros.lab.faults.cases import CASES, QUICK, Case
from spec_decode_ros.lab.faults.rig import OPEN_ROOM, running_rig
from spec_decode_ros.lab.faults.trial import LIMIT_S, FaultResult, slowest, try_cases
from spec_decode_ros.lab.text_table import TextTable


def print_cases(console: Console) -> None:
    """Print the name of each case and its hazard."""
    for case in CASES:
        console.print(f"{case.name:16} {case.hazard}")


def cases_named(names: str | None, quick: bool) -> list[Case]:
    """Cases by names separated by commas; without names the quick ones, or all. Raises SpecDecodeError."""
    known = {case.name: case for case in CASES}
    chosen = names.split(",") if names else list(QUICK if quick else known)
    for name in chosen:
        if name not in known:
            raise SpecDecodeError(f"there is no case {name!r}: choose from {', '.join(known)}")
    return [known[name] for name in chosen]


def run_faults(options: Go2Stack, cases: Sequence[Case], repeats: int, console: Console) -> dict[str, Any]:
    """Try each case `repeats` times, and return the results for JSON. Raises SpecDecodeError."""
    console.print("Starting the robot, its nodes, the link and the verifier …")

    def show(outcome: FaultResult) -> None:
        colour = "green" if outcome.passed else "red"
        console.print(Text(f"{outcome.hazard} … ") + Text(_seconds(outcome.stop_s), colour))

    with running_rig(options) as rig:
        tries = try_cases(rig, cases, repeats, show)
    outcomes = slowest(tries)
    print_faults(console, outcomes, len(tries), options.out)
    return {
        "limit_s": LIMIT_S,
        "passed": all(outcome.passed for outcome in outcomes),
        "pair": options.pair,
        "rtt_ms": options.rtt_ms,
        "seed": OPEN_ROOM,
        "repeats": repeats,
        "rows": [outcome.as_row() for outcome in outcomes],
        "tries": [outcome.as_row() for outcome in tries],
    }


def print_faults(console: Console, outcomes: Sequence[FaultResult], tries: int, logs: Path) -> None:
    """Print a row for each fault, and the slowest stop."""
    rows = []
    for outcome in outcomes:
        stop = _seconds(outcome.stop_s)
        cells = (
            outcome.hazard,
            stop if outcome.passed else Text(stop, "red"),
            "" if outcome.way_m is None else f"{outcome.way_m:.2f} m",
            "" if outcome.stand_s is None else _seconds(outcome.stand_s),
            _seconds(outcome.recovered_s) + ("" if outcome.resumes else " *"),
        )
        rows.append(cells)
    columns = ["fault", "told to stop", "way", "stands", "walks again"]
    TextTable(columns, rows, "From the fault to the stop, at the robot's end of DDS").print(console)
    worst = max((o.stop_s if o.stop_s is not None else float("inf") for o in outcomes), default=0.0)
    console.print(
        f"slowest stop {worst:.3f} s in {tries} tries, at most {LIMIT_S} s are allowed; * after a new command, "
        f"the others by themselves; logs in {logs}"
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.3f} s"
