"""Who speaks to a server: which key owns which routing identity, and who has gone. Without sockets and clocks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from spec_decode_ros.transport.connection_counts import ConnectionCounts


@dataclass(frozen=True)
class PeerLimits:
    """How many peers a server remembers, and for how long.

    Attributes:
        most: peers at once. Then one of the robot with the most connections gives way, so that nobody can keep the
            others out; without keys a further one is told to come back.
        grace_s: so long a peer may be unreachable before it is gone.
        silence_s: so long a peer may say nothing before it is gone; a client pings once a second.
    """

    most: int = 4096
    grace_s: float = 10.0
    silence_s: float = 60.0


@dataclass
class _Peer:
    key: str
    robot: str
    seen: float
    unreachable_since: float | None = None
    usurped: bool = False


class Peers:
    """The peers that a server has welcomed.

    A routing identity belongs to the key that first said hello with it, until that peer is gone: what arrives under
    it with another key is not from the peer, and until the peer itself is heard again nothing may be sent there.
    """

    def __init__(self, limits: PeerLimits) -> None:
        self._limits = limits
        self._peers: dict[bytes, _Peer] = {}
        self._crowd = ConnectionCounts()

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, client: bytes) -> bool:
        return client in self._peers

    @property
    def all(self) -> list[bytes]:
        """Everybody; from any thread."""
        return list(self._peers)

    def key(self, client: bytes) -> str | None:
        """The key that owns this identity, None for a stranger; without keys it is an empty text."""
        peer = self._peers.get(client)
        return peer.key if peer else None

    def hears(self, client: bytes, key: str, now: float) -> bool:
        """Something arrived; False if the identity belongs to another key."""
        peer = self._peers.get(client)
        if peer is None:
            return True
        peer.usurped = peer.key != key
        if not peer.usurped:
            peer.seen, peer.unreachable_since = now, None
        return not peer.usurped

    def may_send(self, client: bytes) -> bool:
        """Whether what is sent to this identity reaches its owner, as far as is known; from any thread."""
        peer = self._peers.get(client)
        return peer is None or not peer.usurped

    def welcome(self, client: bytes, key: str, robot: str, now: float) -> list[bytes] | None:
        """A stranger said a fitting hello, or a peer repeated it.

        `robot` is the name of whom it counts as, empty without keys; many robots may share a balancer's key. Returns the
        peers that had to give way, or None if there is no room for a stranger.
        """
        if client in self._peers:
            return []
        give_way = []
        if len(self._peers) >= self._limits.most:
            candidates = self._crowd.gives_way_to(robot) or self._crowd.of(robot)
            if not candidates:
                return None
            give_way.append(min(candidates, key=lambda each: self._peers[each].seen))
            self.forget(give_way[0])
        self._peers[client] = _Peer(key, robot, now)
        self._crowd.add(robot, client)
        return give_way

    def unreachable(self, client: bytes, now: float) -> None:
        """Something could not be sent, because nobody with this identity is connected."""
        peer = self._peers.get(client)
        if peer is not None and peer.unreachable_since is None:
            peer.unreachable_since = now

    def forget(self, client: bytes) -> None:
        peer = self._peers.pop(client, None)
        if peer is not None:
            self._crowd.remove(peer.robot, client)

    def gone(self, now: float) -> list[bytes]:
        """The peers that were unreachable or silent for too long; they are forgotten."""
        gone = [
            client
            for client, peer in self._peers.items()
            if now - peer.seen > self._limits.silence_s
            or (peer.unreachable_since is not None and now - peer.unreachable_since > self._limits.grace_s)
        ]
        for client in gone:
            self.forget(client)
        return gone

    def with_keys(self, keys: Collection[str]) -> list[bytes]:
        """The peers that use one of these keys."""
        return [client for client, peer in self._peers.items() if peer.key in keys] if keys else []
