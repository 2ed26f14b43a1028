"""A verifier tells the robots behind a balancer apart; real sockets, real keys."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from server.toys import ToyVerifier
from transport.test_secured_router import HELLO, WAIT_S, WELCOME, Robot, eventually, guarded

from spec_decode_ros.decoding.messages import (
    PROTOCOL,
    Error,
    ErrorCode,
    Hello,
    Open,
    Opened,
    Ping,
    Pong,
    ServerMode,
)
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport.forwarded_identity import routing_id
from spec_decode_ros.transport.handshake import HELLO_FIRST
from spec_decode_ros.transport.keys import RobotKeys, make_keys, revoke, robot_keys, server_keys
from spec_decode_ros.transport.peers import PeerLimits

from .test_balancer import balancer

TOY_HELLO = Hello(PROTOCOL, "toy", "toy-50")
ONE_ACTION = ServiceConfig(actions_per_second=0.01)
"""Each robot may begin one action, and the next one after a hundred seconds."""
_PING = iter(range(1, 1_000_000))


class Sites:
    """Folders of keys of a verifier (``cloud``) and of balancers before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keys(self, site: str, name: str, balancer: bool = False) -> RobotKeys:
        """New keys to show at `site`."""
        return robot_keys(make_keys(self.folder / site, name, balancer)[0])

    @contextlib.contextmanager
    def verifier(self, config: ServiceConfig = ONE_ACTION) -> Iterator[VerifierServer]:
        make_keys(self.folder / "cloud", "nobody")
        keys = server_keys(self.folder / "cloud")
        with VerifierServer(ToyVerifier(), "toy", keys=keys, config=config) as server:
            yield server

    @contextlib.contextmanager
    def front(
        self, endpoint: str, balancer_keys: RobotKeys | None, site: str | None = "front", **options: object
    ) -> Iterator[Balancer]:
        """A balancer before `endpoint`, to which robots show the keys of `site`."""
        if site:
            options["keys"] = server_keys(self.folder / site)
        with balancer(endpoint, replica_keys=balancer_keys, **options) as front:
            yield front


@pytest.fixture
def sites(tmp_path: Path) -> Sites:
    return Sites(tmp_path)


def begin(robot: Robot, action_id: int, prompt: str = "go") -> str:
    """Greet and open an action; returns the code of the refusal, or an empty text."""
    robot.say(TOY_HELLO)
    robot.say(Open(action_id, prompt, mode=ServerMode.VERIFY_ONLY))
    while (heard := robot.hear()) is not None:
        if isinstance(heard, Opened | Error):
            return heard.code if isinstance(heard, Error) else ""
    raise AssertionError("no answer")


def answers(robot: Robot, within_s: float = WAIT_S) -> bool:
    """Whether the other side answers a ping."""
    stamp = next(_PING)
    robot.say(Ping(stamp))
    until = time.monotonic() + within_s
    while (left := until - time.monotonic()) > 0:
        if robot.hear(left) == Pong(stamp):
            return True
    return False


def test_a_robot_over_its_rate_costs_the_others_behind_its_balancer_nothing(sites: Sites) -> None:
    balancer_keys = sites.keys("cloud", "front", balancer=True)
    greedy, modest = sites.keys("front", "greedy"), sites.keys("front", "modest")
    with (
        sites.verifier() as cloud,
        sites.front(cloud.endpoint, balancer_keys) as front,
        Robot(front.endpoint, greedy, b"one") as one,
        Robot(front.endpoint, greedy, b"two") as two,
        Robot(front.endpoint, greedy) as three,
        Robot(front.endpoint, modest) as other,
    ):
        assert begin(one, 1) == ""
        for action_id in (2, 3):
            assert begin(one, action_id) == ErrorCode.BUSY
        # Further connections of the same robot are no further robots.
        assert begin(two, 1) == begin(three, 1) == ErrorCode.BUSY
        assert begin(other, 1) == ""
        assert begin(other, 2) == ErrorCode.BUSY
        assert (cloud.counts.actions, cloud.counts.refused) == (2, 5)


