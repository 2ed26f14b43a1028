"""Failover: which of several servers a robot uses. Pure: no sockets, no clock, no thread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.backoff import backoff_s


@dataclass(frozen=True)
class ConnectionStatus:
    """What is known of one server at one moment.

    Attributes:
        welcomed: it has answered the greeting on the present connection.
        silence_s: seconds since anything arrived from it.
        failed: it could not be reached, or refuses this robot.
    """

    welcomed: bool
    silence_s: float = 0.0
    failed: bool = False


@dataclass(frozen=True)
class FailoverPolicy:
    """When a robot changes its server. All in seconds.

    Attributes:
        silent_s: silence after which a server has failed; pings go out once a second.
        startup_s: how long to wait for the first server at the start, while another one answers already.
        stable_s: how long a preferred server must be well before the robot returns to it; doubled each time that it had
            to be left again, up to `max_stable_s`.
        busy_s: a server is left when it has been full for this time, or announces that it will be.
        avoid_s: how long a server that was full is avoided.
        draining_s: how long a server that is about to end is avoided, unless it welcomes the robot again.
    """

    silent_s: float = 2.5
    startup_s: float = 1.0
    stable_s: float = 5.0
    max_stable_s: float = 300.0
    busy_s: float = 0.5
    avoid_s: float = 10.0
    draining_s: float = 60.0

    def __post_init__(self) -> None:
        if not all(value > 0 for value in vars(self).values()):
            raise SpecDecodeError(f"Every time of a FailoverPolicy must be above 0: {self}.")


@dataclass
class _KnownServer:
    """What is remembered of one server."""

    well_since: float | None = None
    used_since: float | None = None
    failures: int = 0
    busy_since: float | None = None
    avoid_until: float = 0.0
    draining_until: float = 0.0


class Failover:
    """Chooses among `count` servers, in order of preference.

    An action that goes well is never disturbed: during an action a server is left only if it has failed.
    All times are seconds of one steady clock.
    """

    def __init__(self, count: int, now: float, policy: FailoverPolicy | None = None) -> None:
        self._policy = policy or FailoverPolicy()
        self._servers = [_KnownServer() for _ in range(count)]
        self._began = now
        self.current = 0
        self.changes = 0

    def on_welcome(self, index: int) -> None:
        """A new connection to it stands: what was known of its load no longer counts."""
        server = self._servers[index]
        server.busy_since, server.avoid_until, server.draining_until = None, 0.0, 0.0

    def on_busy(self, index: int, now: float, retry_s: float) -> None:
        """It has refused an action because it is full, and suggests to retry after `retry_s`."""
        server = self._servers[index]
        if server.busy_since is None:
            server.busy_since = now
        if now + retry_s - server.busy_since >= self._policy.busy_s:
            server.avoid_until = now + max(retry_s, self._policy.avoid_s)

    def on_draining(self, index: int, now: float, refused: bool) -> None:
        """It takes no new actions because it is about to end; `refused`: not even the present one."""
        server = self._servers[index]
        server.draining_until = now + self._policy.draining_s
        if refused:
            server.avoid_until = server.draining_until

    def on_opened(self, index: int) -> None:
        """It has taken an action."""
        self._servers[index].busy_since = None

    def review(self, statuses: Sequence[ConnectionStatus], now: float, in_action: bool) -> bool:
        """Choose again; returns whether `current` has changed."""
        for server, status in zip(self._servers, statuses, strict=True):
            well = status.welcomed and status.silence_s <= self._policy.silent_s
            server.well_since = (now if server.well_since is None else server.well_since) if well else None
        current = self._servers[self.current]
        if self._is_usable(self.current, now, in_action):
            if current.used_since is None:
                current.used_since = now
            if now - current.used_since >= 2 * self._policy.max_stable_s:
                current.failures = 0
            better = [] if in_action else [i for i in range(self.current) if self._is_stable(i, now)]
            return self._change(better[0], now) if better else False
        may_still_come = current.used_since is None and not statuses[self.current].failed
        if may_still_come and now - self._began < self._policy.startup_s:
            return False
        others = [
            i
            for i in range(len(self._servers))
            if i != self.current and self._is_usable(i, now, in_action=False)
        ]
        if not others:
            return False
        current.failures += current.used_since is not None
        return self._change(next((i for i in others if self._is_stable(i, now)), others[0]), now)

    def _is_usable(self, index: int, now: float, in_action: bool) -> bool:
        server = self._servers[index]
        return server.well_since is not None and now >= (
            server.avoid_until if in_action else max(server.avoid_until, server.draining_until)
        )

    def _is_stable(self, index: int, now: float) -> bool:
        server, policy = self._servers[index], self._policy
        needed_s = backoff_s(server.failures, first_s=policy.stable_s, longest_s=policy.max_stable_s)
        well = server.well_since is not None and now - server.well_since >= needed_s
        return well and self._is_usable(index, now, in_action=False)

    def _change(self, index: int, now: float) -> bool:
        self.current = index
        self._servers[index].used_since = now
        self.changes += 1
        return True
