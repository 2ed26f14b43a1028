"""Emulated networks by name, and whether they do what they say."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_json
from spec_decode_ros.lab.network.networks import NETWORKS, network_named

SHOWN = ("rtt_ms", "jitter_ms", "uplink_mbps", "downlink_mbps", "loss")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NETWORK",
        help=f"{', '.join(NETWORKS)}, or a recorded trace ending in .csv; by default all",
    )
    parser.add_argument("--probe", action="store_true", help="send messages through each and measure")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="round trips (%(default)s)")
    parser.add_argument(
        "--json", metavar="F", help="write the result here; - is standard output, and only it"
    )


def run(args: argparse.Namespace) -> int:
    from spec_decode_ros.lab.network.link import link_process
    from spec_decode_ros.lab.network.probe import far_end, probe

    if args.count < 1:
        raise SpecDecodeError(f"--count is {args.count}: a probe needs at least one round trip")
    rows = {}
    for name in args.names or NETWORKS:
        told = network_named(name)
        rows[name] = {"told": asdict(told)}
        if args.probe:
            with far_end() as target, link_process(target, told) as endpoint:
                rows[name]["measured"] = asdict(probe(endpoint, args.count))
    if args.json != "-":
        _print(rows)
    if args.json:
        write_json(args.json, rows)
    return 0


def _print(rows: dict[str, dict[str, dict[str, float]]]) -> None:
    table = Table(box=None)
    for name in ("network", "", *SHOWN):
        table.add_column(name, justify="left" if name in ("network", "") else "right", no_wrap=True)
    for name, kinds in rows.items():
        for index, (kind, values) in enumerate(kinds.items()):
            table.add_row("" if index else name, kind, *(f"{values[key]:.4g}" for key in SHOWN))
    Console(highlight=False).print(table)
