"""Methods side by side in one run, through a verifier process behind an emulated link."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from spec_decode_ros.commands._bench_fleet import add_fleet_arguments, measure_fleet
from spec_decode_ros.commands._sampling import add_sampling_arguments, sampling_of
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.json_output import write_json
from spec_decode_ros.lab.bench.comparison import MethodComparison, compare
from spec_decode_ros.lab.bench.suite import NamedLink, links, over_links
from spec_decode_ros.lab.bench.tables import agree, print_comparison
from spec_decode_ros.lab.network.networks import NETWORKS
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.models.pair import DEFAULT_PAIR
from spec_decode_ros.transport.client import Client

SUITES = {"smoke": 8, "actions": 60, "text": 12, "fleet": 40}
"""Suites and how much they decode: frames from rooms that were never trained on, or prompts of the text pair."""

_RTTS_MS = {"text": [0.0, 20.0, 60.0]}
_PAIRS = {"text": "smollm2"}

Results = list[tuple[NamedLink, MethodComparison]]

_FILES = ("--json", "--plot", "--timeline")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verified = [name for name, method in METHODS.items() if method.uses_cloud]
    parser.add_argument(
        "--suite", choices=tuple(SUITES), default="smoke", help="what is decoded (%(default)s)"
    )
    parser.add_argument(
        "--frames", type=int, metavar="N", help="frames, or prompts; by default as many as the suite has"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=verified,
        metavar="M",
        help="by default all that verify",
    )
    parser.add_argument(
        "--rtt-ms",
        type=float,
        nargs="+",
        metavar="R",
        help="links, 0 for none; by default 20, 60 and 120, and for text 0, 20 and 60",
    )
    parser.add_argument(
        "--mbit", type=float, default=20.0, metavar="B", help="their bandwidth, Mbit/s (%(default)g)"
    )
    parser.add_argument(
        "--network",
        nargs="+",
        default=[],
        metavar="NET",
        help=f"links by name instead: {', '.join(NETWORKS)}, or a recorded trace ending in .csv",
    )
    parser.add_argument(
        "--pair",
        help=f"model pair, by name or as a .yaml file ({DEFAULT_PAIR}, for text {_PAIRS['text']})",
    )
    parser.add_argument(
        "--device", metavar="D", help="of both models: auto, cpu or cuda; by default what the pair says"
    )
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="longest answer of text; by default what the pair says"
    )
    parser.add_argument(
        "--peers", action="store_true", help="with text: transformers' own decoding beside it, in one process"
    )
    add_fleet_arguments(parser)
    add_sampling_arguments(parser)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of the first room, and of the sampling"
    )
    parser.add_argument("--plot", metavar="F", help="draw times, passes, compute and bytes of every method")
    parser.add_argument(
        "--timeline", metavar="F", help="draw where the milliseconds of a typical action go, at the last link"
    )
    parser.add_argument(
        "--json", metavar="F", help="write the result here; - is standard output, and only it"
    )


def run(args: argparse.Namespace) -> int:
    frames = SUITES[args.suite] if args.frames is None else args.frames
    if frames < 1:
        raise SpecDecodeError("--frames has to be at least 1")
    if args.peers and args.suite != "text":
        raise SpecDecodeError("--peers goes with --suite text")
    args.pair = args.pair or _PAIRS.get(args.suite, DEFAULT_PAIR)
    if args.suite == "fleet":
        return _run_fleet(args, frames)
    args.rtt_ms = args.rtt_ms or _RTTS_MS.get(args.suite, [20.0, 60.0, 120.0])
    sampling = sampling_of(args, args.seed)
    console = Console(stderr=args.json == "-", highlight=False)
    show = partial(print_comparison, console, separate=sampling.separate)
    if args.suite == "text":
        results, more = _measure_texts(args, frames, sampling, show, console)
    else:
        results, more = _measure_actions(args, frames, sampling, show), {}
    found = _document(args, sampling, results, more)
    if args.plot:
        from spec_decode_ros.lab.bench.methods_plot import draw_methods

        draw_methods(found, args.plot)
    if args.timeline:
        from spec_decode_ros.lab.bench.timeline import draw_timeline

        link, comparison = results[-1]
        draw_timeline(comparison, Path(args.timeline), f"{link.name}, pair {args.pair}")
    if args.json:
        write_json(args.json, found)
    return 0 if sampling.separate or all(agree(comparison) for _, comparison in results) else 1


def _run_fleet(args: argparse.Namespace, frames: int) -> int:
    from spec_decode_ros.lab.bench.document import heading

    console = Console(stderr=args.json == "-", highlight=False)
    fleet = measure_fleet(args, frames, console)
    command = _command(sys.argv[1:])
    found = {**heading(args.suite, args.pair, command), "links": [], "fleet": fleet}
    if args.plot:
        from spec_decode_ros.lab.bench.fleet_plot import draw_fleet

        draw_fleet(found, args.plot)
    if args.json:
        write_json(args.json, found)
    return 0 if fleet["same_tokens"] else 1


def _methods(args: argparse.Namespace, sampling: Sampling) -> list[str]:
    """Those that were asked for, or all that verify and have the sampler."""
    if args.methods:
        return args.methods
    verified = [method for method in METHODS.values() if method.uses_cloud]
    return [method.name for method in verified if not (sampling.separate and method.drafts_in_cloud_alone)]


def _measure_texts(
    args: argparse.Namespace, prompts: int, sampling: Sampling, report: Any, console: Console
) -> tuple[Results, dict[str, Any]]:
    """Every method, and with --peers transformers' own ways on the same prompts."""
    from spec_decode_ros.commands._bench_text import SHOWN, measure_transformers, texts_asked
    from spec_decode_ros.lab.bench.text import decode_texts

    over = links(args.rtt_ms, args.mbit, args.network)
    asked = texts_asked(args, _methods(args, sampling), prompts, sampling)
    decode = decode_texts(asked, args.pair)
    results = over_links(args.pair, over, decode, partial(report, shown=SHOWN), device=args.device)
    return results, {"peers": measure_transformers(args, asked, results[0][1], console)} if args.peers else {}


def _measure_actions(args: argparse.Namespace, frames: int, sampling: Sampling, report: Any) -> Results:
    from spec_decode_ros.lab.bench.moments import moments
    from spec_decode_ros.models.pair import load_pair_config

    over = links(args.rtt_ms, args.mbit, args.network)
    config = load_pair_config(args.pair)
    samples = moments(frames, args.seed)

    def decode(drafter: Drafter, client: Client) -> MethodComparison:
        return compare(
            samples,
            drafter,
            client,
            methods=_methods(args, sampling),
            style=config.prompt,
            max_tokens=config.max_tokens,
            sampling=sampling,
        )

    return over_links(args.pair, over, decode, report, device=args.device)


def _document(
    args: argparse.Namespace, sampling: Sampling, results: Results, more: dict[str, Any]
) -> dict[str, Any]:
    from spec_decode_ros.lab.bench.document import document

    sampler = {"temperature": sampling.temperature, "sampler": args.sampler}
    return document(args.suite, args.pair, _command(sys.argv[1:]), results, **sampler, **more)


def _command(arguments: Sequence[str]) -> str:
    """What was typed, without the files that it wrote."""
    words = iter(arguments)
    kept = []
    for word in words:
        option, given, _ = word.partition("=")
        if option not in _FILES:
            kept.append(word)
        elif not given:
            next(words, None)
    return shlex.join(["spec-decode", *kept])
