"""The text suite of `spec-decode bench`."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import MethodComparison
from spec_decode_ros.lab.bench.text import TOKENS_PER_S, Texts, texts
from spec_decode_ros.models.pair import load_pair_config

SHOWN = (
    "ttva_ms",
    TOKENS_PER_S,
    "cloud_passes",
    "acceptance_rate",
    "accepted_length",
    "round_trips",
)


def texts_asked(args: argparse.Namespace, methods: list[str], count: int, sampling: Sampling) -> Texts:
    """The suite's prompts, as the options say."""
    longest = args.max_tokens or load_pair_config(args.pair).max_tokens
    return Texts(texts(count, args.seed), longest, tuple(methods), sampling)


def measure_transformers(
    args: argparse.Namespace, asked: Texts, comparison: MethodComparison, console: Console
) -> dict[str, Any]:
    """transformers' own decoding of the same prompts, for the console and as JSON.

    Raises:
        SpecDecodeError: it gives other tokens than the methods.
    """
    from spec_decode_ros.lab.bench.peers import measure_peers

    if args.temperature:
        raise SpecDecodeError("--peers compares greedy answers: leave --temperature out")
    ours = next(iter(comparison.results))
    peers = measure_peers(asked.prompts, asked.max_tokens, args.pair)
    peers.require_same([result.tokens for result in comparison.results[ours]], ours)
    table = Table(title="transformers in one process, the same tokens: tokens a second", box=None)
    for column in ("", "median", "quartiles"):
        table.add_column(column)
    for name in peers.answers:
        spread = peers.tokens_per_s(name)
        table.add_row(name, f"{spread.median:.1f}", f"{spread.low:.1f}–{spread.high:.1f}")
    console.print(table)
    return {name: {TOKENS_PER_S: peers.tokens_per_s(name).as_dict()} for name in peers.answers}
