"""Make, list and revoke the keys of robots and balancers."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from spec_decode_ros.commands._options import add_json, finish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Servers that run with --keys DIR follow the folder: changes take effect within about a second."
    )
    parser.add_argument("folder", metavar="DIR", help="the server's key folder; made if it is not there")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--robot", metavar="NAME", action="append", help="make keys for this robot; may be repeated"
    )
    what.add_argument(
        "--balancer",
        metavar="NAME",
        action="append",
        help="make keys for this balancer, which is trusted to name its robots; may be repeated",
    )
    what.add_argument("--list", action="store_true", help="list the robots and balancers that are let in")
    what.add_argument(
        "--revoke", metavar="NAME", action="append", help="shut this robot or balancer out; may be repeated"
    )
    add_json(parser, "who is let in, and their public keys,")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when everything was done."""
    from spec_decode_ros.server.key_admin import make_all, print_robots, revoke_all
    from spec_decode_ros.transport.keys import robots_of

    folder, silent = Path(args.folder), args.json == "-"
    say = (lambda line: None) if silent else print
    if args.revoke:
        revoke_all(folder, args.revoke, say)
    elif not args.list:
        make_all(folder, args.robot or args.balancer or [None], bool(args.balancer), say)
    elif not silent:
        print_robots(folder)
    return finish(args, [asdict(robot) for robot in robots_of(folder)] if args.json else None)
