"""Drive a robot in plain language from a terminal (ROS 2)."""

from __future__ import annotations

import argparse
import os
import re

from spec_decode_ros.commands._options import add_number
from spec_decode_ros.errors import SpecDecodeError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--namespace", default="", help="the robot's ROS namespace, where there are several")
    add_number(
        parser, "--domain", int, "ROS_DOMAIN_ID of the robot (default: that of the shell)", low=0, high=232
    )
    parser.add_argument("--command", default="", help="first command")
    parser.add_argument(
        "--motion-node", default="motion_node", help="name of the node with the emergency stop"
    )
    parser.add_argument("--night", action="store_true", help="light on dark; F2 changes it at any time")


def run(args: argparse.Namespace) -> int:
    """Run the terminal until the operator leaves; does not return."""
    if args.domain is not None:
        os.environ["ROS_DOMAIN_ID"] = str(args.domain)
    if args.night:
        os.environ["SPEC_DECODE_TELEOP_PALETTE"] = "night"
    from spec_decode_ros.nodes.teleop_node import main

    main(["teleop_node", *ros_arguments(args)])


def ros_arguments(args: argparse.Namespace) -> list[str]:
    """The options as a ROS 2 command line has them."""
    words = ["--ros-args"]
    namespace = args.namespace.strip("/")
    if namespace:
        if not re.fullmatch(r"[A-Za-z_]\w*(/[A-Za-z_]\w*)*", namespace, re.ASCII):
            raise SpecDecodeError(
                f"{args.namespace!r} is no ROS namespace: letters, digits and _ between slashes, as in fleet/rex"
            )
        words += ["-r", f"__ns:=/{namespace}"]
    for name, value in (("command", args.command), ("motion_node", args.motion_node)):
        quoted = "'" + value.replace("'", "''") + "'"
        words += ["-p", f"{name}:={quoted}"]
    return words
