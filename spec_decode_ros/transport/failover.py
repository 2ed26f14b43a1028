"""Which of several servers a robot uses. Pure: no sockets, no clock, no thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.errors import SpecDecodeError


@dataclass(frozen=True)
class Standing:
    """What is known of one server at one moment.

    Attributes:
        welcomed: it has answered the greeting on the connection that stands now.
        silence_s: seconds since anything was heard of it.
        failed: it could not be reached, or refuses this robot; before the first of either there is hope.
    """

    welcomed: bool
    silence_s: float = 0.0
    failed: bool = False


@dataclass(frozen=True)
class FailoverPolicy:
    """When a robot changes its server. All in seconds.

    Attributes:
        silent_s: a server that has said nothing for so long is not waited for; pings go out once a second.
        first_s: how long the first server is hoped for at the start, while another one answers already.
        steady_s: a preferred server is gone back to when it has been well for so long; twice as long each time that
            it had to be left again, up to `steadiest_s`.
        full_s: a server that has been full for so long, or says that it will be, is left for another one.
        away_s: how long a server that was full is not thought of.
        ends_s: how long one is not thought of that is about to end, unless it welcomes the robot anew.
    """

    silent_s: float = 2.5
    first_s: float = 1.0
    steady_s: float = 5.0
    steadiest_s: float = 300.0
    full_s: float = 0.5
    away_s: float = 10.0
    ends_s: float = 60.0

    def __post_init__(self) -> None:
        if not all(value > 0 for value in vars(self).values()):
            raise SpecDecodeError(f"Every time of a FailoverPolicy must be above 0: {self}.")


@dataclass
class _Record:
    """What is remembered of one server."""

    well_since: float | None = None
    used_since: float | None = None
    left: int = 0
    full_since: float | None = None
    away_until: float = 0.0
    ends_until: float = 0.0


class Failover:
    """Chooses among `count` servers, of which the first is preferred to the second and so on.

    An action that goes well is never disturbed: in the middle of one a server is left only if it has failed.
    All times are seconds of one steady clock.
    """

    def __init__(self, count: int, now: float, policy: FailoverPolicy | None = None) -> None:
        self._policy = policy or FailoverPolicy()
        self._servers = [_Record() for _ in range(count)]
        self._began = now
        self.current = 0
        self.changes = 0

    def welcomed(self, server: int) -> None:
        """A connection to it stands anew: what it said before is no longer of interest."""
        record = self._servers[server]
        record.full_since, record.away_until, record.ends_until = None, 0.0, 0.0

    def full(self, server: int, now: float, retry_s: float) -> None:
        """It has turned an action away, which may ask again in so many seconds."""
        record = self._servers[server]
        if record.full_since is None:
            record.full_since = now
        if now + retry_s - record.full_since >= self._policy.full_s:
            record.away_until = now + max(retry_s, self._policy.away_s)

    def ends(self, server: int, now: float, refused: bool) -> None:
        """It takes no new actions because it is about to end; `refused`: not even the one that runs."""
        record = self._servers[server]
        record.ends_until = now + self._policy.ends_s
        if refused:
            record.away_until = record.ends_until

    def served(self, server: int) -> None:
        """It has taken an action."""
        self._servers[server].full_since = None

    def review(self, standings: Sequence[Standing], now: float, in_action: bool) -> bool:
        """Look at all servers; whether another one is `current` now."""
        for record, standing in zip(self._servers, standings, strict=True):
            well = standing.welcomed and standing.silence_s <= self._policy.silent_s
            record.well_since = (now if record.well_since is None else record.well_since) if well else None
        serves = self._serves(self.current, now, in_action)
        if serves:
            self._forgive(now)
            better = [] if in_action else [i for i in range(self.current) if self._is_steady(i, now)]
            return self._change(better[0], now) if better else False
        hopes = self._servers[self.current].used_since is None and not standings[self.current].failed
        if hopes and now - self._began < self._policy.first_s:
            return False
        others = [
            i
            for i in range(len(self._servers))
            if i != self.current and self._serves(i, now, in_action=False)
        ]
        if not others:
            return False
        self._servers[self.current].left += self._servers[self.current].used_since is not None
        return self._change(next((i for i in others if self._is_steady(i, now)), others[0]), now)

    def _serves(self, server: int, now: float, in_action: bool) -> bool:
        record = self._servers[server]
        return record.well_since is not None and now >= (
            record.away_until if in_action else max(record.away_until, record.ends_until)
        )

    def _is_steady(self, server: int, now: float) -> bool:
        record, policy = self._servers[server], self._policy
        needed = min(policy.steadiest_s, policy.steady_s * 2.0 ** max(0, min(record.left, 32) - 1))
        steady = record.well_since is not None and now - record.well_since >= needed
        return steady and self._serves(server, now, in_action=False)

    def _forgive(self, now: float) -> None:
        """A server that has served long enough is trusted again."""
        record = self._servers[self.current]
        if record.used_since is None:
            record.used_since = now
        if now - record.used_since >= 2 * self._policy.steadiest_s:
            record.left = 0

    def _change(self, server: int, now: float) -> bool:
        self.current = server
        self._servers[server].used_since = now
        self.changes += 1
        return True
