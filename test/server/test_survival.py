"""Actions that outlive servers and connections: nothing is lost, nothing twice, whatever is cut when."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import zmq

from spec_decode_ros.decoding.messages import Sampling
from spec_decode_ros.edge.runtime import ActionFailed, ActionResult, EdgeRuntime, Progress
from spec_decode_ros.lab.network.link import EmulatedLink, LinkProfile
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport.client import Client
from spec_decode_ros.transport.failover import FailoverPolicy

from .test_actions import CLOUD_METHODS, FRAME, WAIT_S, client_of, eventually, toy_process
from .toys import ToyDrafter, ToyText, ToyVerifier, target_answer

QUICK = FailoverPolicy(startup_s=0.3, stable_s=0.3, busy_s=0.1, avoid_s=0.5)
LONG = max((f"go to chair {index}" for index in range(80)), key=lambda p: len(target_answer(p, [FRAME])))


def hesitant() -> ToyDrafter:
    """Wrong in every second place, so that an action takes several passes."""
    return ToyDrafter(lambda position: position % 2 == 1)


@contextlib.contextmanager
def robot(endpoint: str, method: str = "auto", **options: object) -> Iterator[EdgeRuntime]:
    with Client(endpoint, "toy", ToyText.vocabulary, policy=QUICK) as client:
        client.wait_ready(WAIT_S)
        with EdgeRuntime(hesitant(), client, method, **{"deadline_s": 60.0, **options}) as runtime:  # type: ignore[arg-type]
            yield runtime


@contextlib.contextmanager
def again(link: EmulatedLink, target: str, profile: LinkProfile) -> Iterator[EmulatedLink]:
    """Another link in the place of one that was stopped, as soon as its address is free."""
    other = EmulatedLink(target, profile, bind=link.endpoint)

    def starts() -> bool:
        with contextlib.suppress(zmq.ZMQError):
            return bool(other.start())
        return False

    assert eventually(starts)
    try:
        yield other
    finally:
        other.stop()


def assert_right(result: ActionResult, prompt: str, sampling: Sampling | None = None) -> None:
    assert result.verified and result.complete
    assert result.tokens == target_answer(prompt, [FRAME], sampling)
    assert len(result.outcomes) == len(result.tokens) and "unverified" not in result.outcomes


@pytest.mark.parametrize("method", CLOUD_METHODS)
def test_a_server_that_is_killed_in_mid_action_costs_no_action_where_there_is_another(method: str) -> None:
    first, one = toy_process("tcp://127.0.0.1:*", 0.05)
    second, two = toy_process("tcp://127.0.0.1:*", 0.0)
    killed: list[int] = []

    def kill_once(progress: Progress) -> None:
        if progress.committed >= 2 and not progress.ended and not killed:
            killed.append(progress.committed)
            first.kill()
            first.wait(WAIT_S)

    try:
        with robot(f"{one},{two}", method, fallback=False) as runtime:
            result = runtime.act(LONG, [FRAME], on_event=kill_once)
            assert killed and runtime._client.endpoint == two
            assert_right(result, LONG)
            assert_right(runtime.act("go on", [FRAME]), "go on")
            assert runtime._client.failovers == 1
    finally:
        for child in (first, second):
            child.kill()
            child.wait(WAIT_S)


@pytest.mark.parametrize("method", CLOUD_METHODS)
def test_a_session_is_resumed_over_a_new_connection(method: str) -> None:
    verifier = ToyVerifier(0.02)
    with VerifierServer(verifier, "toy") as server, contextlib.ExitStack() as links:
        link = links.enter_context(EmulatedLink(server.endpoint, LinkProfile(2.0)))
        cut: list[int] = []

        def change_the_network(progress: Progress) -> None:
            if progress.committed >= 2 and not progress.ended and not cut:
                cut.append(progress.committed)
                link.stop()
                links.enter_context(again(link, server.endpoint, LinkProfile(2.0)))

        with robot(link.endpoint, method, fallback=False) as runtime:
            result = runtime.act(LONG, [FRAME], on_event=change_the_network)
        assert cut
        assert_right(result, LONG)
        assert server.counts.actions == 1, "it was resumed, not opened again"
        assert result.stats["image_bytes"] == len(FRAME)


@pytest.mark.parametrize("method", CLOUD_METHODS)
@pytest.mark.parametrize("at", [0, 3])
def test_a_silent_time_in_mid_action_is_survived(method: str, at: int) -> None:
    with (
        VerifierServer(ToyVerifier(0.01), "toy") as server,
        EmulatedLink(server.endpoint, LinkProfile(2.0)) as link,
        robot(link.endpoint, method, fallback=False) as runtime,
    ):
        cut: list[int] = []

        def watch(progress: Progress) -> None:
            if progress.committed >= at and not cut:
                cut.append(progress.committed)
                link.cut()
                threading.Timer(0.3, link.mend).start()

        if at == 0:
            link.cut()
            threading.Timer(0.3, link.mend).start()
        assert_right(runtime.act(LONG, [FRAME], on_event=watch), LONG)
        assert server.counts.actions == 1


def test_an_outage_in_which_the_connection_dies_is_followed_by_another_attempt() -> None:
    """Longer than ZeroMQ's heartbeats wait; the robot comes back by itself, and its session is still there."""
    verifier = ToyVerifier()
    verifier.gate = threading.Event()
    with (
        VerifierServer(verifier, "toy") as server,
        EmulatedLink(server.endpoint, LinkProfile()) as link,
        robot(link.endpoint, fallback=False) as runtime,
        ThreadPoolExecutor(1) as pool,
    ):
        acting = pool.submit(runtime.act, LONG, [FRAME])
        assert eventually(lambda: bool(verifier.passes))
        link.stop()
        assert eventually(lambda: not runtime._client.ready)
        verifier.gate.set()
        assert eventually(lambda: verifier.open == 0 or len(verifier.passes) > 2), "the server goes on"
        with again(link, server.endpoint, LinkProfile()):
            assert_right(acting.result(WAIT_S), LONG)
        assert server.counts.actions == 1


