"""Record a walk into a bag that can be replayed (ROS 2)."""

from __future__ import annotations

import argparse

from spec_decode_ros.commands._options import add_value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        metavar="DIR",
        default="",
        help="folder of the bag (by default a new one named after the time)",
    )
    parser.add_argument("--namespace", metavar="NS", default="", help="namespace of the robot")
    add_value(parser, "--max-size", 2000.0, "end at this size; 0 is no limit", "MB")
    add_value(parser, "--duration", 0.0, "end after this many seconds; 0 is no limit", "S")
    parser.add_argument("--all", action="store_true", help="record every topic, not only the project's own")


def run(args: argparse.Namespace) -> int:
    """Record until Ctrl-C or a limit; the process ends with the node's exit code."""
    import rosbags.rosbag2  # noqa: F401  its absence is named before ROS starts

    from spec_decode_ros.lab.demo.stack import ros_arguments
    from spec_decode_ros.nodes.recorder_node import main

    parameters = {
        "out": args.out,
        "max_size_mb": args.max_size,
        "max_duration": args.duration,
        "all_topics": args.all,
    }
    words = ["record", *ros_arguments(parameters)]
    if args.namespace:
        words += ["-r", f"__ns:=/{args.namespace.strip('/')}"]
    main(words)
