"""Networks by name, for emulation: round figures of what such a link is like, not measurements of one."""

from __future__ import annotations

from dataclasses import replace

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.link_profile import LinkProfile, load_trace

NETWORKS: dict[str, LinkProfile] = {
    # A wired network, or a server in the same hall.
    "lan": LinkProfile(rtt_ms=1.0, uplink_mbps=900.0, downlink_mbps=900.0),
    # An access point some rooms away, and a server in the same town.
    "wifi": LinkProfile(rtt_ms=10.0, uplink_mbps=60.0, downlink_mbps=80.0, jitter_ms=4.0, loss=0.001),
    # Mobile networks give far more downlink than uplink; their round trips are mostly the radio's scheduling.
    "5g": LinkProfile(rtt_ms=25.0, uplink_mbps=30.0, downlink_mbps=150.0, jitter_ms=8.0, loss=0.001),
    "lte": LinkProfile(rtt_ms=55.0, uplink_mbps=10.0, downlink_mbps=40.0, jitter_ms=15.0, loss=0.005),
    # A low orbit: every 15 seconds the terminal is handed to another satellite, and for about 140 ms nothing gets
    # through (arXiv 2601.08439).
    "satellite": LinkProfile(
        rtt_ms=45.0,
        uplink_mbps=12.0,
        downlink_mbps=100.0,
        jitter_ms=20.0,
        loss=0.005,
        outage_every_s=15.0,
        outage_s=0.14,
    ),
}


def network_named(name: str, seed: int = 0) -> LinkProfile:
    """A network by its name, or a recorded one by the path of its .csv file. Raises SpecDecodeError."""
    if name.endswith(".csv"):
        load_trace(name, LinkProfile())  # says at once what is wrong with it
        return LinkProfile(trace=name, seed=seed)
    try:
        return replace(NETWORKS[name], seed=seed)
    except KeyError:
        raise SpecDecodeError(
            f"there is no network {name!r}: choose one of {', '.join(NETWORKS)}, or give the path of a trace ending in "
            ".csv"
        ) from None
