"""Which key owns which routing identity, who is gone, and which robot gives way where there is no room."""

from __future__ import annotations

from spec_decode_ros.transport.peers import PeerLimits, Peers

LIMITS = PeerLimits(most=4, grace_s=10.0, silence_s=60.0)


def test_an_identity_belongs_to_the_key_that_used_it_first() -> None:
    peers = Peers(LIMITS)
    assert peers.welcome(b"a", "key 1", "key 1", 0.0) == []
    assert peers.hears(b"a", "key 1", 1.0)
    assert peers.may_send(b"a")
    assert not peers.hears(b"a", "key 2", 2.0)
    assert not peers.may_send(b"a")  # whoever holds the connection now is not the owner
    assert peers.key(b"a") == "key 1"
    assert peers.hears(b"a", "key 1", 3.0)
    assert peers.may_send(b"a")


def test_when_its_owner_is_gone_an_identity_is_free() -> None:
    peers = Peers(LIMITS)
    peers.welcome(b"a", "key 1", "key 1", 0.0)
    assert peers.gone(60.0) == []
    assert peers.gone(60.1) == [b"a"]
    assert b"a" not in peers
    assert peers.hears(b"a", "key 2", 61.0)
    peers.welcome(b"a", "key 2", "key 2", 61.0)
    assert peers.key(b"a") == "key 2"


def test_a_thief_does_not_keep_an_identity_alive() -> None:
    peers = Peers(LIMITS)
    peers.welcome(b"a", "key 1", "key 1", 0.0)
    for second in range(70):
        peers.hears(b"a", "key 2", float(second))
    assert peers.gone(70.0) == [b"a"]


def test_who_cannot_be_reached_has_a_while_to_come_back() -> None:
    peers = Peers(LIMITS)
    peers.welcome(b"a", "", "", 0.0)
    peers.unreachable(b"a", 1.0)
    peers.unreachable(b"a", 9.0)
    assert peers.gone(11.0) == []
    peers.hears(b"a", "", 11.0)
    assert peers.gone(12.0) == []
    peers.unreachable(b"a", 12.0)
    assert peers.gone(22.1) == [b"a"]
    peers.unreachable(b"stranger", 1.0)
    assert len(peers) == 0


def test_without_room_one_of_the_robot_with_the_most_connections_gives_way() -> None:
    peers = Peers(LIMITS)
    for second, client in enumerate((b"a", b"b", b"c")):
        peers.welcome(client, "greedy", "greedy", float(second))
    peers.welcome(b"d", "modest", "modest", 3.0)
    peers.hears(b"a", "greedy", 4.0)
    assert peers.welcome(b"e", "newcomer", "newcomer", 5.0) == [b"b"]  # of the greedy ones the longest silent
    assert peers.welcome(b"f", "greedy", "greedy", 6.0) == [b"c"]  # a greedy one only takes from itself
    assert peers.key(b"d") == "modest"
    assert peers.welcome(b"d", "modest", "modest", 7.0) == []  # who is there already needs no room


def test_where_nobody_has_more_than_one_connection_a_stranger_waits() -> None:
    peers = Peers(LIMITS)
    for index in range(4):
        assert peers.welcome(b"%d" % index, f"key {index}", f"key {index}", 0.0) == []
    assert peers.welcome(b"x", "key x", "key x", 1.0) is None
    assert len(peers) == 4


def test_without_keys_nobody_gives_way() -> None:
    peers = Peers(LIMITS)
    for index in range(4):
        peers.welcome(b"%d" % index, "", "", 0.0)
    assert peers.welcome(b"x", "", "", 1.0) is None


def test_the_peers_of_a_key_are_found() -> None:
    peers = Peers(LIMITS)
    peers.welcome(b"a", "key 1", "key 1", 0.0)
    peers.welcome(b"b", "key 2", "key 2", 0.0)
    peers.welcome(b"c", "key 1", "key 1", 0.0)
    assert peers.with_keys({"key 1", "key 9"}) == [b"a", b"c"]
    peers.forget(b"a")
    assert peers.with_keys(["key 1"]) == [b"c"]


def test_robots_behind_a_balancer_share_its_key_and_not_its_fate() -> None:
    peers = Peers(LIMITS)
    peers.welcome(b"a", "balancer", "front/modest", 0.0)
    peers.welcome(b"b", "balancer", "front/greedy", 1.0)
    peers.welcome(b"c", "balancer", "front/greedy", 2.0)
    peers.welcome(b"d", "robot", "direct", 3.0)
    assert peers.welcome(b"e", "robot 2", "late", 4.0) == [b"b"]
    assert peers.welcome(b"f", "robot 3", "later", 5.0) is None  # now everybody has one
    assert peers.with_keys(["balancer"]) == [b"a", b"c"]
