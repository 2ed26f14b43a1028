"""Forwarded identities: the routing ids of a balancer's connections, and how a server reads them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.transport.forwarded_identity import robot_of, routing_id

KEY, OTHER = b"k" * 40, b"o" * 40
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
IDS = st.binary(min_size=1, max_size=255)
VALID = re.compile(r"front(/[A-Za-z0-9_-]{1,64})*")


@given(NAMES, IDS)
def test_the_server_reads_the_name_of_the_robot(name: str, robot: bytes) -> None:
    client = routing_id(name, robot, KEY)
    assert robot_of("front", client) == f"front/{name}"
    assert 16 < len(client) <= 255 and client[0] != 0


@given(st.lists(st.tuples(st.one_of(st.just(""), NAMES), IDS, st.sampled_from([KEY, OTHER])), unique=True))
def test_no_two_robots_have_the_same_connection(robots: list[tuple[str, bytes, bytes]]) -> None:
    assert len({routing_id(*robot) for robot in robots}) == len(robots)


def test_a_robot_with_an_identity_of_its_own_is_known_again() -> None:
    assert routing_id("go2", b"own", KEY) == routing_id("go2", b"own", KEY)
    # What ZeroMQ made up is another robot's after the next start.
    assert routing_id("go2", b"\0made", KEY) != routing_id("go2", b"\0made", KEY)


@given(st.lists(NAMES, min_size=1, max_size=9))
def test_behind_several_balancers_the_name_is_a_path(path: list[str]) -> None:
    """The last of `path` is the robot, and the one before it the balancer that it connects to."""
    name = path[-1]
    for balancer in reversed(path[:-1]):
        client = routing_id(name, b"id", KEY)
        assert len(client) <= 255
        name = robot_of(balancer, client)
    if sum(map(len, path[1:])) + len(path) < 220:
        assert name == "/".join(path)


@given(IDS)
def test_robots_without_a_name_are_told_apart(robot: bytes) -> None:
    one, two = routing_id("", robot, KEY), routing_id("", robot + b"2", KEY)
    names = {robot_of("front", one), robot_of("front", two)}
    assert len(names) == 2 and all(VALID.fullmatch(name) for name in names)
    # Also through another balancer.
    assert (
        robot_of("inner", routing_id(robot_of("front", one), robot, OTHER))
        == f"inner/{robot_of('front', one)}"
    )


@given(st.text(min_size=1, max_size=300))
def test_a_key_file_of_any_name_is_one_robot(name: str) -> None:
    robot = robot_of("front", routing_id(name, b"id", KEY))
    assert robot != "front" and robot == robot_of("front", routing_id(name, b"another id", KEY))
    assert VALID.fullmatch(robot)
    assert robot != robot_of("front", routing_id(name + "x", b"id", KEY))


@given(st.binary(max_size=255))
def test_no_routing_id_gives_a_name_outside_its_balancers(client: bytes) -> None:
    assert VALID.fullmatch(robot_of("front", client))


def test_names_that_no_key_can_have_count_as_the_balancer() -> None:
    for text in (b"go2 a", b"../x", b"a//b", b"/a", b"a/", b"go2\n", b"\xc3\xa4", b"x" * 65, b"\0"):
        assert robot_of("front", b"m" * 16 + text) == "front"
    for short in (b"", b"\0abcd", b"m" * 15):
        assert robot_of("front", short) == "front"
