"""Time a pair of published shapes, and write a profile for `simulate`."""

from __future__ import annotations

import argparse

from spec_decode_ros.commands._options import add_json, add_number, add_value, finish
from spec_decode_ros.lab.bench.profile.shapes import SHAPES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "The weights are random: what is timed is the architecture."
    _add_measurement(parser)
    add_number(
        parser,
        "--draft-ms",
        float,
        "time of a drafted token on the robot, as measured there by this command",
        "MS",
    )
    add_number(
        parser,
        "--rtt-ms",
        float,
        "round-trip times in the profile; by default 20, 60 and 120",
        "R",
        default=(20.0, 60.0, 120.0),
        nargs="+",
    )
    add_number(
        parser,
        "--acceptance",
        float,
        "acceptance rates in the profile; by default 0.7, 0.8 and 0.9",
        "A",
        default=(0.7, 0.8, 0.9),
        nargs="+",
    )
    add_value(parser, "--tokens", 24, "tokens of an answer", "N")
    add_value(parser, "--mbit", 20.0, "bandwidth of the uplink, Mbit/s", "B")
    add_value(parser, "--out", "profile.yaml", "file of the profile", "F")
    add_json(parser, "every time")


def _add_measurement(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(SHAPES)
    parser.add_argument(
        "--draft", required=True, metavar="SHAPE", help=f"architecture of the draft model: {names}"
    )
    parser.add_argument("--target", required=True, metavar="SHAPE", help="architecture of the target model")
    parser.add_argument(
        "--device", choices=("auto", "cuda", "cpu"), default="auto", help="auto takes a GPU if there is one"
    )
    parser.add_argument("--dtype", choices=("bf16", "fp32"), help="by default bf16 on a GPU, fp32 elsewhere")
    add_number(
        parser, "--threads", int, "CPU threads; by default torch's choice", "N", default=0, low=0, high=1024
    )
    add_number(parser, "--layers", int, "measure only N layers and extrapolate; the result says so", "N")
    add_value(parser, "--prompt-tokens", 100, "text tokens of the prompt", "N")
    add_value(parser, "--image", "384x192", "size of the frame for vision-language shapes, pixels", "WxH")
    add_value(parser, "--repeats", 15, "repetitions of each measurement", "N")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when the profile is written."""
    from spec_decode_ros.console import PlainConsole
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
    console = PlainConsole(stderr=args.json == "-", soft_wrap=True)
    return finish(args, time_pair(options, assumed, args.out, console))
