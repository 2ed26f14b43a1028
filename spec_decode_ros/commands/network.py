"""List the emulated networks, and measure whether they do what they say."""

from __future__ import annotations

import argparse

from spec_decode_ros.commands._options import add_json, add_value, finish
from spec_decode_ros.lab.network.link_profile import NETWORKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NETWORK",
        help=f"{', '.join(NETWORKS)}, or a recorded trace ending in .csv; by default all",
    )
    parser.add_argument("--probe", action="store_true", help="measure each network")
    add_value(parser, "--count", 1000, "round trips", "N", low=1)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when every network is known."""
    from spec_decode_ros.console import PlainConsole
    from spec_decode_ros.lab.network.networks_report import describe_networks, print_networks

    rows = describe_networks(args.names or NETWORKS, args.count if args.probe else 0)
    if args.json != "-":
        print_networks(PlainConsole(), rows)
    return finish(args, rows)
