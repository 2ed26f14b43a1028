"""Write a room of the simulation as a world for Gazebo."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from spec_decode_ros.errors import SpecDecodeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="of the room, the same as that of `spec-decode eval` and sim.launch.py (%(default)s)",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="the .sdf file to write; by default room_N.sdf in this folder"
    )


def run(args: argparse.Namespace) -> int:
    from spec_decode_ros.sim.sdf import CONE_FILE, cone_obj, needs_cone, to_sdf
    from spec_decode_ros.sim.task import make_task

    if args.seed < 0:
        raise SpecDecodeError(f"--seed is {args.seed}: give 0 or more")
    path = Path(args.out or f"room_{args.seed}.sdf")
    if path.suffix not in (".sdf", ".world"):
        raise SpecDecodeError(f"Gazebo takes worlds from files that end in .sdf: {path} does not")
    task = make_task(args.seed)
    files = {path: to_sdf(task.scene, re.sub(r"[^\w-]", "_", path.stem))}
    if needs_cone(task.scene):
        files[path.with_name(CONE_FILE)] = cone_obj()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise SpecDecodeError(f"{error.filename} can't be written: {error.strerror}") from error
    print(f"wrote {' and '.join(str(file) for file in files)}")
    print(f"in the room: {', '.join(thing.name for thing in task.scene.objects)}")
    print(f"to walk in it: ros2 launch spec_decode_ros gazebo.launch.py world:={path.resolve()}")
    return 0
