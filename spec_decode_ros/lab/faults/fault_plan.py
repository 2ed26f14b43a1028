"""Which faults come when: chosen by a seed and nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.message_faults import PRANKS, PrankKind

FaultKind = Literal[
    PrankKind,
    "link cut",
    "all links cut",
    "server frozen",
    "server killed",
    "replica killed",
    "robots killed",
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

_SHARES: dict[FaultKind, float] = {
    **dict.fromkeys(PRANKS, 0.16),
    "link cut": 0.07,
    "all links cut": 0.05,
    "robots killed": 0.03,
    "server frozen": 0.02,
    "server killed": 0.02,
    "replica killed": 0.01,
}

_SECONDS: dict[FaultKind, tuple[float, float]] = {
    "delayed": (0.05, 5.0),
    "repeated": (0.0, 2.0),
    "link cut": (0.1, 3.0),
    "all links cut": (0.1, 4.0),
    "server frozen": (0.2, 3.0),
}
"""Shortest and longest, of what lasts."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: what.
        at_s: when, seconds from the start.
        place: whose; counted through all that there are of what it befalls.
        seconds: how long it lasts, or by how much a message is delayed; 0 for what is over at once.
        up: of a message: to the cloud, or else to the robot.
        seed: of what is left to chance when it happens.
    """

    kind: FaultKind
    at_s: float
    place: int
    seconds: float
    up: bool
    seed: int


def planned(count: int, seed: int, every_s: float, kinds: Sequence[FaultKind] = KINDS) -> tuple[Fault, ...]:
    """`count` faults, one every so many seconds on average, in the order of their times.

    Of each kind there is at least one, where there are as many faults as kinds; the rest comes by shares.

    Raises:
        SpecDecodeError: there are none to plan.
    """
    if count < 1 or not kinds or not every_s > 0:
        raise SpecDecodeError(
            "a chaos run needs at least one fault, one kind of fault and some time between them"
        )
    chance = random.Random(seed)
    drawn = list(kinds)[:count]
    drawn += chance.choices(kinds, [_SHARES[kind] for kind in kinds], k=count - len(drawn))
    chance.shuffle(drawn)
    times = sorted(chance.uniform(0.0, count * every_s) for _ in drawn)
    return tuple(_fault(kind, at_s, chance) for kind, at_s in zip(drawn, times, strict=True))


def _fault(kind: FaultKind, at_s: float, chance: random.Random) -> Fault:
    shortest, longest = _SECONDS.get(kind, (0.0, 0.0))
    # More short ones than long ones, as in networks.
    seconds = shortest + (longest - shortest) * chance.random() ** 2
    return Fault(kind, at_s, chance.randrange(2**16), seconds, chance.random() < 0.5, chance.randrange(2**32))
