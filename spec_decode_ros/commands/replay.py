"""Run a recorded bag through the stack again, and compare the actions."""

from __future__ import annotations

import argparse

from spec_decode_ros.actions.action import ACTION_PERIOD_S
from spec_decode_ros.commands._options import (
    add_decoding,
    add_json,
    add_number,
    add_value,
    add_verifier,
    finish,
    stack_options,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bag", metavar="BAG", help="a rosbag2: its folder, or an .mcap or .db3 file")
    add_json(parser)
    parser.add_argument("--plot", metavar="F", help="draw velocities and latency over time, as PNG")
    parser.add_argument(
        "--speed",
        choices=("full", "real"),
        default="full",
        help="full: every recorded decision once, on its own frame; real: frames come when they came and the newest "
        "one is decided on, as on the robot (%(default)s)",
    )
    add_decoding(parser, objective=False)
    add_verifier(parser)
    _add_bag_arguments(parser.add_argument_group("what is in the bag"))
    _add_tolerance(parser.add_argument_group("what may differ; beyond that the exit code is 1"))


def _add_bag_arguments(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--instruction", metavar="S", default="", help="what the robot is told, instead of what the bag says"
    )
    group.add_argument(
        "--image-topic", metavar="T", default="", help="topic of the frames; by default the only one"
    )
    group.add_argument("--command-topic", metavar="T", default="", help="topic of the commands")
    add_number(
        group,
        "--period",
        float,
        "seconds between decisions, where the bag has no actions and at real speed (%(default).2f)",
        "S",
        default=ACTION_PERIOD_S,
        high=1e4,
        above=0,
    )
    group.add_argument(
        "--memory",
        choices=("recorded", "own"),
        default="recorded",
        help="whose last action the prompt holds at full speed: with 'recorded' a difference counts once, with 'own' "
        "it may change what follows (%(default)s)",
    )
    add_number(
        group, "--temperature", float, "sampling temperature, as recorded; 0 is greedy", "T", default=0.0
    )
    add_number(group, "--seed", int, "seed of the sampling, as recorded", "N", default=0)


def _add_tolerance(group: argparse._ArgumentGroup) -> None:
    add_number(
        group,
        "--tolerance",
        float,
        "velocities may differ by V m/s and rad/s; by default the texts have to be identical",
        "V",
    )
    add_value(group, "--allow", 0, "N actions may differ", "N")
    add_number(
        group,
        "--latency-tolerance",
        float,
        "the median latency may be MS longer than recorded; by default it is only reported",
        "MS",
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 0 if everything is within the tolerance, else 1."""
    from spec_decode_ros.console import PlainConsole
    from spec_decode_ros.decoding.messages import Sampling
    from spec_decode_ros.lab.desk_stack import desk_stack
    from spec_decode_ros.lab.progress import progress_bar
    from spec_decode_ros.replay.compare import Tolerance
    from spec_decode_ros.replay.run import BagReplay, ReplaySettings

    options = stack_options(args)
    settings = ReplaySettings(
        instruction=args.instruction,
        image_topic=args.image_topic,
        command_topic=args.command_topic,
        period_s=args.period,
        speed=args.speed,
        memory=args.memory,
        sampling=Sampling(temperature=args.temperature, seed=args.seed),
    )
    tolerance = Tolerance(args.tolerance, args.latency_tolerance, args.allow)
    replay = BagReplay(args.bag, settings, tolerance)
    with desk_stack(options) as stack, progress_bar("actions", len(replay.moments)) as advance:
        pair = stack.config.name
        comparison = replay.decide(
            stack.runtime, stack.drafter, stack.config, lambda played: advance(played.text)
        )
    if args.json != "-":
        replay.print(PlainConsole(), comparison, pair, args.method)

    def draw() -> None:
        if args.plot:
            subtitle = f"method {args.method}, pair {pair}, RTT {args.rtt_ms:g} ms"
            path = replay.draw(comparison, args.plot, subtitle)
            if args.json != "-":
                print(f"plot {path}")

    code = finish(args, replay.document(comparison, pair, args.method, args.rtt_ms), comparison.passed, draw)
    replay.require_compared(comparison)
    return code
