"""Write BENCHMARKS.md from the results of `bench`."""

from __future__ import annotations

import argparse
from pathlib import Path

from spec_decode_ros.commands._options import add_value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=Path, metavar="JSON", help="what `bench --json` has written")
    add_value(parser, "--out", Path("BENCHMARKS.md"), "the page", "F")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the page is written."""
    from spec_decode_ros.lab.bench.page import write_page

    write_page(args.files, args.out)
    print(args.out)
    return 0
