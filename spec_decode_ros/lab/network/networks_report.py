"""Runs `spec-decode network`: the emulated networks, and what a probe measures of each, as a table and JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.console import Console

from spec_decode_ros.lab.network.link import link_process
from spec_decode_ros.lab.network.link_profile import network_named
from spec_decode_ros.lab.network.probe import far_end, probe
from spec_decode_ros.lab.text_table import TextTable

SHOWN = ("rtt_ms", "jitter_ms", "uplink_mbps", "downlink_mbps", "loss")


def describe_networks(names: Iterable[str], round_trips: int) -> dict[str, dict[str, Any]]:
    """The profile of each and, with `round_trips` above 0, what a probe measured. Raises SpecDecodeError."""
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        profile = network_named(name)
        rows[name] = {"profile": asdict(profile)}
        if round_trips:
            with far_end() as target, link_process(target, profile) as endpoint:
                rows[name]["measured"] = asdict(probe(endpoint, round_trips))
    return rows


def print_networks(console: Console, rows: dict[str, dict[str, Any]]) -> None:
    """Print a row for each profile and for each measurement."""
    table = [
        ["" if index else name, kind, *(f"{values[key]:.4g}" for key in SHOWN)]
        for name, kinds in rows.items()
        for index, (kind, values) in enumerate(kinds.items())
    ]
    TextTable(["network", "", *SHOWN], table, left=2).print(console)
