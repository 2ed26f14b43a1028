"""Which key owns which routing id, who is gone, and who is evicted when there is no room."""

from __future__ import annotations

from spec_decode_ros.transport.peers import PeerLimits, Peers

LIMITS = PeerLimits(most=4, grace_s=10.0, silence_s=60.0)


def admit(peers: Peers, client: bytes, key: str, robot: str, now: float, own: bool = True) -> bytes | bool:
    """The peer that was evicted for a new one, or whether there was room for it."""
    evicted = None
    if peers.full:
        evicted = peers.evictable(robot, own)
        if evicted is None:
            return False
        peers.forget(evicted)
    peers.add(client, key, robot, now)
    return evicted or True


def expire(peers: Peers, now: float) -> list[bytes]:
    expired = peers.expired(now)
    for client in expired:
        peers.forget(client)
    return expired


def test_the_robot_with_the_most_connections_is_evicted_from() -> None:
    peers = Peers(LIMITS)
    for client in (b"a", b"b", b"c"):
        peers.add(client, "key", "greedy", 0.0)
    peers.add(b"d", "key", "modest", 0.0)
    assert peers.evictable("newcomer") == peers.evictable("modest") == b"a"
    assert peers.evictable("greedy", own=False) is None
    peers.forget(b"a")
    assert peers.evictable("modest", own=False) is None  # it would have as many itself
    assert peers.evictable("newcomer", own=False) == b"b"
    assert peers.evictable("") is None


def test_an_identity_belongs_to_the_key_that_used_it_first() -> None:
    peers = Peers(LIMITS)
    assert admit(peers, b"a", "key 1", "key 1", 0.0) is True
    assert peers.on_message(b"a", "key 1", 1.0)
    assert peers.may_send(b"a")
    assert not peers.on_message(b"a", "key 2", 2.0)
    assert not peers.may_send(b"a")  # whoever holds the connection now is not the owner
    assert peers.key(b"a") == "key 1"
    assert peers.on_message(b"a", "key 1", 3.0)
    assert peers.may_send(b"a")


def test_when_its_owner_is_gone_an_identity_is_free() -> None:
    peers = Peers(LIMITS)
    admit(peers, b"a", "key 1", "key 1", 0.0)
    assert expire(peers, 60.0) == []
    assert expire(peers, 60.1) == [b"a"]
    assert b"a" not in peers
    assert peers.on_message(b"a", "key 2", 61.0)
    admit(peers, b"a", "key 2", "key 2", 61.0)
    assert peers.key(b"a") == "key 2"


def test_another_key_does_not_keep_an_identity_alive() -> None:
    peers = Peers(LIMITS)
    admit(peers, b"a", "key 1", "key 1", 0.0)
    for second in range(70):
        peers.on_message(b"a", "key 2", float(second))
    assert expire(peers, 70.0) == [b"a"]


def test_an_unreachable_peer_has_a_while_to_come_back() -> None:
    peers = Peers(LIMITS)
    admit(peers, b"a", "", "", 0.0)
    peers.on_unreachable(b"a", 1.0)
    peers.on_unreachable(b"a", 9.0)
    assert expire(peers, 11.0) == []
    peers.on_message(b"a", "", 11.0)
    assert expire(peers, 12.0) == []
    peers.on_unreachable(b"a", 12.0)
    assert expire(peers, 22.1) == [b"a"]
    peers.on_unreachable(b"stranger", 1.0)
    assert len(peers) == 0


def test_without_room_one_of_the_robot_with_the_most_connections_is_evicted() -> None:
    peers = Peers(LIMITS)
    for second, client in enumerate((b"a", b"b", b"c")):
        admit(peers, client, "greedy", "greedy", float(second))
    admit(peers, b"d", "modest", "modest", 3.0)
    peers.on_message(b"a", "greedy", 4.0)
    assert admit(peers, b"e", "newcomer", "newcomer", 5.0) == b"b"  # of the greedy ones the longest silent
    assert admit(peers, b"f", "greedy", "greedy", 6.0) == b"c"  # a greedy one only takes from itself
    assert peers.key(b"d") == "modest"
    assert not admit(peers, b"g", "greedy", "greedy", 7.0, own=False)  # nor from itself, if it may not


def test_where_nobody_has_more_than_one_connection_a_stranger_waits() -> None:
    peers = Peers(LIMITS)
    for index in range(4):
        assert admit(peers, b"%d" % index, f"key {index}", f"key {index}", 0.0) is True
    assert admit(peers, b"x", "key x", "key x", 1.0) is False
    assert len(peers) == 4


def test_without_keys_nobody_is_evicted() -> None:
    peers = Peers(LIMITS)
    for index in range(4):
        admit(peers, b"%d" % index, "", "", 0.0)
    assert admit(peers, b"x", "", "", 1.0) is False


def test_the_peers_of_a_key_are_found() -> None:
    peers = Peers(LIMITS)
    admit(peers, b"a", "key 1", "key 1", 0.0)
    admit(peers, b"b", "key 2", "key 2", 0.0)
    admit(peers, b"c", "key 1", "key 1", 0.0)
    assert peers.with_keys({"key 1", "key 9"}) == [b"a", b"c"]
    peers.forget(b"a")
    assert peers.with_keys(["key 1"]) == [b"c"]


def test_robots_behind_a_balancer_share_its_key_and_not_its_fate() -> None:
    peers = Peers(LIMITS)
    admit(peers, b"a", "balancer", "front/modest", 0.0)
    admit(peers, b"b", "balancer", "front/greedy", 1.0)
    admit(peers, b"c", "balancer", "front/greedy", 2.0)
    admit(peers, b"d", "robot", "direct", 3.0)
    assert admit(peers, b"e", "robot 2", "late", 4.0) == b"b"
    assert admit(peers, b"f", "robot 3", "later", 5.0) is False  # now everybody has one
    assert peers.with_keys(["balancer"]) == [b"a", b"c"]
