"""Robots in a process of their own, with a link of their own to each service."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spec_decode_ros.lab.bench.cores import on
from spec_decode_ros.lab.bench.fleet_log import Act, read_log
from spec_decode_ros.lab.bench.fleet_robots import END, FleetOrders, robots_child
from spec_decode_ros.lab.faults.services import ServedAddress
from spec_decode_ros.lab.network.link import EmulatedLink, LinkProfile
from spec_decode_ros.lab.network.message_faults import MessageFault, MessageFaults
from spec_decode_ros.transport.process import ChildError, ReadyChild

_A_LIFE = 100
"""Robots get new numbers with every life of their process; so many for each."""

_LIVES = 1000
_PREFERRED = 0.75
"""Of the faults of one link so many are of the one that the robots prefer."""

_MARGIN_S = 20.0


class Group:
    """What :meth:`start` starts ends with :meth:`end`, or when this process ends.

    Args:
        number: which group.
        services: in the order in which its robots prefer them.
        profile: of its links.
        orders: what its robots do; endpoint, log and first number are the group's matter.
        folder: for logs.
        cores: on which the robots run.
    """

    def __init__(
        self,
        number: int,
        services: Sequence[ServedAddress],
        profile: LinkProfile,
        orders: FleetOrders,
        folder: Path,
        cores: Sequence[int],
    ) -> None:
        self.number, self.services = number, tuple(services)
        self.killed: dict[int, float] = {}
        self._profile, self._orders, self._folder, self._cores = profile, orders, folder, cores
        self._pranks = [MessageFaults() for _ in services]
        self._links: list[EmulatedLink] = []
        self._cuts: list[int] = []
        self._lives = 0
        self._robots: ReadyChild | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Connect the links and start the robots; the services have to be up."""
        for service, mischief in zip(self.services, self._pranks, strict=True):
            link = EmulatedLink(service.endpoint, self._profile, mischief=mischief)
            link.start()
            self._links.append(link)
        self._cuts = [0] * len(self._links)
        self._live()

    def kill(self) -> None:
        """SIGKILL to the robots' process, and start another one at once."""
        with self._lock:
            assert self._robots is not None, "its robots did not start again"
            at = time.perf_counter()
            self._robots.kill()
            first = self._first
            self.killed |= dict.fromkeys(range(first, first + self._orders.robots), at)
            self._lives += 1
            self._live()

    def cut(self, places: Sequence[int], seconds: float) -> None:
        """Lose everything on some links for so long; cuts may overlap."""
        self._count_cuts(places, 1)
        time.sleep(seconds)
        self._count_cuts(places, -1)

    def prank(self, place: int, prank: MessageFault) -> threading.Event:
        """Play it on the next message of a link."""
        return self._pranks[place].order(prank)

    def link_for(self, seed: int) -> int:
        """The place of one of its links, mostly of the preferred one."""
        chance = random.Random(seed)
        return 0 if chance.random() < _PREFERRED else chance.randrange(len(self.services))

    @property
    def links(self) -> range:
        """The places of all."""
        return range(len(self.services))

    def acts(self) -> list[Act]:
        """Of all its lives."""
        return [act for life in range(self._lives + 1) for act in read_log(self._log(life))]

    def end(self) -> str:
        """Let what goes on end, and stop; what went wrong in that, or nothing. Ending twice does nothing."""
        robots, self._robots = self._robots, None
        trouble = ""
        if robots is not None:
            try:
                robots.write_line(END)
                robots.wait(self._orders.grace_s + _MARGIN_S)
            except ChildError as error:
                trouble = str(error)
            robots.stop()
        while self._links:
            self._links.pop().stop()
        return trouble

    @property
    def _first(self) -> int:
        return (self.number * _LIVES + self._lives) * _A_LIFE

    def _log(self, life: int) -> Path:
        return self._folder / f"group{self.number}life{life}.jsonl"

    def _live(self) -> None:
        orders = replace(
            self._orders,
            endpoint=",".join(link.endpoint for link in self._links),
            log=str(self._log(self._lives)),
            first=self._first,
            seed=self._orders.seed + self._lives,
        )
        self._robots = None
        robots = robots_child(orders)
        with on(self._cores):
            robots.start()
        robots.write_line(repr(time.perf_counter()))
        self._robots = robots

    def _count_cuts(self, places: Sequence[int], change: int) -> None:
        with self._lock:
            for place in places:
                self._cuts[place] += change
                if self._cuts[place]:
                    self._links[place].cut()
                else:
                    self._links[place].mend()