def test_a_full_server_is_asked_again_until_it_has_room() -> None:
    verifier = ToyVerifier()
    verifier.gates = {"first": threading.Event()}
    with (
        VerifierServer(verifier, "toy", ServiceConfig(max_sessions=1)) as server,
        robot(server.endpoint) as one,
        robot(server.endpoint) as two,
        ThreadPoolExecutor(2) as pool,
    ):
        first = pool.submit(one.act, "first", [FRAME])
        assert eventually(lambda: bool(verifier.passes))
        second = pool.submit(two.act, "second", [FRAME])
        assert eventually(lambda: server.counts.refused > 0)
        assert not second.done()
        verifier.gates["first"].set()
        assert_right(first.result(WAIT_S), "first")
        assert_right(second.result(WAIT_S), "second")


def test_a_server_that_stays_full_is_replaced_by_another() -> None:
    verifier = ToyVerifier()
    verifier.gates = {"first": threading.Event()}
    with (
        VerifierServer(verifier, "toy", ServiceConfig(max_sessions=1)) as full,
        VerifierServer(ToyVerifier(), "toy") as other,
        robot(full.endpoint) as one,
        robot(f"{full.endpoint},{other.endpoint}", fallback=False) as two,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(one.act, "first", [FRAME])
        assert eventually(lambda: bool(verifier.passes))
        assert_right(two.act("second", [FRAME]), "second")
        assert two._client.endpoint == other.endpoint
        verifier.gates["first"].set()
        assert_right(first.result(WAIT_S), "first")


def test_a_robot_without_a_draft_model_says_that_the_server_is_full() -> None:
    verifier = ToyVerifier()
    verifier.gate = threading.Event()
    with (
        VerifierServer(verifier, "toy", ServiceConfig(max_sessions=1)) as server,
        robot(server.endpoint, "cloud") as one,
        robot(server.endpoint, "cloud", deadline_s=0.4) as two,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(one.act, "first", [FRAME])
        assert eventually(lambda: bool(verifier.passes))
        with pytest.raises(ActionFailed, match="works on 1 actions"):
            two.act("second", [FRAME])
        verifier.gate.set()
        assert_right(first.result(WAIT_S), "first")


def test_servers_are_replaced_one_after_the_other_and_no_action_is_lost() -> None:
    """A rolling update: drained, stopped and started again at the same address, while the robot goes on."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(VerifierServer(ToyVerifier(0.002), "toy")) for _ in range(2)]
        endpoints = [server.endpoint for server in servers]
        updated = threading.Event()

        def update(client: Client) -> None:
            for index, endpoint in enumerate(endpoints):
                servers[index].drain(WAIT_S)
                servers[index].stop()
                servers[index] = stack.enter_context(
                    VerifierServer(ToyVerifier(0.002), "toy", ServiceConfig(bind=endpoint))
                )
                standing = client._connections[index]
                assert eventually(lambda standing=standing: standing.ready)
            updated.set()

        with robot(",".join(endpoints), fallback=False) as runtime, ThreadPoolExecutor(1) as pool:
            updating = pool.submit(update, runtime._client)
            last: tuple[int, ...] = ()
            number = 0
            while not updated.is_set() or runtime._client.endpoint != endpoints[0]:
                assert not (updating.done() and updating.exception())
                number += 1
                sampling = Sampling(0.8, seed=number)
                result = runtime.act(f"go {number // 3}", [FRAME], last, sampling=sampling)
                assert_right(result, f"go {number // 3}", sampling)
                last = result.tokens
                assert number < 10_000
            updating.result(WAIT_S)
            assert runtime._client.failovers >= 2


def test_an_action_that_the_new_server_contradicts_is_not_called_verified() -> None:
    """Two servers that do not say the same, as in half precision: what was final stays, and the rest is no verdict."""
    first, second = ToyVerifier(0.05), ToyVerifier()
    with (
        VerifierServer(first, "toy") as one,
        VerifierServer(second, "toy") as two,
        client_of(f"{one.endpoint},{two.endpoint}") as client,
        EdgeRuntime(hesitant(), client, "cloud", fallback=False, deadline_s=30.0) as runtime,
    ):
        seen: list[int] = []

        def change(progress: Progress) -> None:
            if progress.committed == 2 and not seen:
                seen.append(progress.committed)
                prepare = second.prepare
                second.prepare = lambda prompt, images=(): prepare(prompt + " otherwise", images)  # type: ignore[method-assign]
                one.stop()

        with pytest.raises(ActionFailed, match="same checkpoint"):
            runtime.act(LONG, [FRAME], on_event=change)
        assert seen
