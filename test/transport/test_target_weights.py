"""A robot stays with the target weights that it began with or was told to use, over real loopback sockets."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator

import pytest

from spec_decode_ros.decoding.messages import PROTOCOL, Error, ErrorCode, Open, Opened, Welcome
from spec_decode_ros.transport.client import Arrival, Client
from spec_decode_ros.transport.handshake import HandshakeError
from spec_decode_ros.transport.server import Server

from .test_wire import eventually

ONE, OTHER = "1111111111111111-float32", "2222222222222222-float32"
WAIT_S = 10.0


@contextlib.contextmanager
def serving(target: str, bind: str = "tcp://127.0.0.1:*") -> Iterator[str]:
    """A server that says it has these target weights and opens every action."""
    server = Server(
        Welcome(PROTOCOL, "toy", "words-1", (2,), target_fingerprint=target),
        lambda client, message, images: (
            server.send(client, Opened(message.action_id)) if isinstance(message, Open) else None
        ),
        bind=bind,
    )
    try:
        yield server.start()
    finally:
        server.stop()


def client_of(endpoint: str, target: str = "") -> Client:
    return Client(endpoint, "toy", "words-1", target_fingerprint=target)


def test_the_same_weights_are_welcome_after_a_restart() -> None:
    with contextlib.ExitStack() as first:
        endpoint = first.enter_context(serving(ONE))
        with client_of(endpoint) as client:
            client.wait_ready(WAIT_S)
            first.close()
            assert eventually(lambda: not client.ready)
            with serving(ONE, endpoint):
                assert eventually(lambda: client.ready)


def test_other_weights_at_the_same_address_are_refused_with_the_remedy() -> None:
    arrivals: queue.Queue[Arrival] = queue.Queue()
    with contextlib.ExitStack() as first:
        endpoint = first.enter_context(serving(ONE))
        with client_of(endpoint) as client:
            client.wait_ready(WAIT_S)
            client.listen(arrivals.put)
            first.close()
            with serving(OTHER, endpoint):
                assert eventually(lambda: bool(client.refusal))
                assert not client.ready
                assert ONE in client.refusal and OTHER in client.refusal
                assert "target_fingerprint" in client.refusal
                message = arrivals.get(timeout=WAIT_S).message
                assert isinstance(message, Error) and message.code == ErrorCode.MISMATCH
            with serving(ONE, endpoint):  # the old ones are back
                assert eventually(lambda: client.ready)
                assert not client.refusal


def test_a_robot_that_was_told_so_takes_any_weights() -> None:
    with contextlib.ExitStack() as first:
        endpoint = first.enter_context(serving(ONE))
        with client_of(endpoint, "any") as client:
            client.wait_ready(WAIT_S)
            first.close()
            with serving(OTHER, endpoint):
                assert eventually(
                    lambda: (
                        client.ready
                        and client.welcome is not None
                        and client.welcome.target_fingerprint == OTHER
                    )
                )


@pytest.mark.parametrize("pin", [ONE, ONE.partition("-")[0]])
def test_pinned_weights_are_taken_with_or_without_their_precision(pin: str) -> None:
    with serving(ONE) as endpoint, client_of(endpoint, pin) as client:
        assert client.wait_ready(WAIT_S).target_fingerprint == ONE


@pytest.mark.parametrize("served", [OTHER, "", ONE.replace("float32", "bfloat16")])
def test_weights_that_were_not_pinned_are_refused(served: str) -> None:
    with (
        serving(served) as endpoint,
        client_of(endpoint, ONE) as client,
        pytest.raises(HandshakeError, match=ONE),
    ):
        client.wait_ready(WAIT_S)


@pytest.mark.parametrize("pin", ["newest", "1111", "any-float32", ONE + " "])
def test_what_is_no_fingerprint_is_refused_at_once(pin: str) -> None:
    with pytest.raises(HandshakeError, match="spec-decode serve"):
        client_of("tcp://127.0.0.1:9", pin)


def test_failover_never_goes_to_other_weights() -> None:
    with contextlib.ExitStack() as first, serving(OTHER) as second:
        endpoint = first.enter_context(serving(ONE))
        with client_of(f"{endpoint},{second}") as client:
            assert client.wait_ready(WAIT_S).target_fingerprint == ONE
            assert eventually(lambda: all(each.welcome or each.refusal for each in client._connections))
            first.close()
            assert eventually(lambda: not client.ready)
            client.send(Open(1, "go"))
            assert not client.ready and client.endpoint == endpoint and client.failovers == 0


def test_failover_goes_to_the_same_weights_past_other_ones() -> None:
    with contextlib.ExitStack() as first, serving(OTHER) as second, serving(ONE) as third:
        endpoint = first.enter_context(serving(ONE))
        with client_of(f"{endpoint},{second},{third}") as client:
            assert client.wait_ready(WAIT_S).target_fingerprint == ONE
            first.close()
            assert eventually(lambda: client.ready and client.endpoint == third)


def test_a_server_that_is_not_preferred_does_not_decide_which_weights_are_used() -> None:
    with serving(OTHER) as second, serving(ONE) as endpoint, client_of(f"{endpoint},{second}") as client:
        assert eventually(lambda: client.ready and client.endpoint == endpoint)
        assert client.welcome is not None and client.welcome.target_fingerprint == ONE
