"""Routing table of the balancer: which replica serves which robot. Without sockets and clocks.

A robot stays with its replica, because the caches of its action are there. It gets another one when its own is dead, is
leaving, or has become much fuller than another one; in the last two cases at a pause between its messages, or after
`RoutingPolicy.patience_s`. A robot that has lost its replica is assigned to the replica with the fewest robots when its
next message comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.handshake import TargetPin


@dataclass(frozen=True)
class RoutingPolicy:
    """When robots are moved, and among which replicas.

    Attributes:
        quiet_s: a pause between messages in which a robot can be moved at little cost. Robots ping once a second, so a
            pause of a second or more never occurs.
        patience_s: after this time a robot is moved during an action, which the other replica then prefills again.
        target_fingerprint: of the target weights that a replica must have; empty for those of the replicas that are up,
            `any` for no matter which.
    """

    quiet_s: float = 0.8
    patience_s: float = 30.0
    target_fingerprint: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.quiet_s < 1.0:
            raise SpecDecodeError(
                f"quiet_s is {self.quiet_s:g}, but must be below 1: robots ping once a second"
            )
        if not 0.0 <= self.patience_s < 1e6:
            raise SpecDecodeError(f"patience_s is {self.patience_s:g}, but must be a number of seconds")
        TargetPin(self.target_fingerprint)  # checks it


@dataclass
class _Robot:
    replica: str | None
    last_message: float
    """To it or from it."""


@dataclass
class _Replica:
    up: bool = False
    leaving_since: float | None = None
    robots: set[bytes] = field(default_factory=set)

    @property
    def open(self) -> bool:
        return self.up and self.leaving_since is None


@dataclass(frozen=True)
class ReplicaState:
    """Whether a replica answers, whether it is leaving, and how many robots it has."""

    up: bool
    leaving: bool
    robots: int


def emptiest(loads: Mapping[str, int]) -> str | None:
    """The replica with the fewest robots, of several the first by name; None of none."""
    return min(loads, key=lambda name: (loads[name], name), default=None)


def surplus(loads: Mapping[str, int], unassigned: int = 0) -> dict[str, int]:
    """How many robots each replica has above its fair share of all robots, including `unassigned` ones.

    Shares differ by at most one and the fullest replicas have the larger ones, so that the fewest robots move.
    """
    if not loads:
        return {}
    share, larger = divmod(sum(loads.values()) + unassigned, len(loads))
    ranked = sorted(loads, key=lambda name: (-loads[name], name))
    above = {name: loads[name] - share - (rank < larger) for rank, name in enumerate(ranked)}
    return {name: count for name, count in above.items() if count > 0}


class Routing:
    """The table. Times are seconds on one steady clock."""

    def __init__(self, policy: RoutingPolicy | None = None) -> None:
        self._policy = policy or RoutingPolicy()
        self._replicas: dict[str, _Replica] = {}
        self._robots: dict[bytes, _Robot] = {}
        self._uneven_since: float | None = None

    # ---- replicas ------------------------------------------------------------------------------------------

    def add(self, replica: str) -> None:
        """Add a replica, which gets no robots before it is up; one that was leaving stays."""
        self._replicas.setdefault(replica, _Replica()).leaving_since = None

    def mark_up(self, replica: str) -> None:
        """The replica answers."""
        self._replicas[replica].up = True

    def mark_down(self, replica: str) -> tuple[bytes, ...]:
        """The replica is dead; returns the robots that it had. It may come back."""
        self._replicas[replica].up = False
        return self._unassign(self._replicas[replica].robots)

    def leave(self, replica: str, now: float) -> None:
        """Give the replica no more robots; those that it has are moved in time."""
        if self._replicas[replica].leaving_since is None:
            self._replicas[replica].leaving_since = now

    def remove(self, replica: str) -> tuple[bytes, ...]:
        """Forget the replica; returns the robots that it had. An unknown one is no error."""
        return self._unassign(self._replicas.pop(replica, _Replica()).robots)

    @property
    def replicas(self) -> dict[str, ReplicaState]:
        """Every replica by name."""
        return {
            name: ReplicaState(entry.up, entry.leaving_since is not None, len(entry.robots))
            for name, entry in self._replicas.items()
        }

    # ---- robots --------------------------------------------------------------------------------------------

    def route(self, robot: bytes, now: float) -> str | None:
        """The replica for a message from this robot, None while no replica is up."""
        known = self._robots.setdefault(robot, _Robot(None, now))
        known.last_message = now
        if known.replica is None:
            # Better a replica that is leaving than none.
            known.replica = emptiest(
                self._loads(lambda entry: entry.open) or self._loads(lambda entry: entry.up)
            )
            if known.replica is not None:
                self._replicas[known.replica].robots.add(robot)
        return known.replica

    def on_answer(self, robot: bytes, now: float) -> None:
        """Something was sent to the robot."""
        if robot in self._robots:
            self._robots[robot].last_message = now

    def forget(self, robot: bytes) -> None:
        """The robot is gone; an unknown one is no error."""
        known = self._robots.pop(robot, None)
        if known and known.replica is not None:
            self._replicas[known.replica].robots.discard(robot)

    # ---- time ----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> tuple[bytes, ...]:
        """Take robots away from leaving and overfull replicas, and return them. Call it several times a second."""
        return self._unassign([*self._leaving_robots(now), *self._surplus_robots(now)])

    def _leaving_robots(self, now: float) -> list[bytes]:
        if not self._loads(lambda entry: entry.open):
            return []
        return [
            robot
            for entry in self._replicas.values()
            if entry.leaving_since is not None
            for robot in entry.robots
            if self._is_quiet(robot, now) or now - entry.leaving_since >= self._policy.patience_s
        ]

    def _surplus_robots(self, now: float) -> list[bytes]:
        unassigned = sum(known.replica is None for known in self._robots.values())
        above = surplus(self._loads(lambda entry: entry.open), unassigned)
        if not above:
            self._uneven_since = None
            return []
        if self._uneven_since is None:
            self._uneven_since = now
        overdue = now - self._uneven_since >= self._policy.patience_s
        moving: list[bytes] = []
        for name, count in above.items():
            quietest = sorted(self._replicas[name].robots, key=lambda robot: self._robots[robot].last_message)
            moving += [robot for robot in quietest[:count] if overdue or self._is_quiet(robot, now)]
        return moving

    def _is_quiet(self, robot: bytes, now: float) -> bool:
        return now - self._robots[robot].last_message >= self._policy.quiet_s

    def _loads(self, which: Callable[[_Replica], bool]) -> dict[str, int]:
        return {name: len(entry.robots) for name, entry in self._replicas.items() if which(entry)}

    def _unassign(self, robots: Iterable[bytes]) -> tuple[bytes, ...]:
        unassigned = tuple(robots)
        for robot in unassigned:
            known = self._robots[robot]
            if known.replica in self._replicas:
                self._replicas[known.replica].robots.discard(robot)
            known.replica = None
        return unassigned
