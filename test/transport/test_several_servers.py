"""A client whose servers come and go, over real loopback sockets."""

from __future__ import annotations

import contextlib
import queue
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from spec_decode_ros.decoding.messages import (
    Close,
    Committed,
    Draft,
    Error,
    ErrorCode,
    Message,
    Open,
    Opened,
    TokenOutcome,
)
from spec_decode_ros.lab.network.link import EmulatedLink, LinkProfile
from spec_decode_ros.transport import connection
from spec_decode_ros.transport.client import Arrival, Client, Reconnected
from spec_decode_ros.transport.failover import FailoverPolicy
from spec_decode_ros.transport.handshake import HandshakeError
from spec_decode_ros.transport.keys import make_keys, robot_keys

from .test_keys import guarded, is_let_in
from .test_wire import WAIT_S, Echo, echo, eventually

QUICK = FailoverPolicy(silent_s=2.5, startup_s=0.2, stable_s=0.3, busy_s=0.1, avoid_s=0.5)


@contextlib.contextmanager
def robot(*endpoints: str, policy: FailoverPolicy = QUICK) -> Iterator[tuple[Client, queue.Queue[Arrival]]]:
    arrivals: queue.Queue[Arrival] = queue.Queue()
    with Client(",".join(endpoints), "toy", "words-1", policy=policy) as client:
        client.listen(arrivals.put)
        client.wait_ready(WAIT_S)
        yield client, arrivals


def nobody() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{taken.getsockname()[1]}"


def wait_for(arrivals: queue.Queue[Arrival], wanted: object) -> None:
    """Wait for this message, whatever comes before."""
    while arrivals.get(timeout=WAIT_S).message != wanted:
        pass


