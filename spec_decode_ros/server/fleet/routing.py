"""Which replica serves which robot: the balancer's table, without a socket or a clock of its own.

A robot stays with its replica, because the caches of its action are there. It gets another one when its own is
found dead, when its own is to leave, and when another one has become much emptier: then at a pause between its
messages, or after `RoutingPolicy.patience_s` in any case. A robot that has just lost its replica has none until
its next message, which goes to the replica with the fewest robots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from spec_decode_ros.errors import SpecDecodeError


@dataclass(frozen=True)
class RoutingPolicy:
    """How long what is waited for.

    Attributes:
        quiet_s: a robot of which and to which nothing was said for so long may move at little cost. Robots ping once
            a second, so a pause of a second or more is never seen.
        patience_s: after so long it moves in the middle of an action, which is then read anew by the other replica.
        forget_s: a robot that has said nothing for so long is gone.
        max_robots: further ones are turned away.
    """

    quiet_s: float = 0.8
    patience_s: float = 30.0
    forget_s: float = 10.0
    max_robots: int = 4096

    def __post_init__(self) -> None:
        if not 0.0 <= self.quiet_s < 1.0:
            raise SpecDecodeError(
                f"quiet_s is {self.quiet_s:g}, but must be below 1: robots ping once a second"
            )
        if not 0.0 <= self.patience_s < 1e6:
            raise SpecDecodeError(f"patience_s is {self.patience_s:g}, but must be a number of seconds")
        if not 2.0 <= self.forget_s < 1e6:
            raise SpecDecodeError(
                f"forget_s is {self.forget_s:g}, but must be at least 2: robots ping once a second"
            )
        if self.max_robots < 1:
            raise SpecDecodeError(f"max_robots is {self.max_robots}, but must be at least 1")


@dataclass
class _Robot:
    replica: str | None
    said: float  # when the robot said something
    active: float  # when something was said by it or to it


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
    """One row of the table: whether the replica answers, whether it is to leave, and how many robots it has."""

    up: bool
    leaving: bool
    robots: int


@dataclass(frozen=True)
class Due:
    """What time has brought: robots that have just lost their replica, and robots that are gone."""

    moved: tuple[bytes, ...] = ()
    gone: tuple[bytes, ...] = ()


def emptiest(loads: Mapping[str, int]) -> str | None:
    """The replica with the fewest robots, of several the first by name; None of none."""
    return min(loads, key=lambda name: (loads[name], name), default=None)


def surplus(loads: Mapping[str, int], homeless: int = 0) -> dict[str, int]:
    """How many robots each replica has above its fair share of all robots, `homeless` ones included.

    Shares differ by at most one and the fullest replicas have the larger ones, so that the fewest robots move.
    """
    if not loads:
        return {}
    share, larger = divmod(sum(loads.values()) + homeless, len(loads))
    ranked = sorted(loads, key=lambda name: (-loads[name], name))
    above = {name: loads[name] - share - (rank < larger) for rank, name in enumerate(ranked)}
    return {name: count for name, count in above.items() if count > 0}


class Routing:
    """The table. Times are seconds on any steady clock, the same one in every call."""

    def __init__(self, policy: RoutingPolicy | None = None) -> None:
        self.policy = policy or RoutingPolicy()
        self._replicas: dict[str, _Replica] = {}
        self._robots: dict[bytes, _Robot] = {}
        self._uneven_since: float | None = None

    # ---- replicas ------------------------------------------------------------------------------------------

    def add(self, replica: str) -> None:
        """Know a replica, which gets no robots before it has `answered`; one that was to leave stays after all."""
        self._replicas.setdefault(replica, _Replica()).leaving_since = None

    def answered(self, replica: str) -> None:
        """The replica lives."""
        self._replicas[replica].up = True

    def lost(self, replica: str) -> tuple[bytes, ...]:
        """The replica is found dead; returns the robots that it had. It may answer again."""
        self._replicas[replica].up = False
        return self._unassign(self._replicas[replica].robots)

    def leave(self, replica: str, now: float) -> None:
        """Give the replica no more robots; those that it has move as time allows."""
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

    @property
    def robots(self) -> int:
        """How many robots are known."""
        return len(self._robots)

    def admits(self, robot: bytes) -> bool:
        """Whether the robot is known, or there is room for one more."""
        return robot in self._robots or len(self._robots) < self.policy.max_robots

    def replica_of(self, robot: bytes) -> str | None:
        """The robot's replica, if it has one."""
        known = self._robots.get(robot)
        return known.replica if known else None

    def route(self, robot: bytes, now: float) -> str | None:
        """The robot, which must be admitted, has said something: who gets it? None while no replica is up."""
        known = self._robots.setdefault(robot, _Robot(None, now, now))
        known.said = known.active = now
        if known.replica is None:
            # Better a replica that is to leave than none.
            known.replica = emptiest(
                self._loads(lambda entry: entry.open) or self._loads(lambda entry: entry.up)
            )
            if known.replica is not None:
                self._replicas[known.replica].robots.add(robot)
        return known.replica

    def longest_silent(self, robots: Iterable[bytes]) -> bytes:
        """Which of these, all of them known, has said nothing for the longest time."""
        return min(robots, key=lambda robot: self._robots[robot].said)

    def answered_to(self, robot: bytes, now: float) -> None:
        """Something was said to the robot."""
        if robot in self._robots:
            self._robots[robot].active = now

    def forget(self, robot: bytes) -> None:
        """The robot is gone; an unknown one is no error."""
        known = self._robots.pop(robot, None)
        if known and known.replica is not None:
            self._replicas[known.replica].robots.discard(robot)

    # ---- time ----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> Due:
        """Time has passed; call it several times a second."""
        gone = tuple(
            robot for robot, known in self._robots.items() if now - known.said >= self.policy.forget_s
        )
        for robot in gone:
            self.forget(robot)
        moving = [*self._off_the_leaving(now), *self._off_the_fullest(now)]
        return Due(self._unassign(moving), gone)

    def _off_the_leaving(self, now: float) -> list[bytes]:
        if not self._loads(lambda entry: entry.open):
            return []
        return [
            robot
            for entry in self._replicas.values()
            if entry.leaving_since is not None
            for robot in entry.robots
            if self._is_quiet(robot, now) or now - entry.leaving_since >= self.policy.patience_s
        ]

    def _off_the_fullest(self, now: float) -> list[bytes]:
        homeless = sum(known.replica is None for known in self._robots.values())
        above = surplus(self._loads(lambda entry: entry.open), homeless)
        if not above:
            self._uneven_since = None
            return []
        if self._uneven_since is None:
            self._uneven_since = now
        overdue = now - self._uneven_since >= self.policy.patience_s
        moving: list[bytes] = []
        for name, count in above.items():
            quietest = sorted(self._replicas[name].robots, key=lambda robot: self._robots[robot].active)
            moving += [robot for robot in quietest[:count] if overdue or self._is_quiet(robot, now)]
        return moving

    def _is_quiet(self, robot: bytes, now: float) -> bool:
        return now - self._robots[robot].active >= self.policy.quiet_s

    def _loads(self, which: Callable[[_Replica], bool]) -> dict[str, int]:
        return {name: len(entry.robots) for name, entry in self._replicas.items() if which(entry)}

    def _unassign(self, robots: list[bytes] | set[bytes]) -> tuple[bytes, ...]:
        unassigned = tuple(robots)
        for robot in unassigned:
            known = self._robots[robot]
            if known.replica in self._replicas:
                self._replicas[known.replica].robots.discard(robot)
            known.replica = None
        return unassigned
