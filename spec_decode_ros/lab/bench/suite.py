"""One verifier process, one link after the other in front of it, and a comparison through each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.comparison import MethodComparison
from spec_decode_ros.lab.bench.cores import Cores, divided, on
from spec_decode_ros.lab.network.link import LinkProfile, link_process
from spec_decode_ros.lab.network.networks import network_named
from spec_decode_ros.models.interfaces import Drafter
from spec_decode_ros.transport.client import Client


@dataclass(frozen=True)
class NamedLink:
    """A network between robot and cloud, and what to call it."""

    name: str
    profile: LinkProfile


def links(rtts_ms: Sequence[float], mbit: float, networks: Sequence[str] = ()) -> list[NamedLink]:
    """Those that are named, or else one for each round-trip time, all of one bandwidth (Mbit/s; 0 is unlimited)."""
    if networks:
        return [NamedLink(name, network_named(name)) for name in networks]
    return [
        NamedLink(f"RTT {rtt_ms:g} ms, {mbit:g} Mbit/s" if rtt_ms else "loopback", _plain(rtt_ms, mbit))
        for rtt_ms in rtts_ms
    ]


def _plain(rtt_ms: float, mbit: float) -> LinkProfile:
    return LinkProfile(rtt_ms=rtt_ms, uplink_mbps=mbit, downlink_mbps=mbit) if rtt_ms else LinkProfile()


def over_links(
    pair: str,
    over: Sequence[NamedLink],
    decode: Callable[[Drafter, Client], MethodComparison],
    report: Callable[[NamedLink, MethodComparison], None] = lambda link, comparison: None,
    cores: Cores | None = None,
    device: str | None = None,
) -> list[tuple[NamedLink, MethodComparison]]:
    """Compare through every link. The edge has cores of its own where there are two, and each side as many
    threads as its cores where the pair does not say; no link is no relay.

    Args:
        pair: a name or the path of a pair file.
        over: the links.
        decode: compares with the pair's drafter and a client that is connected through one link.
        report: called with each comparison as soon as it is there.
        cores: who runs where; by default the edge on one core, the cloud on all others.
        device: of both models, instead of what the pair says.
    """
    from spec_decode_ros.models.pair import check_pair, load_drafter, load_pair_config
    from spec_decode_ros.models.threads import be_responsive
    from spec_decode_ros.models.warmup import warm_up
    from spec_decode_ros.server.process import spawn_server

    if not over:
        raise SpecDecodeError("a suite needs at least one link")
    cores = cores or divided()
    config = load_pair_config(pair)
    check_pair(config)
    results = []
    with contextlib.ExitStack() as stack:
        with on(cores.cloud):
            server = stack.enter_context(
                spawn_server(pair, threads=config.target.threads or len(cores.cloud), device=device)
            )
        stack.enter_context(on(cores.edge))
        drafter = load_drafter(config, device, threads=config.draft.threads or len(cores.edge))
        warm_up(drafter)
        be_responsive()
        for link in over:
            with contextlib.ExitStack() as ends:
                endpoint = server
                if link.profile != LinkProfile():
                    endpoint = ends.enter_context(link_process(server, link.profile))
                client = ends.enter_context(Client(endpoint, config.name, drafter.vocabulary))
                client.wait_ready()
                results.append((link, decode(drafter, client)))
            report(*results[-1])
    return results
