"""Serve the target model of a pair to robots, without ROS."""

from __future__ import annotations

import argparse
import sys

from spec_decode_ros.commands._options import add_with_parent
from spec_decode_ros.commands._settings import add_settings, resolved_settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Each setting can also stand in the file (bind: tcp://0.0.0.0:5555) or in the environment "
        "(SPEC_DECODE_BIND=tcp://0.0.0.0:5555); the command line wins over the environment, that over the file."
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the settings in force and where each is from, and end",
    )
    add_settings(parser)
    parser.add_argument("--new-robot", metavar="NAME", help="with --keys: make keys for one more robot")
    add_with_parent(parser, ", as a child process should, and take nothing from the environment")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when it was told to end."""
    from spec_decode_ros.server.service_process import serve

    resolved = resolved_settings(args)
    if args.print_config:
        sys.stdout.write(resolved.as_yaml())
        return 0
    serve(resolved.config, args.new_robot, args.with_parent)
    return 0
