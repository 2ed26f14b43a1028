"""Plot the commanded and the actual velocity of a recorded walk."""

from __future__ import annotations

import argparse
from pathlib import Path

from spec_decode_ros.commands._options import add_json, console_of, finish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("bag", type=Path, help="rosbag2, such as out/demo/demo.mcap")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="the picture; by default velocity.png beside the bag"
    )
    add_json(parser, "the figures")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 whenever there is a picture."""
    from spec_decode_ros.lab.demo.smoothness import recorded_walk

    walk = recorded_walk(args.bag, args.plot)
    return finish(args, walk.document, draw=lambda: walk.draw(console_of(args)))