def forget(arrivals: queue.Queue[Arrival]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            arrivals.get_nowait()


def messages(served: Echo) -> list[object]:
    return [message for _, message, _ in list(served.seen.queue)]


def test_the_first_server_is_used_and_the_others_are_kept_at_hand() -> None:
    with echo() as one, echo() as two, robot(one.endpoint, two.endpoint) as (client, arrivals):
        assert (client.endpoint, client.failovers) == (one.endpoint, 0)
        assert client.endpoints == (one.endpoint, two.endpoint)
        client.send(Open(1, "go"))
        wait_for(arrivals, Opened(1))
        assert messages(one) == [Open(1, "go")] and not messages(two)


def test_a_server_that_nobody_started_is_passed_over() -> None:
    with echo() as two, robot(nobody(), two.endpoint) as (client, _):
        assert client.endpoint == two.endpoint and client.failovers == 1


def test_where_no_server_answers_all_are_named() -> None:
    one, two = nobody(), nobody()
    with Client(f"{one},{two}", "toy", "words-1") as client:
        with pytest.raises(HandshakeError, match=f"{one} or {two}"):
            client.wait_ready(0.3)
        assert not client.ready


def test_a_server_that_does_not_fit_is_passed_over_and_if_all_are_that_is_said() -> None:
    with echo() as one, echo() as two:
        with Client(f"{one.endpoint},{two.endpoint}", "other", "words-1") as client:
            start = time.monotonic()
            with pytest.raises(HandshakeError, match="pair 'other'"):
                client.wait_ready(WAIT_S)
            assert time.monotonic() - start < WAIT_S / 2
        two.server._welcome = replace(two.server._welcome, pair="other")
        with Client(f"{one.endpoint},{two.endpoint}", "other", "words-1", policy=QUICK) as client:
            client.wait_ready(WAIT_S)
            assert client.endpoint == two.endpoint and client.refusal == ""


def test_when_a_server_goes_in_mid_action_another_takes_over_and_it_is_gone_back_to_afterwards() -> None:
    with echo() as two, contextlib.ExitStack() as first:
        one = first.enter_context(echo())
        with robot(one.endpoint, two.endpoint) as (client, arrivals):
            client.send(Open(1, "go"))
            wait_for(arrivals, Opened(1))
            first.close()
            wait_for(arrivals, Reconnected(known=False))
            assert client.endpoint == two.endpoint
            client.send(Open(1, "go"))
            wait_for(arrivals, Opened(1))
            with echo(bind=one.endpoint):
                time.sleep(3 * QUICK.stable_s)
                assert client.endpoint == two.endpoint, "not in the middle of an action"
                client.send(Close(1))
                assert eventually(lambda: client.endpoint == one.endpoint)
                assert client.failovers == 2
                assert client.ready and client.silence_s < WAIT_S


def test_a_robot_that_acts_without_a_pause_finds_the_moment_to_go_back() -> None:
    with echo() as two, contextlib.ExitStack() as first:
        one = first.enter_context(echo())
        with robot(one.endpoint, two.endpoint) as (client, _):
            client.send(Open(1, "go"))
            first.close()
            assert eventually(lambda: client.endpoint == two.endpoint)
            with echo(bind=one.endpoint):
                assert eventually(lambda: client._connections[0].ready)
                time.sleep(2 * QUICK.stable_s)
                assert client.endpoint == two.endpoint
                with client._changed:  # so that no other thread looks in between
                    client.send(Close(1))
                    client.send(Open(2, "go"))
                    assert client.endpoint == one.endpoint


def test_a_silent_server_is_left_and_its_later_messages_are_dropped() -> None:
    with (
        echo() as one,
        echo() as two,
        EmulatedLink(one.endpoint, LinkProfile()) as link,
        robot(link.endpoint, two.endpoint, policy=replace(QUICK, silent_s=1.5)) as (client, arrivals),
    ):
        client.send(Open(1, "go"))
        wait_for(arrivals, Opened(1))
        identity = one.seen.get(timeout=WAIT_S)[0]
        link.cut()
        wait_for(arrivals, Reconnected(known=False))
        assert client.endpoint == two.endpoint
        client.send(Open(1, "go"))
        wait_for(arrivals, Opened(1))
        forget(arrivals)
        link.mend()
        late, came = Committed(1, 0, (9,), (TokenOutcome.BONUS,)), []
        take = client.on_message
        client.on_message = lambda *news: (take(*news), came.append(news[1]))  # type: ignore[method-assign]
        one.server.send(identity, late)
        assert eventually(lambda: late in came)
        client.send(Draft(1, 0, (5,)))
        assert arrivals.get(timeout=WAIT_S).message == Committed(1, 0, (5,), (TokenOutcome.ACCEPTED,))
        assert arrivals.empty()


class Choosy(Echo):
    """Refuses actions while it has an error to send."""

    def __init__(self) -> None:
        self.error: Error | None = None
        super().__init__()

    def _answer(self, client: bytes, message: Message, images: tuple[bytes, ...]) -> None:
        if self.error and not isinstance(message, Close):
            self.seen.put((client, message, images))
            self.server.send(client, self.error)
        else:
            super()._answer(client, message, images)


@contextlib.contextmanager
def choosy() -> Iterator[Choosy]:
    served = Choosy()
    try:
        yield served
    finally:
        served.server.stop()


@pytest.mark.parametrize("code", [ErrorCode.BUSY, ErrorCode.DRAINING])
def test_a_server_that_turns_an_action_away_for_long_is_left_at_once(code: str) -> None:
    with choosy() as one, echo() as two, robot(one.endpoint, two.endpoint) as (client, arrivals):
        assert eventually(lambda: all(connection.ready for connection in client._connections))
        one.error = Error(1, code, "no room", 1000.0)
        client.send(Open(1, "go"))
        # Where the action began before the welcome was handled, the first one is about that.
        wait_for(arrivals, Reconnected(known=False))
        assert eventually(lambda: client.endpoint == two.endpoint)


@pytest.mark.parametrize("code", [ErrorCode.BUSY, ErrorCode.DRAINING])
def test_where_there_is_no_other_server_it_is_the_method_that_decides(code: str) -> None:
    with choosy() as one, robot(one.endpoint, nobody()) as (client, arrivals):
        one.error = Error(1, code, "no room", 1000.0)
        client.send(Open(1, "go"))
        assert arrivals.get(timeout=WAIT_S).message == one.error


def test_a_server_that_is_full_for_a_moment_is_not_left() -> None:
    with choosy() as one, echo() as two, robot(one.endpoint, two.endpoint) as (client, arrivals):
        one.error = Error(1, ErrorCode.BUSY, "no room", 10.0)
        client.send(Open(1, "go"))
        assert arrivals.get(timeout=WAIT_S).message == one.error
        one.error = None
        client.send(Open(1, "go"))
        wait_for(arrivals, Opened(1))
        assert client.endpoint == one.endpoint and not messages(two)


def test_a_server_that_drains_is_left_when_the_action_is_over() -> None:
    with echo() as one, echo() as two, robot(one.endpoint, two.endpoint) as (client, arrivals):
        client.send(Open(1, "go"))
        wait_for(arrivals, Opened(1))
        identity = one.seen.get(timeout=WAIT_S)[0]
        one.server.send(identity, Error(0, ErrorCode.DRAINING, "ending", 1000.0))
        client.send(Draft(1, 0, (5,)))
        wait_for(arrivals, Committed(1, 0, (5,), (TokenOutcome.ACCEPTED,)))
        assert client.endpoint == one.endpoint
        client.send(Close(1))
        assert eventually(lambda: client.endpoint == two.endpoint)
        assert arrivals.empty()


def test_after_an_outage_the_robot_is_the_same_robot() -> None:
    with (
        echo() as served,
        EmulatedLink(served.endpoint, LinkProfile()) as link,
        robot(link.endpoint) as (client, arrivals),
    ):
        client.send(Open(1, "go"))
        wait_for(arrivals, Opened(1))
        link.stop()
        assert eventually(lambda: not client.ready)
        with EmulatedLink(served.endpoint, LinkProfile(), bind=link.endpoint):
            wait_for(arrivals, Reconnected(known=True))
            client.send(Draft(1, 0, (7,)))
            wait_for(arrivals, Committed(1, 0, (7,), (TokenOutcome.ACCEPTED,)))
        assert len({client for client, _, _ in list(served.seen.queue)}) == 1
        assert served.gone.empty()


def test_a_robot_that_leaves_in_order_closes_its_action() -> None:
    with echo() as served:
        with robot(served.endpoint) as (client, arrivals):
            client.send(Open(1, "go"))
            wait_for(arrivals, Opened(1))
        assert eventually(lambda: Close(1) in messages(served))


def test_what_can_not_be_sent_is_dropped_and_the_method_told_when_it_can() -> None:
    endpoint = nobody()
    arrivals: queue.Queue[Arrival] = queue.Queue()
    with Client(endpoint, "toy", "words-1") as client:
        client.listen(arrivals.put)
        for _ in range(100):
            client.send(Open(1, "go"))
        with echo(bind=endpoint) as served:
            assert arrivals.get(timeout=WAIT_S).message == Reconnected(known=False)
            assert not messages(served)


def test_a_key_that_is_not_let_in_is_said_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_HELLO_AFTER_REFUSAL_S", 0.3)
    (first,) = make_keys(tmp_path)
    (second,) = make_keys(tmp_path, "second")
    known = tmp_path / "robots" / "second.key"
    text = known.read_bytes()
    known.unlink()
    with guarded(tmp_path) as endpoint:
        with Client(endpoint, "toy", "words-1", keys=robot_keys(second)) as client:
            start = time.monotonic()
            with pytest.raises(HandshakeError, match="does not let this robot's key in"):
                client.wait_ready(WAIT_S)
            assert time.monotonic() - start < WAIT_S / 2
            known.write_bytes(text)
            assert eventually(lambda: client.ready)
            assert client.refusal == ""
        with (
            Client(endpoint, "toy", "words-1") as stranger,
            pytest.raises(HandshakeError, match="do not agree on encryption"),
        ):
            stranger.wait_ready(0.5)
        assert is_let_in(endpoint, first, WAIT_S)
