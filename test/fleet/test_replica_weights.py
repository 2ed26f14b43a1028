"""A balancer sends robots only to verifiers whose target weights agree, over real loopback sockets."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest
from server.toys import ToyText, ToyVerifier
from transport.test_wire import WAIT_S, eventually

from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.fleet.balancer import Balancer
from spec_decode_ros.server.fleet.routing import RoutingPolicy
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.handshake import HandshakeError

ONE, OTHER = "1111111111111111-float32", "2222222222222222-float32"


@contextlib.contextmanager
def verifier(target: str, bind: str = "tcp://127.0.0.1:*") -> Iterator[str]:
    with VerifierServer(ToyVerifier(), "toy", ServiceConfig(bind=bind), target_fingerprint=target) as server:
        yield server.endpoint


def up(front: Balancer) -> set[str]:
    return {name for name, state in front.status.replicas.items() if state.up}


def test_a_verifier_with_other_weights_gets_no_robots_until_it_is_the_only_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with contextlib.ExitStack() as first, verifier(OTHER) as other, caplog.at_level(logging.WARNING):
        one = first.enter_context(verifier(ONE))
        with Balancer(replicas=[one]) as front:
            assert eventually(lambda: up(front) == {one})
            front.add(other)
            assert eventually(lambda: f"{other} has the target weights {OTHER}" in caplog.text)
            assert up(front) == {one}
            with Client(front.endpoint, "toy", ToyText.vocabulary) as robot:
                assert robot.wait_ready(WAIT_S).target_fingerprint == ONE
                first.close()
                # The balancer goes on with what there is; the robot decides for itself.
                assert eventually(lambda: up(front) == {other})
                assert eventually(lambda: OTHER in robot.refusal)
            assert caplog.text.count("no robots are sent") == 1


def test_a_verifier_that_comes_back_with_other_weights_is_kept_apart() -> None:
    with contextlib.ExitStack() as first, verifier(ONE) as stays:
        leaves = first.enter_context(verifier(ONE))
        with Balancer(replicas=[stays, leaves]) as front:
            assert eventually(lambda: up(front) == {stays, leaves})
            first.close()
            assert eventually(lambda: up(front) == {stays})
            with verifier(OTHER, leaves):
                heartbeat = front._forwarder._heartbeats[leaves]
                assert eventually(lambda: heartbeat.alive and heartbeat.target_fingerprint == OTHER)
                assert up(front) == {stays}
            with verifier(ONE, leaves):
                assert eventually(lambda: up(front) == {stays, leaves})


@pytest.mark.parametrize("told, expected", [("any", {"one", "other"}), (OTHER, {"other"})])
def test_what_the_balancer_is_told_counts(told: str, expected: set[str]) -> None:
    with verifier(ONE) as one, verifier(OTHER) as other:
        names = {one: "one", other: "other"}
        with Balancer(replicas=[one, other], policy=RoutingPolicy(target_fingerprint=told)) as front:
            heartbeats = front._forwarder._heartbeats
            assert eventually(lambda: all(each.alive for each in heartbeats.values()))
            assert eventually(lambda: {names[each] for each in up(front)} == expected)


def test_what_is_no_fingerprint_is_refused() -> None:
    with pytest.raises(HandshakeError, match="target_fingerprint is 'newest'"):
        RoutingPolicy(target_fingerprint="newest")
