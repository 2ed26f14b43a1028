"""Plot what the robot of a recorded walk was told and what it did, and say how smooth it was."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument("bag", type=Path, help="rosbag2, such as out/demo/demo.mcap")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="where to draw it (velocity.png beside the bag)"
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the figures here; - is standard output, and only it"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 whenever there is a picture."""
    from dataclasses import asdict

    from rich.console import Console

    from spec_decode_ros.json_output import write_json
    from spec_decode_ros.lab.demo.walk import read_walk
    from spec_decode_ros.viz.velocity import draw_velocity, smoothness

    console = Console(highlight=False, stderr=args.json == "-")
    walk = read_walk(args.bag)
    found = smoothness(walk)
    folder = args.bag if args.bag.is_dir() else args.bag.parent
    caption = (
        f"{found.actions} verified actions in {found.span_s:.1f} s, {found.halts} halts between them; "
        f"commanded at most {found.max_ax:.1f} m/s² and {found.max_aw:.1f} rad/s²"
    )
    plot = draw_velocity(
        walk, args.plot or folder / "velocity.png", title="Commanded and actual velocity", subtitle=caption
    )
    console.print(f"{caption}\n{plot}")
    if args.json:
        write_json(args.json, {**asdict(found), "plot": str(plot)})
    return 0
