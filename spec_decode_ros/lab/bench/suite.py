"""Runs a comparison over several links: one verifier process, and one emulated link after the other in front of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from spec_decode_ros.lab.bench.comparison import MethodComparison
from spec_decode_ros.lab.bench.machine import pinned_to, split_cores
from spec_decode_ros.lab.network.link import LinkProfile, link_process
from spec_decode_ros.lab.network.link_profile import network_named
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.transport.client import Client


@dataclass(frozen=True)
class NamedLink:
    """A network between robot and cloud, and its name in tables."""

    name: str
    profile: LinkProfile


def links(rtts_ms: Sequence[float], mbit: float, networks: Sequence[str] = ()) -> list[NamedLink]:
    """The named networks, or else one link per round-trip time, all of one bandwidth (Mbit/s; 0 is unlimited)."""
    if networks:
        return [NamedLink(name, network_named(name)) for name in networks]
    return [
        NamedLink(f"RTT {rtt_ms:g} ms, {mbit:g} Mbit/s", LinkProfile(rtt_ms, mbit, mbit))
        if rtt_ms
        else NamedLink("loopback", LinkProfile())
        for rtt_ms in rtts_ms
    ]


def over_links(
    pair: str,
    over: Sequence[NamedLink],
    decode: Callable[[Drafter, Client], MethodComparison],
    report: Callable[[NamedLink, MethodComparison], None] = lambda link, comparison: None,
    device: str | None = None,
) -> list[tuple[NamedLink, MethodComparison]]:
    """Run the comparison `decode` through every link; a link without delay or limits is left out as a relay.

    `decode` gets the pair's drafter and a client that is connected through the link; `report` gets each comparison at once.
    Edge and cloud run on cores of their own where there are two, each with as many threads as cores unless the pair says
    otherwise.
    """
    from spec_decode_ros.models.pair import check_pair, load_drafter
    from spec_decode_ros.models.pair_config import load_pair_config
    from spec_decode_ros.models.warmup import be_responsive, warm_up
    from spec_decode_ros.server.process import spawn_server

    cores = split_cores()
    config = load_pair_config(pair)
    check_pair(config)
    results = []
    with ExitStack() as stack:
        with pinned_to(cores.cloud):
            server = stack.enter_context(
                spawn_server(pair, threads=config.target.threads or len(cores.cloud), device=device)
            )
        stack.enter_context(pinned_to(cores.edge))
        drafter = load_drafter(config, device, threads=config.draft.threads or len(cores.edge))
        warm_up(drafter)
        be_responsive()
        for link in over:
            with ExitStack() as ends:
                endpoint = server
                if link.profile != LinkProfile():
                    endpoint = ends.enter_context(link_process(server, link.profile))
                client = ends.enter_context(
                    Client(endpoint, config.name, drafter.vocabulary, grammar=drafter.grammar)
                )
                client.wait_ready()
                results.append((link, decode(drafter, client)))
            report(*results[-1])
    return results
