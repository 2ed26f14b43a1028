"""Make, list and revoke the keys of robots and balancers that a verifier lets in."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from spec_decode_ros.json_output import write_json
from spec_decode_ros.transport.keys import make_keys, revoke, robots_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Servers that run with --keys DIR follow the folder: who is added is let in, and who is revoked is shut out, "
        "within about a second."
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
        help="make keys for this balancer, which is believed for which robot it speaks; may be repeated",
    )
    what.add_argument("--list", action="store_true", help="only say who is let in")
    what.add_argument(
        "--revoke", metavar="NAME", action="append", help="shut this robot or balancer out; may be repeated"
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write who is let in, and their public keys; - is standard output, and only it",
    )


def run(args: argparse.Namespace) -> int:
    folder = Path(args.folder)
    talks = args.json != "-"
    if args.list:
        if talks:
            _print(folder)
    elif args.revoke:
        for name in args.revoke:
            revoke(folder, name)
            if talks:
                print(f"{name} is shut out; a server that runs with these keys notices within about a second")
    else:
        made = False
        for name in args.robot or args.balancer or [None]:
            for own in make_keys(folder, name, bool(args.balancer)):
                made = True
                if talks:  # at once, as the next name may be refused
                    owner = "balancer" if args.balancer else "robot"
                    print(f"new keys: copy {own} to the {owner}, then delete it here")
        if talks:
            _say_next(folder, made)
    if args.json:
        write_json(args.json, [asdict(robot) for robot in robots_of(folder)])
    return 0


def _say_next(folder: Path, made: bool) -> None:
    if made:
        print(f"the server: spec-decode serve --bind tcp://0.0.0.0:5555 --keys {folder}")
    else:
        print(f"{folder} is complete; --robot NAME makes keys for one more robot, --list says who is let in")


def _print(folder: Path) -> None:
    table = Table(box=None)
    table.add_column("name", overflow="fold")
    table.add_column("is a", no_wrap=True, min_width=8)
    table.add_column("public key", no_wrap=True, min_width=40)
    table.add_column("its folder", no_wrap=True)
    robots = robots_of(folder)
    for robot in robots:
        kind = "balancer" if robot.balancer else "robot"
        table.add_row(robot.name, kind, robot.key, "still here" if robot.to_copy else "copied")
    if robots:
        Console(highlight=False, markup=False).print(table)
    else:
        print(f"nobody is let in; make keys for one with: spec-decode keygen {folder} --robot NAME")
