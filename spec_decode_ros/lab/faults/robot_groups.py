"""Robots of a chaos run: groups in processes of their own, each with an emulated link to every service that it uses."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spec_decode_ros.lab.bench.fleet.log import LoggedAction, read_log
from spec_decode_ros.lab.bench.fleet.robots import END, FleetOrders, robots_child
from spec_decode_ros.lab.bench.machine import pinned_to
from spec_decode_ros.lab.faults.services import RestartableService
from spec_decode_ros.lab.network.link import EmulatedLink, LinkProfile
from spec_decode_ros.lab.network.message_faults import MessageFault, MessageFaults
from spec_decode_ros.transport.process import ChildError, ReadyChild

_NUMBERS_PER_START = 100
"""Robots get new numbers with every start of their process."""

_STARTS = 1000
_PREFERRED = 0.75
"""Share of the faults of one link that hit the preferred one."""

_MARGIN_S = 20.0


class RobotGroup:
    """A process of robots, which prefer the services in their order, and the links to these.

    Endpoint, log and first number of the orders are filled in.
    """

    def __init__(
        self,
        number: int,
        services: Sequence[RestartableService],
        profile: LinkProfile,
        orders: FleetOrders,
        folder: Path,
        cores: Sequence[int],
    ) -> None:
        self.number, self.services = number, tuple(services)
        self.killed: dict[int, float] = {}
        self._profile, self._orders, self._folder, self._cores = profile, orders, folder, cores
        self._faults = [MessageFaults() for _ in services]
        self._links: list[EmulatedLink] = []
        self._cuts = [0] * len(services)
        self._starts = 0
        self._robots: ReadyChild | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the links and the robots; the services have to be ready."""
        for service, faults in zip(self.services, self._faults, strict=True):
            link = EmulatedLink(service.endpoint, self._profile, faults=faults)
            link.start()
            self._links.append(link)
        self._start_robots()

    def kill(self) -> None:
        """SIGKILL to the robots' process, and start another one at once."""
        with self._lock:
            assert self._robots is not None, "its robots did not start again"
            at = time.perf_counter()
            self._robots.kill()
            first = self._first
            self.killed |= dict.fromkeys(range(first, first + self._orders.robots), at)
            self._starts += 1
            self._start_robots()

    def cut(self, places: Sequence[int], seconds: float) -> None:
        """Lose everything on some links for a while; cuts may overlap."""
        self._count_cuts(places, 1)
        time.sleep(seconds)
        self._count_cuts(places, -1)

    def schedule(self, place: int, fault: MessageFault) -> threading.Event:
        """Apply a fault to the next message of a link; the event is set when that has been done."""
        return self._faults[place].schedule(fault)

    def link_for(self, seed: int) -> int:
        """The index of one of its links, mostly of the preferred one."""
        rng = random.Random(seed)
        return 0 if rng.random() < _PREFERRED else rng.randrange(len(self.services))

    @property
    def links(self) -> range:
        """The indices of all links."""
        return range(len(self.services))

    def acts(self) -> list[LoggedAction]:
        """All actions since the first start."""
        return [act for start in range(self._starts + 1) for act in read_log(self._log(start))]

    def end(self) -> str:
        """Let running actions end, and stop; returns what went wrong, or nothing. Ending twice does nothing."""
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
        return (self.number * _STARTS + self._starts) * _NUMBERS_PER_START

    def _log(self, start: int) -> Path:
        return self._folder / f"group{self.number}start{start}.jsonl"

    def _start_robots(self) -> None:
        orders = replace(
            self._orders,
            endpoint=",".join(link.endpoint for link in self._links),
            log=str(self._log(self._starts)),
            first=self._first,
            seed=self._orders.seed + self._starts,
        )
        self._robots = None
        robots = robots_child(orders)
        with pinned_to(self._cores):
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
