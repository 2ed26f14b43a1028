"""Whose connection goes where there is no room."""

from __future__ import annotations

from spec_decode_ros.transport.connection_counts import ConnectionCounts


def test_the_robot_with_the_most_connections_gives_way() -> None:
    crowd = ConnectionCounts()
    for client in (b"a", b"b", b"c"):
        crowd.add("greedy", client)
    crowd.add("modest", b"d")
    assert list(crowd.gives_way_to("newcomer")) == [b"a", b"b", b"c"]
    assert list(crowd.gives_way_to("modest")) == [b"a", b"b", b"c"]
    assert list(crowd.gives_way_to("greedy")) == []
    crowd.remove("greedy", b"a")
    assert list(crowd.gives_way_to("modest")) == []  # it would have as many itself
    assert list(crowd.gives_way_to("newcomer")) == [b"b", b"c"]
    assert list(crowd.of("greedy")) == [b"b", b"c"]


def test_who_has_no_name_does_not_count() -> None:
    crowd = ConnectionCounts()
    for client in (b"a", b"b", b"c"):
        crowd.add("", client)
    assert list(crowd.gives_way_to("newcomer")) == list(crowd.of("")) == []
    crowd.remove("", b"a")
    crowd.add("greedy", b"d")
    crowd.add("greedy", b"e")
    assert list(crowd.gives_way_to("")) == []
