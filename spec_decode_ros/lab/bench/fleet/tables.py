"""Results of the fleet suite as tables for the terminal and as a section of the benchmark page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console

from spec_decode_ros.lab.bench.fleet.capacity import capacity
from spec_decode_ros.lab.text_table import TextTable

Cell = Callable[[Mapping[str, Any]], str]


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.{digits}f}"


def _time(name: str) -> Cell:
    return lambda load: "∞" if load["ttva_ms"][name] is None else _number(load["ttva_ms"][name])


def _of(name: str, digits: int = 1) -> Cell:
    return lambda load: _number(load[name], digits)


def _count(*names: str) -> Cell:
    return lambda load: str(sum(load[name] for name in names) or "–")


def _cores(load: Mapping[str, Any]) -> str:
    return f"{_number(load['server_cores'], 2)}+{_number(load['edge_cores'], 2)}"


_COLUMNS: dict[str, Cell] = {
    "robots": lambda load: str(load["robots"]),
    "p50": _time("p50"),
    "p95": _time("p95"),
    "p99": _time("p99"),
    "per s": _of("actions_per_s"),
    "late": _count("late_actions"),
    "failed": _count("refused_actions", "unverified_actions", "unfinished_actions"),
    "wrong": _count("wrong_actions"),
    "passes": _of("cloud_passes", 2),
    "busy ms": _of("cloud_busy_ms"),
    "passes/s": _of("passes_per_s"),
    "batch": _of("batch", 2),
    "cores": _cores,
}
_ON_PAGE_ONLY = ("wrong", "passes/s")
_WHILE_RUNNING = ("p50", "p95", "p99", "per s", "late", "failed")
_BOUNDS_MS = (80.0, 90.0, 120.0, 200.0, 300.0, 500.0)

LEGEND = (
    "p50, p95, p99: ms from the capture of a frame to its verified action, where a failed one counts as infinite; late: "
    "actions begun more than 10 ms after their frame, because their robot was busy; wrong: verified, but not the target's "
    "tokens; passes, busy ms: of an action, and of the passes that it shared; batch: actions in a pass; cores: busy ones of "
    "the server, and of all robots and the link"
)


def print_load(console: Console, way: str, load: Mapping[str, Any]) -> None:
    """One line as soon as a load is measured."""
    cells = ", ".join(f"{name} {_COLUMNS[name](load)}" for name in _WHILE_RUNNING)
    console.print(f"{way}, {load['robots']} robots: {cells}", style="dim")


def print_fleet(console: Console, fleet: Mapping[str, Any]) -> None:
    """All loads, the capacities, and the prediction."""
    shown = [name for name in _COLUMNS if name not in _ON_PAGE_ONLY]
    for way, found in fleet["ways"].items():
        table = _load_table(found["loads"], shown)
        TextTable([name.replace(" ", "\n") for name in shown], table.rows, way).print(console)
    table = capacity_table(fleet)
    TextTable(table.columns, table.rows, "robots by p95").print(console)
    console.print(LEGEND, style="dim")
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
        lines += [f"### `{way}`", "", *_load_table(found["loads"], _COLUMNS).markdown(), ""]
    lines += [
        f"{LEGEND[0].upper()}{LEGEND[1:]}.",
        "",
        "Robots that the server carries with a p95 of at most:",
        "",
    ]
    capacities = capacity_table(fleet)
    columns = ["p95, ms", *(f"`{way}`" for way in capacities.columns[1:])]
    lines += TextTable(columns, capacities.rows).markdown()
    return [*lines, "", *(f"- {line}" for line in _sentences(fleet)), ""]


def _load_table(loads: Sequence[Mapping[str, Any]], shown: Iterable[str]) -> TextTable:
    names = list(shown)
    return TextTable(names, [[_COLUMNS[name](load) for name in names] for load in loads])


def capacity_table(fleet: Mapping[str, Any]) -> TextTable:
    """Robots that each variant carries, for several bounds on the p95."""
    rows = [
        [f"{bound_ms:.0f}", *(_carried(found["loads"], bound_ms) for found in fleet["ways"].values())]
        for bound_ms in _BOUNDS_MS
    ]
    return TextTable(["p95", *fleet["ways"]], rows)


def _carried(loads: Sequence[Mapping[str, Any]], bound_ms: float) -> str:
    p95_ms = {load["robots"]: load["ttva_ms"]["p95"] for load in loads}
    found = capacity({robots: math.inf if ms is None else ms for robots, ms in p95_ms.items()}, bound_ms)
    return f"{'at least ' if found.more else ''}{found.robots:.1f}" if found.robots else "–"


def _sentences(fleet: Mapping[str, Any]) -> list[str]:
    said = []
    for bound, bound_ms in fleet["bounds_ms"].items():
        what = {
            "period": "the time between two actions",
            "given": "as asked for",
            "strict": f"1.5 times that of the fewest robots with {next(iter(fleet['ways']))}",
        }[bound]
        carried = "; ".join(
            f"{way} {_at_least(fleet, way, bound)}{found['capacity'][bound]['robots']:.1f}"
            for way, found in fleet["ways"].items()
        )
        said.append(f"Robots with a p95 of at most {bound_ms:.0f} ms ({what}): {carried}.")
    gain = fleet["gain"]
    first = next(iter(fleet["bounds_ms"]))
    for base in ("cloud", "colocated"):
        if over := gain.get(f"over_{base}"):
            times = "; ".join(
                f"{way} {_at_least(fleet, way, first)}{_number(times, 2)}"
                for way, times in over[first].items()
            )
            said.append(f"Times as many robots as {base}: {times}.")
    if predicted := gain.get("predicted"):
        compute = "; ".join(
            f"{way} {_number(times, 2)}" for way, times in gain["compute_of_colocated_over"].items()
        )
        said.append(
            f"Leaving {predicted['drafted']} draft tokens of {predicted['draft_ms']:.2f} ms before each pass of "
            f"{predicted['verify_ms']:.2f} ms to the robots should carry {predicted['gain']:.2f} times as many as colocated "
            "(1 + gamma t_draft / t_verify, arXiv 2606.25091), prompts apart; by the compute of whole actions, prompts "
            f"included, it should be {compute}."
        )
    said.append(
        "Every verified action had the tokens that the target says alone."
        if fleet["same_tokens"]
        else "**Some verified actions had other tokens than the target alone.**"
    )
    return said


def _at_least(fleet: Mapping[str, Any], way: str, bound: str) -> str:
    return "at least " if fleet["ways"][way]["capacity"][bound]["more"] else ""