def test_failures_are_logged_with_the_robot_behind_the_balancer(
    sites: Sites, caplog: pytest.LogCaptureFixture
) -> None:
    balancer_keys, keys = sites.keys("cloud", "front", balancer=True), sites.keys("front", "go2-a")
    with (
        sites.verifier() as cloud,
        sites.front(cloud.endpoint, balancer_keys) as front,
        Robot(front.endpoint, keys) as robot,
        caplog.at_level(logging.WARNING),
    ):
        robot.say(TOY_HELLO)
        robot.say(Open(1, "unreadable"))
        assert eventually(lambda: cloud.counts.failures == 1)
    (line,) = [record for record in caplog.records if "an action failed" in record.message]
    assert line.robot == "front/go2-a" and line.action_id == 1  # type: ignore[attr-defined]


def test_a_robot_that_pretends_to_be_a_balancer_counts_as_itself(sites: Sites) -> None:
    sites.keys("cloud", "front", balancer=True)
    liar = sites.keys("cloud", "liar")
    claims = [routing_id(f"robot-{number}", b"id", liar.public) for number in range(4)]
    with sites.verifier() as cloud, contextlib.ExitStack() as stack:
        robots = [stack.enter_context(Robot(cloud.endpoint, liar, claim)) for claim in claims]
        assert [begin(robot, 1) for robot in robots] == ["", *[ErrorCode.BUSY] * 3]
        assert {cloud.socket.robot(claim) for claim in claims} == {"liar"}


def test_a_balancer_whose_key_is_not_marked_is_one_robot(sites: Sites) -> None:
    balancer_keys = sites.keys("cloud", "front")
    keys = [sites.keys("front", name) for name in ("a", "b")]
    with (
        sites.verifier() as cloud,
        sites.front(cloud.endpoint, balancer_keys) as front,
        Robot(front.endpoint, keys[0]) as a,
        Robot(front.endpoint, keys[1]) as b,
    ):
        assert begin(a, 1) == ""
        assert begin(b, 1) == ErrorCode.BUSY


def test_what_is_no_name_counts_as_the_balancer(sites: Sites) -> None:
    balancer_keys = sites.keys("cloud", "front", balancer=True)
    with sites.verifier() as cloud, contextlib.ExitStack() as stack:
        ids = [b"m" * 16 + b"../go2", b"n" * 16 + b"go2\n", b"short", b""]
        robots = [stack.enter_context(Robot(cloud.endpoint, balancer_keys, each)) for each in ids]
        assert [begin(robot, 1) for robot in robots] == ["", *[ErrorCode.BUSY] * 3]


def test_a_balancer_without_keys_knows_no_names(sites: Sites) -> None:
    balancer_keys = sites.keys("cloud", "front", balancer=True)
    with (
        sites.verifier() as cloud,
        sites.front(cloud.endpoint, balancer_keys, site=None) as front,
        Robot(front.endpoint) as one,
        # A name that a stranger chooses is none.
        Robot(front.endpoint, identity=b"m" * 16 + b"go2") as two,
        Robot(front.endpoint, identity=b"n" * 16 + b"go2") as three,
    ):
        for robot in (one, two, three):
            assert begin(robot, 1) == ""
            assert begin(robot, 2) == ErrorCode.BUSY
        names = [cloud.socket.robot(client) for client in cloud.socket._peers.all]
        assert len(set(names)) == 3 and all(name.startswith("front/") for name in names)
        assert not any("go2" in name for name in names)


def test_behind_two_balancers_a_robot_is_still_itself(sites: Sites) -> None:
    inner_balancer_keys = sites.keys("cloud", "inner", balancer=True)
    outer_balancer_keys = sites.keys("inner", "outer", balancer=True)
    keys = [sites.keys("outer", name) for name in ("a", "b")]
    beside = sites.keys("inner", "a")  # of the same name, but not behind the same balancer
    with (
        sites.verifier() as cloud,
        sites.front(cloud.endpoint, inner_balancer_keys, "inner") as inner,
        sites.front(inner.endpoint, outer_balancer_keys, "outer") as outer,
        Robot(outer.endpoint, keys[0]) as a,
        Robot(outer.endpoint, keys[0]) as again,
        Robot(outer.endpoint, keys[1]) as b,
        Robot(inner.endpoint, beside) as c,
    ):
        assert [begin(robot, 1) for robot in (a, again, b, c)] == ["", ErrorCode.BUSY, "", ""]
        names = sorted(cloud.socket.robot(client) for client in cloud.socket._peers.all)
        assert names == ["inner/a", "inner/outer/a", "inner/outer/a", "inner/outer/b"]


