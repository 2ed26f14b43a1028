"""Links in virtual time: when does a message arrive?"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Protocol

from spec_decode_ros.decoding.messages import Branches, Draft, Open


class Link(Protocol):
    def arrivals(self, now: float, upward: bool, message: object) -> list[float]:
        """When this message, sent now, arrives: once, never or several times."""
        ...


@dataclass
class SteadyLink:
    """Round-trip time, upload of a frame and of each message with drafts; in order, nothing lost."""

    rtt: float = 0.0
    frame_upload: float = 0.0
    draft_upload: float = 0.0
    _up_free: float = 0.0

    def arrivals(self, now: float, upward: bool, message: object) -> list[float]:
        if not upward:
            return [now + self.rtt / 2]
        drafts = self.draft_upload
        upload = {Open: self.frame_upload, Draft: drafts, Branches: drafts}.get(type(message), 0.0)
        self._up_free = max(now, self._up_free) + upload
        return [self._up_free + self.rtt / 2]


@dataclass
class HostileLink:
    """Loses, repeats, delays and reorders messages at random."""

    rng: random.Random
    loss: float
    repeat: float
    longest_delay: float

    def arrivals(self, now: float, upward: bool, message: object) -> list[float]:
        copies = 0 if self.rng.random() < self.loss else 2 if self.rng.random() < self.repeat else 1
        return [now + self.rng.random() * self.longest_delay for _ in range(copies)]
