"""Write a room of the simulation as a world for Gazebo."""

from __future__ import annotations

import argparse
from pathlib import Path

from spec_decode_ros.commands._options import add_value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_value(parser, "--seed", 1, "seed of the room, as in `spec-decode eval` and sim.launch.py", "N", low=0)
    parser.add_argument(
        "--out", metavar="FILE", help="the .sdf file to write; by default room_N.sdf in this folder"
    )
    parser.add_argument(
        "--fortress",
        action="store_true",
        help="for Gazebo Fortress; gazebo.launch.py needs no such file, it changes what it is given",
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the world is written."""
    from spec_decode_ros.sim.sdf import write_world
    from spec_decode_ros.sim.task import make_task

    path, scene = Path(args.out or f"room_{args.seed}.sdf"), make_task(args.seed).scene
    print(f"wrote {' and '.join(str(file) for file in write_world(scene, path, args.fortress))}")
    print(f"in the room: {', '.join(thing.name for thing in scene.objects)}")
    print(f"to walk in it: ros2 launch spec_decode_ros gazebo.launch.py world:={path.resolve()}")
    return 0