@pytest.mark.parametrize("names", [("one", "two"), ("one", "one")])
def test_a_robot_can_use_two_balancers_at_once(sites: Sites, names: tuple[str, str]) -> None:
    """Also if both balancers have the same keys."""
    made = {name: sites.keys("cloud", name, balancer=True) for name in {*names}}
    balancer_keys, keys = [made[name] for name in names], sites.keys("front", "go2")
    with (
        guarded(sites.folder / "cloud") as served,
        sites.front(served.endpoint, balancer_keys[0]) as first,
        sites.front(served.endpoint, balancer_keys[1]) as second,
        Robot(first.endpoint, keys, b"its own id") as robot,
        Robot(second.endpoint, keys, b"its own id") as elsewhere,
    ):
        assert robot.ask(HELLO) == elsewhere.ask(HELLO) == WELCOME
        assert robot.ask(Open(1, "go")) == elsewhere.ask(Open(1, "go")) == Opened(1)
        heard = {served.server.robot(client) for client, _ in list(served.seen.queue)}
        assert heard == {f"{name}/go2" for name in names}
        assert all(answers(each) for _ in range(5) for each in (robot, elsewhere))
        assert served.server.traffic.bad_messages == 0


def test_after_a_restart_of_the_balancer_its_robots_are_known(sites: Sites) -> None:
    balancer_keys, keys = sites.keys("cloud", "front", balancer=True), sites.keys("front", "go2")
    with guarded(sites.folder / "cloud") as served:
        with (
            sites.front(served.endpoint, balancer_keys) as front,
            Robot(front.endpoint, keys, b"own") as robot,
        ):
            assert robot.ask(HELLO) == WELCOME
        with (
            sites.front(served.endpoint, balancer_keys, bind=front.endpoint) as front,
            Robot(front.endpoint, keys, b"own") as robot,
        ):
            assert robot.ask(Open(2, "go on")) == Opened(2)  # without a hello
        assert served.gone.empty()


def test_a_revoked_balancer_is_not_its_robots_fault(sites: Sites) -> None:
    """They are not told of revoked keys, and go on at the other verifier."""
    (front_keys,) = make_keys(sites.folder / "cloud", "front", balancer=True)
    keys = sites.keys("front", "go2")
    # Another verifier with the same keys, and a folder of its own of those that it lets in.
    (sites.folder / "other" / "robots").mkdir(parents=True)
    for file in ("cloud.key", "cloud.key_secret", "robots/front.key"):
        (sites.folder / "other" / file).write_bytes((sites.folder / "cloud" / file).read_bytes())
    with (
        guarded(sites.folder / "cloud") as one,
        sites.front(one.endpoint, robot_keys(front_keys)) as front,
        Robot(front.endpoint, keys) as robot,
        guarded(sites.folder / "other") as two,
    ):
        assert robot.ask(HELLO) == WELCOME
        front.add(two.endpoint)
        assert eventually(lambda: front.status.replicas[two.endpoint].up)
        revoke(sites.folder / "cloud", "front")
        assert one.gone.get(timeout=WAIT_S)  # its actions are freed
        error = robot.hear()
        assert isinstance(error, Error) and error.code == HELLO_FIRST
        assert robot.ask(HELLO) == WELCOME
        assert robot.ask(Open(1, "go")) == Opened(1)
        assert two.seen.get(timeout=WAIT_S)[1] == Open(1, "go")
        assert eventually(lambda: not front.status.replicas[one.endpoint].up)


def test_a_revoked_balancer_of_one_verifier_gets_nothing_through(sites: Sites) -> None:
    balancer_keys, keys = sites.keys("cloud", "front", balancer=True), sites.keys("front", "go2")
    direct = sites.keys("cloud", "direct")
    with (
        guarded(sites.folder / "cloud") as served,
        sites.front(served.endpoint, balancer_keys) as front,
        Robot(front.endpoint, keys) as robot,
        Robot(served.endpoint, direct) as bystander,
    ):
        assert robot.ask(HELLO) == bystander.ask(HELLO) == WELCOME
        revoke(sites.folder / "cloud", "front")
        assert eventually(lambda: not front.status.replicas[served.endpoint].up)
        heard: list[object] = []

        def is_told() -> bool:
            robot.say(Open(1, "go"))
            heard.append(robot.hear(0.2))
            return isinstance(heard[-1], Error) and heard[-1].code == ErrorCode.BUSY

        assert eventually(is_told)
        assert not any(isinstance(each, Error) and each.code == ErrorCode.MISMATCH for each in heard)
        assert bystander.ask(Open(1, "go")) == Opened(1)
        assert served.seen.get(timeout=WAIT_S)[1] == Open(1, "go")
        assert served.seen.empty()


