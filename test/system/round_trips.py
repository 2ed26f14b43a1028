"""Every method on the same samples over several round-trip times, through a verifier process and emulated links."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.lab.bench.comparison import MethodComparison
from spec_decode_ros.lab.network.link import LinkProfile, link_process
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.models.pair import load_drafter
from spec_decode_ros.models.pair_config import load_pair_config
from spec_decode_ros.server.process import spawn_server
from spec_decode_ros.transport.client import Client

ROUND_TRIPS_MS = (0.0, 20.0, 60.0)
METHODS = ("cloud", "colocated", "sync", "early_exit", "pipelined", "auto")
WAIT_S = 180.0

Item = TypeVar("Item")
Comparisons = dict[Sampling, list[MethodComparison]]
"""By sampling one comparison for each round-trip time."""


def compare_over_round_trips(
    pair: str,
    samples: Sequence[Item],
    samplings: Sequence[Sampling],
    compare: Callable[[Sequence[Item], Drafter, Client, Sampling], MethodComparison],
) -> Comparisons:
    """The samples, shared out evenly among the round-trip times, decoded with each sampling."""
    config = load_pair_config(pair)
    drafter = load_drafter(config)
    results: Comparisons = {sampling: [] for sampling in samplings}
    with ExitStack() as stack:
        endpoint = stack.enter_context(spawn_server(pair, timeout_s=WAIT_S))
        for index, rtt_ms in enumerate(ROUND_TRIPS_MS):
            with ExitStack() as link:
                there = link.enter_context(link_process(endpoint, LinkProfile(rtt_ms=rtt_ms)))
                client = Client(there, config.name, drafter.vocabulary, grammar=drafter.grammar)
                link.callback(client.close)
                client.wait_ready(WAIT_S)
                part = samples[index :: len(ROUND_TRIPS_MS)]
                for sampling, found in results.items():
                    found.append(compare(part, drafter, client, sampling))
    return results


def check_same_tokens(comparisons: Comparisons, count: int) -> None:
    """Every method gave the tokens of `cloud` for so many samples, and each sampling gave tokens of its own."""
    for sampling, found in comparisons.items():
        for comparison in found:
            for method in comparison.results:
                assert comparison.agreement("cloud", method) == len(comparison.samples), (method, sampling)
        assert sum(len(comparison.samples) for comparison in found) == count
    tokens = [[r.tokens for c in found for r in c.results["cloud"]] for found in comparisons.values()]
    assert all(one != other for place, one in enumerate(tokens) for other in tokens[:place])


def check_passes_and_round_trips(comparisons: Sequence[MethodComparison]) -> None:
    """At every round-trip time `auto` takes fewer passes than `cloud`, and no more round trips than `sync`."""
    for comparison in comparisons:
        passes = {m: comparison.spread(m, "cloud_passes") for m in METHODS}
        assert passes["auto"].median < passes["cloud"].median
        rounds = {m: comparison.spread(m, "round_trips") for m in METHODS}
        assert rounds["auto"].median <= rounds["sync"].median
