"""The peers of a ROUTER: which key owns which routing id, who is gone, and who is evicted when there is no room.

Without sockets and clocks; times are seconds of one steady clock.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class PeerLimits:
    """How many peers are remembered, and for how long.

    Attributes:
        most: peers at once. For a further one a connection of the robot with the most connections is evicted, so that
            no robot can keep the others out; without keys the further one is refused.
        grace_s: how long a peer may be unreachable.
        silence_s: how long a peer may be silent; a client pings once a second.
    """

    most: int = 4096
    grace_s: float = 10.0
    silence_s: float = 60.0


@dataclass
class _Peer:
    key: str
    robot: str
    last_message: float
    unreachable_since: float | None = None
    hijacked: bool = False


class Peers:
    """The known peers.

    A routing id belongs to the key that used it first, until that peer is gone. What arrives under it with another key is
    not from the peer, and until the peer itself sends again nothing may be sent to it.
    """

    def __init__(self, limits: PeerLimits) -> None:
        self._limits = limits
        self._peers: dict[bytes, _Peer] = {}
        self._connections: collections.Counter[str] = collections.Counter()

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, client: bytes) -> bool:
        return client in self._peers

    @property
    def all(self) -> list[bytes]:
        """All peers; from any thread."""
        return list(self._peers)

    def key(self, client: bytes) -> str | None:
        """The key that owns this routing id; empty without keys, None if nobody owns it."""
        peer = self._peers.get(client)
        return peer.key if peer else None

    def robot(self, client: bytes) -> str:
        """The name of a peer's robot, empty without keys or if it is not known; from any thread."""
        peer = self._peers.get(client)
        return peer.robot if peer else ""

    @property
    def robots(self) -> int:
        """How many robots with a name there are; from any thread."""
        return len(self._connections)

    def on_message(self, client: bytes, key: str, now: float) -> bool:
        """A message arrived; False if the routing id belongs to another key."""
        peer = self._peers.get(client)
        if peer is None:
            return True
        peer.hijacked = peer.key != key
        if not peer.hijacked:
            peer.last_message, peer.unreachable_since = now, None
        return not peer.hijacked

    def may_send(self, client: bytes) -> bool:
        """Whether what is sent to this routing id reaches its owner, as far as is known; from any thread."""
        peer = self._peers.get(client)
        return peer is None or not peer.hijacked

    @property
    def full(self) -> bool:
        """Whether there is no room for one more."""
        return len(self._peers) >= self._limits.most

    def evictable(self, robot: str, own: bool = True) -> bytes | None:
        """The peer to evict for one more connection of `robot`, None if there is none.

        That is the longest silent one of the robot with the most connections, if it has more than `robot` would have; else,
        with `own`, one of `robot` itself. Peers without a robot's name are never evicted.
        """
        connections = collections.defaultdict(list)
        for client, peer in self._peers.items():
            if peer.robot:
                connections[peer.robot].append(client)
        candidates = max(connections.values(), key=len, default=[])
        if not robot or len(candidates) <= len(connections[robot]) + 1:
            candidates = connections[robot] if own else []
        return min(candidates, key=lambda each: self._peers[each].last_message, default=None)

    def add(self, client: bytes, key: str, robot: str, now: float) -> None:
        """Remember a new peer. `robot` is empty without keys; robots behind a balancer share its key."""
        self.forget(client)
        self._peers[client] = _Peer(key, robot, now)
        if robot:
            self._connections[robot] += 1

    def on_unreachable(self, client: bytes, now: float) -> None:
        """A message could not be sent, because nobody with this routing id is connected."""
        peer = self._peers.get(client)
        if peer is not None and peer.unreachable_since is None:
            peer.unreachable_since = now

    def forget(self, client: bytes) -> None:
        """Remove a peer; an unknown one is no error."""
        peer = self._peers.pop(client, None)
        if peer is not None and peer.robot:
            self._connections[peer.robot] -= 1
            if not self._connections[peer.robot]:
                del self._connections[peer.robot]

    def expired(self, now: float) -> list[bytes]:
        """The peers that were unreachable or silent for too long."""
        return [
            client
            for client, peer in self._peers.items()
            if now - peer.last_message > self._limits.silence_s
            or (peer.unreachable_since is not None and now - peer.unreachable_since > self._limits.grace_s)
        ]

    def with_keys(self, keys: Collection[str]) -> list[bytes]:
        """The peers that use one of these keys."""
        return [client for client, peer in self._peers.items() if peer.key in keys] if keys else []
