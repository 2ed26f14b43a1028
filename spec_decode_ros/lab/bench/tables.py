"""A comparison as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from spec_decode_ros.lab.bench.bound import bound_ms, overhead_ms
from spec_decode_ros.lab.bench.comparison import MethodComparison, Spread, early_exit_hits
from spec_decode_ros.lab.bench.suite import NamedLink

SHOWN = ("ttva_ms", "ttfa_ms", "cloud_passes", "cloud_busy_ms", "acceptance_rate", "round_trips")


def agree(comparison: MethodComparison) -> bool:
    """Whether every method gave the same tokens."""
    first, *others = comparison.results
    return all(comparison.agreement(first, other) == len(comparison.samples) for other in others)


def print_comparison(
    console: Console,
    link: NamedLink,
    comparison: MethodComparison,
    *,
    separate: bool = False,
    shown: Sequence[str] = SHOWN,
) -> None:
    """Print every method's figures through one link; with `separate` rejection sampling tokens may differ."""
    table = Table(title=f"{link.name}: medians (quartiles) of {len(comparison.samples)} samples", box=None)
    table.add_column("", no_wrap=True)
    for metric in shown:
        table.add_column(metric.replace("_", "\n", 1), justify="right", no_wrap=True)
    for method in comparison.results:
        spreads = [comparison.spread(method, metric) for metric in shown]
        table.add_row(method, *map(_cell, shown, spreads))
    console.print(table)
    _print_bound(console, link, comparison)
    _print_foresight(console, comparison)
    if separate:
        _print_rejections(console, comparison)
    else:
        same = "the same tokens from every method"
        console.print(same if agree(comparison) else "the methods differ in their tokens")


def _cell(metric: str, spread: Spread | None) -> str:
    """The median, and the quartiles below it."""
    if spread is None:
        return "–"
    digits = 2 if metric == "acceptance_rate" else 1
    low, high = (f"{value:.{digits}f}".rstrip("0").rstrip(".") for value in (spread.low, spread.high))
    return f"{spread.median:.{digits}f}\n[dim]{low}–{high}[/]"


def _print_bound(console: Console, link: NamedLink, comparison: MethodComparison) -> None:
    bound, rest = bound_ms(comparison, link.profile), overhead_ms(comparison, link.profile)
    if bound is None:
        return
    line = f"upload + RTT + prefill: {bound.median:.1f} ms"
    auto = comparison.spread("auto", "ttva_ms") if "auto" in comparison.results else None
    if auto:
        line += f"; auto takes {auto.median / bound.median:.2f} times that"
    if rest:
        line += f", {rest.median:.1f} ms of it beside target and link"
    console.print(line)


def _print_foresight(console: Console, comparison: MethodComparison) -> None:
    for method, told in early_exit_hits(comparison).items():
        console.print(
            f"{method}: {told['hit_rate']:.0%} of {told['foresights']:.0f} foresights were hits; of the drafting after "
            f"them {told['saved_ms']:.0f} ms were used and {told['wasted_ms']:.0f} ms wasted"
        )


def _print_rejections(console: Console, comparison: MethodComparison) -> None:
    """What the rejections of separate rejection sampling sent."""
    stats = [result.stats for results in comparison.results.values() for result in results]
    sizes = [float(found["rejection_bytes"] or 0) for found in stats if found["rejections"]]
    if not sizes:
        console.print("nothing was rejected")
        return
    console.print(
        f"{sum(int(found['rejections'] or 0) for found in stats)} rejections, {Spread.of(sizes).median:.0f} bytes each "
        "(median)"
    )
