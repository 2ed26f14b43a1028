"""Robots, a balancer and several verifiers over real loopback sockets."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import zmq
from server.toys import ToyDrafter, ToyText, ToyVerifier, target_answer
from transport.ipv6 import needs_ipv6
from transport.test_wire import WAIT_S, Echo, connected, echo, eventually, raw_dealer

from spec_decode_ros.decoding.messages import PROTOCOL, Error, ErrorCode, Hello, Open, Opened, Ping, Pong
from spec_decode_ros.edge.runtime import ActionResult, EdgeRuntime
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.fleet.routing import ReplicaState, RoutingPolicy
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.codec import DOWN, MAX_FRAME_BYTES, decode, encode
from spec_decode_ros.transport.handshake import HELLO_FIRST
from spec_decode_ros.transport.keys import RobotKeys, make_keys, revoke, robot_keys, server_keys
from spec_decode_ros.transport.peers import PeerLimits
from spec_decode_ros.transport.process import ReadyChild

QUICK = RoutingPolicy(quiet_s=0.2, patience_s=1.0)
TOY_SERVER = Path(__file__).parents[1] / "server" / "toy_server.py"
FRAME = b"\xff\xd8 a frame " + bytes(range(256)) * 20


@contextlib.contextmanager
def balancer(*replicas: str, **options: object) -> Iterator[Balancer]:
    with Balancer(replicas=replicas, **{"policy": QUICK, **options}) as front:
        assert eventually(lambda: all(state.up for state in front.status.replicas.values()))
        yield front


@contextlib.contextmanager
def toy_server(pass_s: float = 0.0) -> Iterator[VerifierServer]:
    with VerifierServer(ToyVerifier(pass_s), "toy") as server:
        yield server


@contextlib.contextmanager
def robot(endpoint: str, method: str = "auto", **options: object) -> Iterator[EdgeRuntime]:
    with Client(endpoint, "toy", ToyText.vocabulary) as client:
        client.wait_ready(WAIT_S)
        drafter = ToyDrafter(lambda position: position % 3 == 2, token_s=0.001)
        with EdgeRuntime(drafter, client, method, fallback=False, **options) as edge:  # type: ignore[arg-type]
            yield edge


def robots_at(front: Balancer) -> dict[str, int]:
    return {name: state.robots for name, state in front.status.replicas.items()}


def test_robots_are_spread_over_replicas_behind_one_address() -> None:
    with (
        echo() as one,
        echo() as two,
        balancer(one.endpoint, two.endpoint) as front,
        connected(front.endpoint) as (a, a_hears),
        connected(front.endpoint) as (b, b_hears),
    ):
        a.wait_ready(WAIT_S)
        b.wait_ready(WAIT_S)
        assert robots_at(front) == {one.endpoint: 1, two.endpoint: 1}
        for client, hears in ((a, a_hears), (b, b_hears)):
            client.send(Open(1, "go", images=1), [FRAME])
            assert hears.get(timeout=WAIT_S).message == Opened(1)
        for served in (one, two):
            _, message, images = served.seen.get(timeout=WAIT_S)
            assert message == Open(1, "go", images=1) and images == (FRAME,)
        assert eventually(lambda: a.rtt_ms is not None)
        assert front.status.dropped == front.status.moved == 0


@needs_ipv6
def test_robots_and_verifiers_are_reached_over_ipv6() -> None:
    with (
        echo(bind="tcp://[::1]:*") as served,
        balancer(served.endpoint, bind="tcp://[::1]:*") as front,
        connected(front.endpoint) as (client, hears),
    ):
        client.wait_ready(WAIT_S)
        client.send(Open(1, "go"))
        assert hears.get(timeout=WAIT_S).message == Opened(1)


@pytest.mark.parametrize("method", ["cloud", "sync", "pipelined", "auto"])
def test_every_robots_answer_is_the_targets(method: str) -> None:
    def act(number: int) -> None:
        with robot(front.endpoint, method) as edge:
            for action in range(4):
                prompt = f"robot {number}, action {action}"
                result = edge.act(prompt, [FRAME])
                assert result.verified and result.tokens == target_answer(prompt, [FRAME])

    with toy_server(0.002) as one, toy_server(0.002) as two, balancer(one.endpoint, two.endpoint) as front:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(act, range(6)))
        assert one.counts.actions + two.counts.actions == 24
        assert one.counts.actions == two.counts.actions
        assert front.status.moved == 0


@contextlib.contextmanager
def replica_process(pass_s: float) -> Iterator[tuple[str, ReadyChild]]:
    child = ReadyChild(
        [sys.executable, str(TOY_SERVER), "tcp://127.0.0.1:*", str(pass_s)], "a toy verifier", 30.0
    )
    try:
        yield child.start(), child
    finally:
        child.kill()


def in_mid_action(edge: EdgeRuntime, prompt: str, pool: ThreadPoolExecutor) -> tuple[object, threading.Event]:
    begun = threading.Event()
    future = pool.submit(
        edge.act, prompt, [FRAME], on_event=lambda progress: progress.committed >= 2 and begun.set()
    )
    return future, begun


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_replica_that_dies_in_mid_action_costs_time_only(how: int) -> None:
    with (
        replica_process(0.05) as (one, first),
        toy_server(0.02) as two,
        balancer(one) as front,
        robot(front.endpoint, "cloud") as edge,
        ThreadPoolExecutor(1) as pool,
    ):
        front.add(two.endpoint)
        prompt = "go on while one dies"
        future, begun = in_mid_action(edge, prompt, pool)
        assert begun.wait(WAIT_S)
        first._child.send_signal(how)  # type: ignore[union-attr]
        result: ActionResult = future.result(WAIT_S)  # type: ignore[attr-defined]
        assert result.verified and result.tokens == target_answer(prompt, [FRAME])
        assert eventually(lambda: not front.status.replicas[one].up)
        assert robots_at(front) == {one: 0, two.endpoint: 1}
        assert front.status.moved == 1
        after = edge.act("and then", [FRAME])
        assert after.tokens == target_answer("and then", [FRAME])


def test_a_replica_that_comes_back_gets_robots_again() -> None:
    with echo() as two, balancer() as front:
        one = Echo()
        for served in (one, two):
            front.add(served.endpoint)
        assert eventually(lambda: all(state.up for state in front.status.replicas.values()))
        with connected(front.endpoint) as (a, _), connected(front.endpoint) as (b, _):
            a.wait_ready(WAIT_S)
            b.wait_ready(WAIT_S)
            one.server.stop()
            assert eventually(lambda: robots_at(front) == {one.endpoint: 0, two.endpoint: 2})
            again = Echo(bind=one.endpoint)
            # At a pause between its pings one of the two moves to where none is.
            assert eventually(lambda: robots_at(front) == {one.endpoint: 1, two.endpoint: 1})
            assert eventually(lambda: a.ready and b.ready)
            again.server.stop()


def test_without_a_replica_robots_wait_and_are_served_when_there_is_one() -> None:
    with balancer() as front, connected(front.endpoint) as (client, hears):
        time.sleep(0.2)
        assert not client.ready
        with echo() as served:
            front.add(served.endpoint)
            client.wait_ready(WAIT_S)
            client.send(Open(1, "go"))
            assert hears.get(timeout=WAIT_S).message == Opened(1)


def test_a_replica_is_removed_while_its_robot_acts_without_a_pause() -> None:
    stop = threading.Event()

    def act_on(edge: EdgeRuntime) -> int:
        for count in range(10_000):
            prompt = f"action {count}"
            assert edge.act(prompt).tokens == target_answer(prompt)
            if stop.is_set():
                return count + 1
        raise AssertionError("nobody said stop")

    with (
        toy_server(0.01) as one,
        toy_server(0.01) as two,
        balancer(one.endpoint) as front,
        robot(front.endpoint, "cloud") as edge,
        ThreadPoolExecutor(1) as pool,
    ):
        acting = pool.submit(act_on, edge)
        assert eventually(lambda: one.counts.actions > 0)
        front.add(two.endpoint)
        front.leave(one.endpoint)
        assert robots_at(front)[one.endpoint] == 1
        assert front.status.replicas[one.endpoint] == ReplicaState(up=True, leaving=True, robots=1)
        assert eventually(lambda: robots_at(front)[one.endpoint] == 0)
        front.remove(one.endpoint)
        assert list(front.status.replicas) == [two.endpoint]
        seen = two.counts.actions
        assert eventually(lambda: two.counts.actions > seen + 2)
        stop.set()
        assert acting.result(WAIT_S) > 3


def test_only_robots_with_keys_get_through_and_only_while_their_keys_are_there(tmp_path: Path) -> None:
    folder = make_keys(tmp_path)[0]
    with (
        echo() as served,
        balancer(served.endpoint, keys=server_keys(tmp_path)) as front,
        Client(front.endpoint, "toy", "words-1", keys=robot_keys(folder)) as known,
        Client(front.endpoint, "toy", "words-1") as stranger,
    ):
        known.wait_ready(WAIT_S)
        assert not stranger.ready
        assert front.status.robots == 1
        revoke(tmp_path, "robot")
        assert eventually(lambda: front.status.robots == 0)
        assert eventually(lambda: "revoked" in known.refusal)
        known.send(Open(1, "go"))
        time.sleep(0.3)
        assert served.seen.empty() and front.status.robots == 0


def test_another_key_cannot_use_a_robots_routing_id(tmp_path: Path) -> None:
    keys = [robot_keys(make_keys(tmp_path, name)[0]) for name in ("one", "two")]

    def dealer(own: RobotKeys) -> zmq.Socket:
        sock = zmq.Context.instance().socket(zmq.DEALER)
        for option, value in ((zmq.LINGER, 0), (zmq.RCVTIMEO, int(WAIT_S * 1000))):
            sock.setsockopt(option, value)
        sock.setsockopt(zmq.ROUTING_ID, b"the same name")
        sock.curve_publickey, sock.curve_secretkey, sock.curve_serverkey = own.public, own.secret, own.server
        sock.connect(front.endpoint)
        return sock

    with echo() as served, balancer(served.endpoint, keys=server_keys(tmp_path)) as front:
        owner = dealer(keys[0])
        owner.send_multipart(encode(Ping(1)))
        assert decode(owner.recv_multipart(), DOWN)[0] == Pong(1)
        other = dealer(keys[1])
        other.send_multipart(encode(Ping(2)))
        assert eventually(lambda: front.status.dropped > 0)
        other.setsockopt(zmq.RCVTIMEO, 300)
        with pytest.raises(zmq.Again):
            other.recv_multipart()
        other.close(0)
        owner.close(0)


def test_other_machines_are_not_served_without_keys() -> None:
    with pytest.raises(SpecDecodeError, match="--insecure"):
        Balancer("tcp://0.0.0.0:*").start()
    with Balancer("tcp://0.0.0.0:*", insecure=True) as front:
        assert front.endpoint.startswith("tcp://0.0.0.0:")


def test_replicas_can_want_keys_of_the_balancer(tmp_path: Path) -> None:
    folder = make_keys(tmp_path, "balancer")[0]
    with (
        VerifierServer(ToyVerifier(), "toy", keys=server_keys(tmp_path)) as served,
        balancer(served.endpoint, replica_keys=robot_keys(folder)) as front,
        robot(front.endpoint) as edge,
    ):
        assert edge.act("go").tokens == target_answer("go")


def test_no_more_robots_than_there_is_room_for() -> None:
    with (
        echo() as served,
        balancer(served.endpoint, peers=PeerLimits(most=1)) as front,
        connected(front.endpoint) as (client, _),
        raw_dealer(front.endpoint) as sock,
    ):
        client.wait_ready(WAIT_S)
        sock.send_multipart(encode(Hello(PROTOCOL, "toy", "words-1")))
        answer, _ = decode(sock.recv_multipart(), DOWN)
        assert isinstance(answer, Error) and answer.code == ErrorCode.BUSY and answer.retry_ms > 0
        assert client.ready and front.status.robots == 1


def test_malformed_messages_are_answered_by_the_replica() -> None:
    with echo() as served, balancer(served.endpoint) as front, raw_dealer(front.endpoint) as sock:
        sock.send_multipart([b"\x07 a later version"])
        assert decode(sock.recv_multipart(), DOWN)[0].code == ErrorCode.BAD_MESSAGE
        sock.send_multipart([b"x"] * 5000)
        assert "frames" in decode(sock.recv_multipart(), DOWN)[0].sentence
        sock.send_multipart(encode(Open(1, "go")))
        assert decode(sock.recv_multipart(), DOWN)[0].code == HELLO_FIRST
        sock.send_multipart(encode(Ping(5)))
        assert decode(sock.recv_multipart(), DOWN)[0] == Pong(5)


def test_an_oversized_frame_stops_at_the_balancer() -> None:
    with (
        echo() as served,
        balancer(served.endpoint) as front,
        raw_dealer(front.endpoint) as sock,
    ):
        sock.send_multipart([bytes(MAX_FRAME_BYTES + 1)])
        sock.setsockopt(zmq.RCVTIMEO, 300)
        with pytest.raises(zmq.Again):
            sock.recv_multipart()
        assert front.status.robots == 0


def test_a_robot_that_has_gone_is_forgotten() -> None:
    with (
        echo() as served,
        balancer(served.endpoint, peers=PeerLimits(silence_s=2.0)) as front,
    ):
        with connected(front.endpoint) as (client, _):
            client.wait_ready(WAIT_S)
        assert front.status.robots == 1
        assert eventually(lambda: front.status.robots == 0)


def test_balancers_can_stand_behind_a_balancer() -> None:
    with (
        toy_server() as one,
        toy_server() as two,
        balancer(one.endpoint) as inner,
        balancer(two.endpoint) as other,
        balancer(inner.endpoint, other.endpoint) as outer,
        robot(outer.endpoint) as a,
        robot(outer.endpoint) as b,
    ):
        for edge in (a, b):
            assert edge.act("go").tokens == target_answer("go")
        assert one.counts.actions == two.counts.actions == 1


def test_a_robot_with_two_balancers_of_the_same_verifier_needs_only_one_of_them() -> None:
    with (
        toy_server(0.01) as served,
        balancer(served.endpoint) as first,
        balancer(served.endpoint) as second,
        robot(f"{first.endpoint},{second.endpoint}", "cloud") as edge,
    ):
        assert eventually(lambda: first.status.robots == second.status.robots == 1)
        for number in range(5):
            assert edge.act(f"with both {number}").tokens == target_answer(f"with both {number}")
        assert served.socket.traffic.bad_messages == 0 and served.counts.actions == 5
        first.stop()
        for number in range(5):
            assert edge.act(f"with one {number}").tokens == target_answer(f"with one {number}")


def test_many_robots_at_once() -> None:
    with (
        echo() as one,
        echo() as two,
        balancer(one.endpoint, two.endpoint) as front,
        contextlib.ExitStack() as s,
    ):
        socks = [s.enter_context(raw_dealer(front.endpoint)) for _ in range(100)]
        for sock in socks:
            sock.send_multipart(encode(Hello(PROTOCOL, "toy", "words-1")))
        for sock in socks:
            sock.recv_multipart()
        for count in range(20):
            for sock in socks:
                sock.send_multipart(encode(Ping(count)))
            for sock in socks:
                assert decode(sock.recv_multipart(), DOWN)[0] == Pong(count)
        assert robots_at(front) == {one.endpoint: 50, two.endpoint: 50}
        assert front.status.dropped == 0


def test_bad_addresses_are_explained() -> None:
    with pytest.raises(SpecDecodeError, match="is no port"):
        Balancer("tcp://127.0.0.1:notaport").start()
    with pytest.raises(SpecDecodeError, match="tcp://HOST:PORT"):
        Balancer(replicas=["nonsense"]).start()
    with balancer() as front, pytest.raises(SpecDecodeError, match="tcp://HOST:PORT"):
        front.add("nonsense")


def test_a_robot_is_told_that_there_is_no_verifier() -> None:
    with Balancer() as front, connected(front.endpoint) as (client, _):
        assert eventually(lambda: bool(client.refusal))
        with pytest.raises(SpecDecodeError, match="No verifier behind this balancer"):
            client.wait_ready(0.0)


def test_a_verifier_that_lets_the_balancer_in_after_all_is_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_keys(tmp_path)
    with VerifierServer(ToyVerifier(), "toy", keys=server_keys(tmp_path)) as closed:
        front = Balancer(replicas=[closed.endpoint])
        front.start()
        try:
            assert eventually(lambda: "give --verifier-keys" in caplog.text)
            closed.stop()
            with VerifierServer(ToyVerifier(), "toy", ServiceConfig(bind=closed.endpoint)):
                assert eventually(lambda: front.status.replicas[closed.endpoint].up)
            assert caplog.text.count("does not let the balancer in") == 1
        finally:
            front.stop()
