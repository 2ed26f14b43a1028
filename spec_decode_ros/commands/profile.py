"""Time a pair of published shapes, and write a profile for `simulate`."""

from __future__ import annotations

import argparse

from spec_decode_ros.commands._options import Whole, add_json, add_value, finish
from spec_decode_ros.lab.bench.profile.shapes import SHAPES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "The weights are random: what is timed is the architecture."
    _add_measurement(parser)
    parser.add_argument(
        "--draft-ms",
        type=float,
        metavar="MS",
        help="a drafted token on the robot, as this command told it there",
    )
    parser.add_argument(
        "--rtt-ms",
        type=float,
        nargs="+",
        default=(20.0, 60.0, 120.0),
        metavar="R",
        help="to simulate; by default 20, 60 and 120",
    )
    parser.add_argument(
        "--acceptance",
        type=float,
        nargs="+",
        default=(0.7, 0.8, 0.9),
        metavar="A",
        help="imposed; by default 0.7, 0.8 and 0.9",
    )
    add_value(parser, "--tokens", 24, "of an answer", "N")
    add_value(parser, "--mbit", 20.0, "of the uplink, for the frame", "B")
    add_value(parser, "--out", "profile.yaml", "the profile", "F")
    add_json(parser, "every time")


def _add_measurement(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(SHAPES)
    parser.add_argument("--draft", required=True, metavar="SHAPE", help=f"of the robot's model: {names}")
    parser.add_argument("--target", required=True, metavar="SHAPE", help="of the cloud's model")
    parser.add_argument(
        "--device", choices=("auto", "cuda", "cpu"), default="auto", help="auto takes a GPU if there is one"
    )
    parser.add_argument("--dtype", choices=("bf16", "fp32"), help="by default bf16 on a GPU, fp32 elsewhere")
    parser.add_argument(
        "--threads",
        action=Whole,
        low=0,
        high=1024,
        default=0,
        metavar="N",
        help="of the CPU; by default as many as torch takes",
    )
    parser.add_argument(
        "--layers",
        type=int,
        metavar="N",
        help="measure only so many layers and extrapolate, which the result says",
    )
    add_value(parser, "--prompt-tokens", 100, "text of the prompt", "N")
    add_value(parser, "--image", "384x192", "frame for shapes that see, in pixels", "WxH")
    add_value(parser, "--repeats", 15, "of each time", "N")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the profile is written."""
    from rich.console import Console

    from spec_decode_ros.lab.bench.profile.measured_profile import Assumed
    from spec_decode_ros.lab.bench.profile.run import TimingOptions, time_pair

    options = TimingOptions(
        args.draft,
        args.target,
        args.device,
        args.dtype,
        args.threads,
        args.layers,
        args.prompt_tokens,
        args.image,
        args.repeats,
    )
    assumed = Assumed(tuple(args.rtt_ms), args.mbit, tuple(args.acceptance), args.tokens, args.draft_ms)
    console = Console(stderr=args.json == "-", highlight=False, soft_wrap=True)
    return finish(args, time_pair(options, assumed, args.out, console))
