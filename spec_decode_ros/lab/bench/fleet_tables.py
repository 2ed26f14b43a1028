"""What a fleet suite found, as tables for the terminal and as lines of the benchmark page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from spec_decode_ros.lab.bench.fleet_figures import Capacity, capacity

Column = tuple[str, Callable[[Mapping[str, Any]], str]]


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.{digits}f}"


def _time(name: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda load: "∞" if load["ttva_ms"][name] is None else _number(load["ttva_ms"][name])


def _of(name: str, digits: int = 1) -> Callable[[Mapping[str, Any]], str]:
    return lambda load: _number(load[name], digits)


def _count(*names: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda load: str(sum(load[name] for name in names) or "–")


def _cores(load: Mapping[str, Any]) -> str:
    return f"{_number(load['server_cores'], 2)}+{_number(load['edge_cores'], 2)}"


_COLUMNS: tuple[Column, ...] = (
    ("robots", lambda load: str(load["robots"])),
    ("p50", _time("p50")),
    ("p95", _time("p95")),
    ("p99", _time("p99")),
    ("per s", _of("actions_per_s")),
    ("late", _count("late_actions")),
    ("failed", _count("refused_actions", "unverified_actions", "unfinished_actions")),
    ("wrong", _count("wrong_actions")),
    ("passes", _of("cloud_passes", 2)),
    ("busy ms", _of("cloud_busy_ms")),
    ("passes/s", _of("passes_per_s")),
    ("batch", _of("batch", 2)),
    ("cores", _cores),
)

_FOR_PEOPLE = (
    "robots",
    "p50",
    "p95",
    "p99",
    "per s",
    "late",
    "failed",
    "passes",
    "busy ms",
    "batch",
    "cores",
)
"""Of the columns those that fit a terminal."""

_BOUNDS_MS = (80.0, 90.0, 120.0, 200.0, 300.0, 500.0)

LEGEND = (
    "p50, p95, p99: ms from the capture of a frame to its verified action, where one that failed took for ever; late: "
    "actions begun more than 10 ms after their frame, because their robot was busy; wrong: verified, but not the target's "
    "tokens; passes, busy ms: of an action, and of the passes that it shared; batch: actions in a pass; cores: busy ones of "
    "the server, and of all robots and the link"
)


def print_load(console: Console, way: str, load: Mapping[str, Any]) -> None:
    """One line as soon as a load is measured."""
    cells = (f"{name} {cell(load)}" for name, cell in _COLUMNS[1:7])
    console.print(f"[dim]{way}, {load['robots']} robots: {', '.join(cells)}[/]")


def print_fleet(console: Console, fleet: Mapping[str, Any]) -> None:
    """All loads, the capacities, and what theory says."""
    for way, found in fleet["ways"].items():
        table = Table(title=way, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0))
        shown = [(name, cell) for name, cell in _COLUMNS if name in _FOR_PEOPLE]
        for name, _ in shown:
            table.add_column(name.replace(" ", "\n"), justify="right", no_wrap=True)
        for load in found["loads"]:
            table.add_row(*(cell(load) for _, cell in shown))
        console.print(table)
    table = Table(
        title="robots by p95", title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0)
    )
    for name in ("p95", *fleet["ways"]):
        table.add_column(name, justify="right")
    for row in _by_bound(fleet):
        table.add_row(*row)
    console.print(table)
    console.print(f"[dim]{LEGEND}[/]")
    for line in _sentences(fleet):
        console.print(line)


def fleet_lines(fleet: Mapping[str, Any]) -> list[str]:
    """The section of the benchmark page."""
    draft = fleet["draft"]
    lines = [
        f"Robots that begin {fleet['pace']['rate']:g} actions a second each, whether the last one has ended or not. Their "
        f"drafts are the draft model's own, recorded on {draft['frames']} frames of rooms that no model was trained on "
        f"({draft['prefill_ms']:.1f} ms to the first token, {draft['token_ms']:.2f} ms for each further one), and played "
        "back at that pace; server, link, sockets and decoding are the real ones.",
        "",
    ]
    for way, found in fleet["ways"].items():
        lines += [f"### `{way}`", ""]
        lines.append("| " + " | ".join(name for name, _ in _COLUMNS) + " |")
        lines.append("|---" * len(_COLUMNS) + "|")
        lines += ["| " + " | ".join(cell(load) for _, cell in _COLUMNS) + " |" for load in found["loads"]]
        lines.append("")
    lines += [
        f"{LEGEND[0].upper()}{LEGEND[1:]}.",
        "",
        "Robots that the server carries with a p95 of at most:",
        "",
    ]
    lines += ["| p95, ms | " + " | ".join(f"`{way}`" for way in fleet["ways"]) + " |"]
    lines += [
        "|---" * (1 + len(fleet["ways"])) + "|",
        *("| " + " | ".join(row) + " |" for row in _by_bound(fleet)),
    ]
    return [*lines, "", *(f"- {line}" for line in _sentences(fleet)), ""]


def _by_bound(fleet: Mapping[str, Any]) -> list[list[str]]:
    """For times that a p95 may be bound to, how many robots each way carries."""
    return [
        [f"{bound_ms:.0f}", *(_carried(found["loads"], bound_ms) for found in fleet["ways"].values())]
        for bound_ms in _BOUNDS_MS
    ]


def _carried(loads: Sequence[Mapping[str, Any]], bound_ms: float) -> str:
    found: Capacity = capacity({load["robots"]: _p95(load["ttva_ms"]["p95"]) for load in loads}, bound_ms)
    return f"{'at least ' if found.more else ''}{found.robots:.1f}" if found.robots else "–"


def _p95(value: float | None) -> float:
    return math.inf if value is None else value


def _sentences(fleet: Mapping[str, Any]) -> list[str]:
    said = []
    for bound, bound_ms in fleet["bounds_ms"].items():
        what = {
            "period": "the time between two actions",
            "given": "as asked for",
            "strict": f"1.5 times that of the fewest robots with {next(iter(fleet['ways']))}",
        }[bound]
        carried = "; ".join(f"{way} {_robots(fleet, way, bound)}" for way in fleet["ways"])
        said.append(f"Robots with a p95 of at most {bound_ms:.0f} ms ({what}): {carried}.")
    gain = fleet["gain"]
    for base in ("cloud", "colocated"):
        if over := gain.get(f"over_{base}"):
            first = next(iter(fleet["bounds_ms"]))
            times = "; ".join(
                f"{way} {_at_least(fleet, way, first)}{_number(times, 2)}"
                for way, times in over[first].items()
            )
            said.append(f"Times as many robots as {base}: {times}.")
    if told := gain.get("predicted"):
        compute = "; ".join(
            f"{way} {_number(times, 2)}" for way, times in gain["compute_of_colocated_over"].items()
        )
        said.append(
            f"Leaving {told['drafted']} draft tokens of {told['draft_ms']:.2f} ms before each pass of "
            f"{told['verify_ms']:.2f} ms to the robots should carry {told['gain']:.2f} times as many as colocated "
            "(1 + gamma t_draft / t_verify, arXiv 2606.25091), prompts apart; by the compute of whole actions, prompts "
            f"included, it should be {compute}."
        )
    said.append(
        "Every verified action had the tokens that the target says alone."
        if fleet["same_tokens"]
        else "**Some verified actions had other tokens than the target alone.**"
    )
    return said


def _robots(fleet: Mapping[str, Any], way: str, bound: str) -> str:
    return f"{_at_least(fleet, way, bound)}{fleet['ways'][way]['capacity'][bound]['robots']:.1f}"


def _at_least(fleet: Mapping[str, Any], way: str, bound: str) -> str:
    return "at least " if fleet["ways"][way]["capacity"][bound]["more"] else ""
