"""Methods side by side in one run, through a verifier process behind an emulated link."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from spec_decode_ros.bench.comparison import Comparison, Spread, compare, foresight
from spec_decode_ros.commands._bench_text import SHOWN as TEXT_SHOWN
from spec_decode_ros.commands._bench_text import measure_texts, measure_transformers
from spec_decode_ros.commands._output import write_json
from spec_decode_ros.commands._sampling import add_sampling_arguments, sampling_of
from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.decoding.methods import METHODS
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.models.pair import DEFAULT_PAIR

SUITES = {"smoke": 8, "actions": 60, "text": 12}
"""Suites and how much they decode: frames from rooms that were never trained on, or prompts of the text pair."""

DEFAULT_RTT_MS = {"text": [0.0, 20.0, 60.0]}
DEFAULT_PAIRS = {"text": "smollm2"}

SHOWN = ("ttva_ms", "ttfa_ms", "cloud_passes", "cloud_busy_ms", "acceptance_rate", "round_trips")


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
        help="links; by default 20, 60 and 120, and for text 0, 20 and 60",
    )
    parser.add_argument(
        "--mbit", type=float, default=20.0, metavar="B", help="bandwidth, Mbit/s (%(default)g)"
    )
    parser.add_argument(
        "--pair",
        help=f"model pair, by name or as a .yaml file ({DEFAULT_PAIR}, for text {DEFAULT_PAIRS['text']})",
    )
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="longest answer of text; by default what the pair says"
    )
    parser.add_argument(
        "--peers", action="store_true", help="with text: transformers' own decoding beside it, in one process"
    )
    add_sampling_arguments(parser)
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of the first room, and of the sampling"
    )
    parser.add_argument(
        "--plot", metavar="F", help="draw where the milliseconds of a typical action go, at the last link"
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
    args.pair = args.pair or DEFAULT_PAIRS.get(args.suite, DEFAULT_PAIR)
    args.rtt_ms = args.rtt_ms or DEFAULT_RTT_MS.get(args.suite, [20.0, 60.0, 120.0])
    sampling = sampling_of(args, args.seed)
    console = Console(stderr=args.json == "-", highlight=False)
    results, peers = _measure(args, frames, sampling, console), None
    if args.peers:
        peers = measure_transformers(args, results, console)
    if args.plot:
        from spec_decode_ros.demo.report import draw_timeline

        rtt_ms, comparison = list(results.items())[-1]
        draw_timeline(comparison, Path(args.plot), f"RTT {rtt_ms:g} ms, pair {args.pair}")
    if args.json:
        document = {
            "suite": args.suite,
            "pair": args.pair,
            "mbit": args.mbit,
            "temperature": sampling.temperature,
            "sampler": args.sampler,
            "links": [
                {
                    "rtt_ms": rtt_ms,
                    "frames": len(c.samples),
                    "methods": c.as_dict(),
                    "foresight": foresight(c),
                }
                for rtt_ms, c in results.items()
            ],
        }
        if peers:
            document["peers"] = peers
        write_json(args.json, document)
    return 0 if sampling.separate or all(map(_agree, results.values())) else 1


def _methods(args: argparse.Namespace, sampling: Sampling) -> list[str]:
    """Those that were asked for, or all that verify and have the sampler."""
    if args.methods:
        return args.methods
    verified = [method for method in METHODS.values() if method.uses_cloud]
    return [method.name for method in verified if not (sampling.separate and method.drafts_in_cloud_alone)]


def _measure(
    args: argparse.Namespace, frames: int, sampling: Sampling, console: Console
) -> dict[float, Comparison]:
    if args.suite == "text":

        def report(rtt_ms: float, comparison: Comparison) -> None:
            title = f"RTT {rtt_ms:g} ms, {args.mbit:g} Mbit/s"
            _print(console, title, comparison, TEXT_SHOWN, "prompts")
            if not sampling.separate:
                _print_agreement(console, comparison)

        return measure_texts(args, _methods(args, sampling), frames, sampling, report)
    from spec_decode_ros.bench.moments import moments
    from spec_decode_ros.models.pair import load_drafter, load_pair_config
    from spec_decode_ros.runtime.process import spawn_server
    from spec_decode_ros.runtime.threads import be_responsive
    from spec_decode_ros.runtime.warmup import warm_up
    from spec_decode_ros.transport.client import Client
    from spec_decode_ros.transport.link import LinkProfile, link_process

    config = load_pair_config(args.pair)
    samples = moments(frames, args.seed)
    drafter = load_drafter(config)
    warm_up(drafter)
    be_responsive()
    results = {}
    with spawn_server(args.pair) as server:
        for rtt_ms in args.rtt_ms:
            profile = LinkProfile(rtt_ms=rtt_ms, uplink_mbps=args.mbit, downlink_mbps=args.mbit)
            with contextlib.ExitStack() as stack:
                endpoint = stack.enter_context(link_process(server, profile))
                client = stack.enter_context(Client(endpoint, config.name, drafter.vocabulary))
                client.wait_ready()
                results[rtt_ms] = compare(
                    samples,
                    drafter,
                    client,
                    methods=_methods(args, sampling),
                    style=config.prompt,
                    max_tokens=config.max_tokens,
                    sampling=sampling,
                )
            _print(console, f"RTT {rtt_ms:g} ms, {args.mbit:g} Mbit/s", results[rtt_ms])
            _print_foresight(console, results[rtt_ms])
            if sampling.separate:
                vocabulary = int(drafter.vocabulary.partition("-")[0])
                _print_rejections(console, results[rtt_ms], vocabulary)
            else:
                _print_agreement(console, results[rtt_ms])
    return results


def _agree(comparison: Comparison) -> bool:
    """Whether every method gave the same tokens."""
    first, *others = comparison.results
    return all(comparison.agreement(first, other) == len(comparison.samples) for other in others)


def _print_agreement(console: Console, comparison: Comparison) -> None:
    same = "the same tokens from every method"
    console.print(same if _agree(comparison) else "the methods differ in their tokens")


def _print(
    console: Console,
    title: str,
    comparison: Comparison,
    shown: Sequence[str] = SHOWN,
    samples: str = "frames",
) -> None:
    table = Table(title=f"{title}: medians (quartiles) of {len(comparison.samples)} {samples}", box=None)
    table.add_column("", no_wrap=True)
    for metric in shown:
        table.add_column(metric.replace("_", "\n", 1), justify="right", no_wrap=True)
    for method in comparison.results:
        spreads = [comparison.spread(method, metric) for metric in shown]
        table.add_row(method, *map(_cell, shown, spreads))
    console.print(table)


def _cell(metric: str, spread: Spread | None) -> str:
    """The median, and the quartiles below it."""
    if spread is None:
        return "–"
    digits = 2 if metric == "acceptance_rate" else 1
    low, high = (f"{value:.{digits}f}".rstrip("0").rstrip(".") for value in (spread.low, spread.high))
    return f"{spread.median:.{digits}f}\n[dim]{low}–{high}[/]"


def _print_foresight(console: Console, comparison: Comparison) -> None:
    for method, told in foresight(comparison).items():
        console.print(
            f"{method}: {told['hit_rate']:.0%} of {told['foresights']:.0f} foresights were hits; of the drafting after "
            f"them {told['saved_ms']:.0f} ms were used and {told['wasted_ms']:.0f} ms wasted"
        )


def _print_rejections(console: Console, comparison: Comparison, vocabulary: int) -> None:
    """What the rejections of separate rejection sampling sent; its tokens differ from method to method."""
    stats = [result.stats for results in comparison.results.values() for result in results]
    sizes = [float(found["rejection_bytes"] or 0) for found in stats if found["rejections"]]
    if not sizes:
        console.print("nothing was rejected")
        return
    console.print(
        f"{sum(int(found['rejections'] or 0) for found in stats)} rejections, {Spread.of(sizes).median:.0f} bytes "
        f"each (median); the whole distribution in fp16 has {2 * vocabulary}"
    )
