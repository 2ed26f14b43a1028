"""The plan of a chaos run: which faults come when, determined by a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.message_faults import MESSAGE_FAULT_KINDS, MessageFaultKind

FaultKind = Literal[
    MessageFaultKind,
    "link cut",
    "all links cut",
    "server frozen",
    "server killed",
    "socket killed",
    "replica killed",
    "robots killed",
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

_WEIGHTS: dict[FaultKind, float] = {
    **dict.fromkeys(MESSAGE_FAULT_KINDS, 0.16),
    "link cut": 0.07,
    "all links cut": 0.05,
    "robots killed": 0.03,
    "server frozen": 0.02,
    "server killed": 0.02,
    "socket killed": 0.02,
    "replica killed": 0.01,
}

_SECONDS: dict[FaultKind, tuple[float, float]] = {
    "delayed": (0.05, 5.0),
    "repeated": (0.0, 2.0),
    "link cut": (0.1, 3.0),
    "all links cut": (0.1, 4.0),
    "server frozen": (0.2, 15.0),
}
"""Shortest and longest duration, of faults that last."""


@dataclass(frozen=True)
class Fault:
    """One fault, `at_s` seconds from the start.

    `place` is the index of the group or service, modulo their number; `seconds` the duration, or the delay of a message,
    which is one to the cloud if `up`. `seed` is of what is random when it is injected.
    """

    kind: FaultKind
    at_s: float
    place: int
    seconds: float
    up: bool
    seed: int


def planned(count: int, seed: int, every_s: float, kinds: Sequence[FaultKind] = KINDS) -> tuple[Fault, ...]:
    """`count` faults in the order of their times, one every `every_s` seconds on average.

    There is at least one of each kind, where there are as many faults as kinds; the rest is drawn by weights.
    Raises SpecDecodeError if there are none to plan.
    """
    if count < 1 or not kinds or not every_s > 0:
        raise SpecDecodeError(
            "a chaos run needs at least one fault, one kind of fault and some time between them"
        )
    rng = random.Random(seed)
    drawn = list(kinds)[:count]
    drawn += rng.choices(kinds, [_WEIGHTS[kind] for kind in kinds], k=count - len(drawn))
    rng.shuffle(drawn)
    times = sorted(rng.uniform(0.0, count * every_s) for _ in drawn)
    return tuple(_fault(kind, at_s, rng) for kind, at_s in zip(drawn, times, strict=True))


def _fault(kind: FaultKind, at_s: float, rng: random.Random) -> Fault:
    shortest, longest = _SECONDS.get(kind, (0.0, 0.0))
    # More short ones than long ones, as in networks.
    seconds = shortest + (longest - shortest) * rng.random() ** 2
    return Fault(kind, at_s, rng.randrange(2**16), seconds, rng.random() < 0.5, rng.randrange(2**32))
