"""What may befall the cloud's side while an action goes on: restarts, outages, other servers, servers that are full."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from spec_decode_ros.decoding.messages import Close, Error, ErrorCode
from spec_decode_ros.decoding.testing import Scenario, VirtualAction, VirtualLink


@dataclass(frozen=True)
class Storm:
    """All times in seconds from the start of the action.

    Attributes:
        restarts: the server forgets everything; the robot's connection stands anew `gap_s` later.
        outages: nothing gets through; the server keeps what it has. The connection stands anew `gap_s` later.
        moves: another server takes over, and nothing of the one before is heard any more.
        full: how probable it is that an action is turned away, while it is not forever.
        full_until: when the last server has room again.
        busy: how probable it is that a message of an action that is open is turned away.
        retry_ms: what a full server says.
        seed: of all chance.
    """

    restarts: tuple[float, ...] = ()
    outages: tuple[float, ...] = ()
    moves: tuple[float, ...] = ()
    gap_s: float = 0.05
    full: float = 0.0
    full_until: float = float("inf")
    busy: float = 0.0
    retry_ms: float = 20.0
    seed: int = 0


class StormyLink:
    """A link with outages."""

    def __init__(self, link: VirtualLink, storm: Storm) -> None:
        self._link = link
        self._out = [(at, at + storm.gap_s) for at in (*storm.restarts, *storm.outages)]

    def arrivals(self, now: float, upward: bool, message: object) -> list[float]:
        arrivals = self._link.arrivals(now, upward, message)
        return [at for at in arrivals if not any(begin <= at < end for begin, end in self._out)]


class StormyAction(VirtualAction):
    """One action in a storm; the driver tells the edge of new connections as the live one does."""

    def __init__(self, scenario: Scenario, storm: Storm) -> None:
        super().__init__(replace(scenario, link=StormyLink(scenario.link, storm)))
        self.storm = storm
        self.rng = random.Random(storm.seed)
        self.server = 0
        self.turned_away = 0
        for at in storm.restarts:
            self.at(at, self.forget)
        for at in (*storm.restarts, *storm.outages):
            self.at(at + storm.gap_s, lambda: self.reconnect(known=True))
        for at in storm.moves:
            self.at(at, self.move)

    def move(self) -> None:
        self.forget()
        self.server += 1
        self.reconnect(known=False)

    def reconnect(self, known: bool) -> None:
        if self.ending is None:
            self.obey_edge(self.edge.reconnected(known))

    def reach_cloud(self, message: Any) -> None:
        chance = self.storm.full if self.cloud is None else self.storm.busy
        is_full = self.now < self.storm.full_until and self.rng.random() < chance
        if is_full and not isinstance(message, Close) and not self.closed:
            self.turned_away += 1
            code = self.rng.choice([ErrorCode.BUSY, ErrorCode.DRAINING])
            self.send_down(Error(message.action_id, code, "full", self.storm.retry_ms))
        else:
            super().reach_cloud(message)

    def send_down(self, message: Any) -> None:
        self.outcome.down.append(message)
        server = self.server
        for arrival in self.scenario.link.arrivals(self.now, False, message):
            self.at(arrival, lambda: self.reach_edge(message) if server == self.server else None)


@st.composite
def storms(draw: st.DrawFn) -> Storm:
    """Any of these, at any moment."""
    moments = st.lists(st.floats(0.0, 0.4), max_size=3).map(tuple)
    return Storm(
        restarts=draw(moments),
        outages=draw(moments),
        moves=draw(moments),
        gap_s=draw(st.sampled_from([0.0, 0.01, 0.2, 3.0])),
        full=draw(st.sampled_from([0.0, 0.5, 0.9])),
        busy=draw(st.sampled_from([0.0, 0.1, 0.5])),
        retry_ms=draw(st.sampled_from([0.001, 5.0, 200.0])),
        seed=draw(st.integers(0, 10**6)),
    )
