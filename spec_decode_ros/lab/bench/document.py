"""What a suite found, as the JSON document from which tables, plots and pages are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from spec_decode_ros.lab.bench.bound import bound_ms, overhead_ms
from spec_decode_ros.lab.bench.comparison import MethodComparison, Spread, early_exit_hits
from spec_decode_ros.lab.bench.machine import machine
from spec_decode_ros.lab.bench.suite import NamedLink
from spec_decode_ros.lab.network.link import LinkProfile


def document(
    suite: str, pair: str, command: str, results: Sequence[tuple[NamedLink, MethodComparison]], **more: Any
) -> dict[str, Any]:
    """Everything that a reader needs to run it again and to compare.

    Args:
        suite: its name.
        pair: the pair's name.
        command: what was typed.
        results: one comparison for each link.
        more: what else belongs to this suite.
    """
    return {**heading(suite, pair, command), **more, "links": [_link(*result) for result in results]}


def heading(suite: str, pair: str, command: str) -> dict[str, Any]:
    """What every document begins with: what was run, and on what."""
    return {"suite": suite, "pair": pair, "command": command, "machine": machine()}


def _link(link: NamedLink, comparison: MethodComparison) -> dict[str, Any]:
    plain = asdict(LinkProfile())
    first, *others = comparison.results
    return {
        "name": link.name,
        "rtt_ms": link.profile.rtt_ms,
        "profile": {name: value for name, value in asdict(link.profile).items() if value != plain[name]},
        "samples": len(comparison.samples),
        "same_tokens": {name: comparison.agreement(first, name) for name in others},
        "bound_ms": _plain(bound_ms(comparison, link.profile)),
        "overhead_ms": _plain(overhead_ms(comparison, link.profile)),
        "methods": comparison.as_dict(),
        "early_exit": early_exit_hits(comparison),
    }


def _plain(spread: Spread | None) -> dict[str, float] | None:
    return spread.as_dict() if spread else None
