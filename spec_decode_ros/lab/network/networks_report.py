"""The emulated networks as a table, and what a probe measures of each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from spec_decode_ros.lab.network.link import link_process
from spec_decode_ros.lab.network.link_profile import network_named
from spec_decode_ros.lab.network.probe import far_end, probe

SHOWN = ("rtt_ms", "jitter_ms", "uplink_mbps", "downlink_mbps", "loss")


def describe_networks(names: Iterable[str], round_trips: int) -> dict[str, dict[str, Any]]:
    """What each is told to do and, with round trips, what was measured. Raises SpecDecodeError."""
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        told = network_named(name)
        rows[name] = {"told": asdict(told)}
        if round_trips:
            with far_end() as target, link_process(target, told) as endpoint:
                rows[name]["measured"] = asdict(probe(endpoint, round_trips))
    return rows


def print_networks(console: Console, rows: dict[str, dict[str, Any]]) -> None:
    """A row for what is told and for what was measured."""
    table = Table(box=None)
    for name in ("network", "", *SHOWN):
        table.add_column(name, justify="left" if name in ("network", "") else "right", no_wrap=True)
    for name, kinds in rows.items():
        for index, (kind, values) in enumerate(kinds.items()):
            table.add_row("" if index else name, kind, *(f"{values[key]:.4g}" for key in SHOWN))
    console.print(table)
