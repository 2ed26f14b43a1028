"""Link profiles: delay, bandwidth, jitter, loss and outages of an emulated network, by name or from a recorded trace."""

from __future__ import annotations

import bisect
import csv
import itertools
import math
from dataclasses import dataclass, replace
from typing import Any

from spec_decode_ros.errors import SpecDecodeError


@dataclass(frozen=True)
class LinkProfile:
    """What the network between robot and cloud does to messages.

    ``rtt_ms`` is split evenly over both directions; a bandwidth of 0 is unlimited; jitter is uniform and drawn for each
    message, so that messages may be reordered; ``loss`` is the probability that a message is lost. In every
    ``outage_every_s`` seconds the last ``outage_s`` lose everything. ``trace`` is the path of a recorded trace (see
    :func:`load_trace`), which replaces round-trip time, bandwidths and loss as time goes on.
    """

    rtt_ms: float = 0.0
    uplink_mbps: float = 0.0
    downlink_mbps: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    outage_every_s: float = 0.0
    outage_s: float = 0.0
    trace: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rtt_ms", "uplink_mbps", "downlink_mbps", "jitter_ms", "outage_every_s", "outage_s"):
            if not 0.0 <= getattr(self, name) < 1e5:
                raise SpecDecodeError(
                    f"{name} of a link is {getattr(self, name)}, but must lie within 0 and 100000"
                )
        if not 0.0 <= self.loss < 1.0:
            raise SpecDecodeError(f"the loss of a link is {self.loss}, but must be a probability below 1")
        if self.outage_s and self.outage_s >= self.outage_every_s:
            raise SpecDecodeError(
                f"an outage of {self.outage_s:g} s needs an outage_every_s above that, not {self.outage_every_s:g}"
            )

    def is_out(self, elapsed_s: float) -> bool:
        """Whether there is an outage, so long after the start."""
        return self.outage_s > 0 and elapsed_s % self.outage_every_s >= self.outage_every_s - self.outage_s


@dataclass(frozen=True)
class LinkTrace:
    """A recorded link: `profiles[i]` holds from `starts_s[i]` on; after `length_s` it starts again.

    The last row lasts as long as the one before it.
    """

    starts_s: tuple[float, ...]
    profiles: tuple[LinkProfile, ...]
    length_s: float

    def at(self, elapsed_s: float) -> LinkProfile:
        """The profile that holds so long after the start."""
        return self.profiles[bisect.bisect_right(self.starts_s, elapsed_s % self.length_s) - 1]


_TRACED = ("rtt_ms", "uplink_mbps", "downlink_mbps", "loss")


def load_trace(path: str, profile: LinkProfile) -> LinkTrace:
    """Read a CSV file with the column ``t_s``, any of rtt_ms, uplink_mbps, downlink_mbps and loss, and a row per change.

    Missing columns are taken from `profile`. Raises SpecDecodeError.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        starts = tuple(float(row["t_s"]) for row in rows)
        if not all(map(math.isfinite, starts)):
            raise ValueError("a time is not finite")
        kept: list[dict[str, Any]] = [
            {name: float(row[name]) for name in _TRACED if name in row} for row in rows
        ]
    except OSError as error:
        raise SpecDecodeError(f"cannot read the trace {path}: {error.strerror or error}") from error
    except (KeyError, TypeError, ValueError, UnicodeDecodeError, csv.Error) as error:
        raise SpecDecodeError(
            f"{path} is no trace of a link ({error}): it needs a column t_s and numbers in {', '.join(_TRACED)}"
        ) from error
    if len(rows) < 2 or starts[0] != 0.0 or any(b <= a for a, b in itertools.pairwise(starts)):
        raise SpecDecodeError(f"the trace {path} needs at least two rows, with t_s rising from 0")
    profiles = tuple(replace(profile, trace="", **row) for row in kept)
    return LinkTrace(starts, profiles, 2 * starts[-1] - starts[-2])


# Round figures of what such links are like, not measurements.
NETWORKS: dict[str, LinkProfile] = {
    # A wired network, or a server in the same hall.
    "lan": LinkProfile(rtt_ms=1.0, uplink_mbps=900.0, downlink_mbps=900.0),
    # An access point some rooms away, and a server in the same town.
    "wifi": LinkProfile(rtt_ms=10.0, uplink_mbps=60.0, downlink_mbps=80.0, jitter_ms=4.0, loss=0.001),
    # Mobile networks have far more downlink than uplink; most of their round trip is the radio's scheduling.
    "5g": LinkProfile(rtt_ms=25.0, uplink_mbps=30.0, downlink_mbps=150.0, jitter_ms=8.0, loss=0.001),
    "lte": LinkProfile(rtt_ms=55.0, uplink_mbps=10.0, downlink_mbps=40.0, jitter_ms=15.0, loss=0.005),
    # A low orbit: every 15 seconds the terminal is handed over to another satellite, and about 140 ms are lost
    # (arXiv 2601.08439).
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
        load_trace(name, LinkProfile())  # raises at once if it is no trace
        return LinkProfile(trace=name, seed=seed)
    try:
        return replace(NETWORKS[name], seed=seed)
    except KeyError:
        raise SpecDecodeError(
            f"there is no network {name!r}: choose one of {', '.join(NETWORKS)}, or give the path of a trace ending in "
            ".csv"
        ) from None