def test_a_balancer_that_is_revoked_at_a_balancer_is_not_its_robots_fault_either(sites: Sites) -> None:
    inner_balancer_keys = sites.keys("cloud", "inner", balancer=True)
    outer_balancer_keys = sites.keys("inner", "outer", balancer=True)
    keys = sites.keys("outer", "go2")
    with (
        guarded(sites.folder / "cloud") as served,
        sites.front(served.endpoint, inner_balancer_keys, "inner") as inner,
        sites.front(inner.endpoint, outer_balancer_keys, "outer") as outer,
        Robot(outer.endpoint, keys) as robot,
    ):
        assert robot.ask(HELLO) == WELCOME
        revoke(sites.folder / "inner", "outer")
        assert eventually(lambda: inner.status.robots == 0)
        error = robot.hear()
        assert isinstance(error, Error) and error.code == HELLO_FIRST


def test_a_full_verifier_takes_from_the_robot_with_the_most_and_not_from_its_balancer(sites: Sites) -> None:
    balancer_keys = sites.keys("cloud", "front", balancer=True)
    greedy, modest = sites.keys("front", "greedy"), sites.keys("front", "modest")
    direct = sites.keys("cloud", "direct")
    with (
        guarded(sites.folder / "cloud", peers=PeerLimits(most=4)) as served,
        sites.front(served.endpoint, balancer_keys) as front,
        contextlib.ExitStack() as stack,
    ):
        shy = stack.enter_context(Robot(front.endpoint, modest))
        assert shy.ask(HELLO) == WELCOME
        connections = [stack.enter_context(Robot(front.endpoint, greedy)) for _ in range(3)]
        for robot in connections:
            assert robot.ask(HELLO) == WELCOME
        late = stack.enter_context(Robot(served.endpoint, direct))
        assert late.ask(HELLO) == WELCOME
        assert shy.ask(Open(1, "go")) == late.ask(Open(1, "go")) == Opened(1)
        evicted = connections[0].ask(Open(1, "go"))
        assert isinstance(evicted, Error) and evicted.code == HELLO_FIRST
        names = sorted(served.server.robot(client) for client in served.server._peers.all)
        assert names == ["direct", "front/greedy", "front/greedy", "front/modest"]


def test_a_full_balancer_takes_from_the_robot_with_the_most_connections(sites: Sites) -> None:
    balancer_keys = sites.keys("cloud", "front", balancer=True)
    greedy, modest = sites.keys("front", "greedy"), sites.keys("front", "modest")
    with (
        guarded(sites.folder / "cloud") as served,
        sites.front(served.endpoint, balancer_keys, peers=PeerLimits(most=3)) as front,
        contextlib.ExitStack() as stack,
    ):
        connections = [stack.enter_context(Robot(front.endpoint, greedy)) for _ in range(4)]
        for robot in connections[:3]:
            assert robot.ask(HELLO) == WELCOME
        refused = connections[3].ask(HELLO)  # of its own it takes none
        assert isinstance(refused, Error) and refused.code == ErrorCode.BUSY
        shy = stack.enter_context(Robot(front.endpoint, modest))
        assert shy.ask(HELLO) == WELCOME
        evicted = connections[0].hear()
        assert isinstance(evicted, Error) and evicted.code == ErrorCode.BUSY
        assert front.status.robots == 3
        assert all(answers(robot) for robot in (*connections[1:3], shy))
        # It does not come back in its place, however often it asks.
        for _ in range(3):
            refused = connections[0].ask(HELLO)
            assert isinstance(refused, Error) and refused.code == ErrorCode.BUSY
        assert shy.ask(Open(1, "go")) == Opened(1)
