"""Many robots on one server: they share passes, take turns, and do not harm each other."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from spec_decode_ros.decoding.messages import Error, ErrorCode, Open, ServerMode
from spec_decode_ros.edge.runtime import EdgeRuntime
from spec_decode_ros.server import verifier_server
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.observer import ServerObserver
from spec_decode_ros.server.server_drafts import ServerDrafter
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport.client import Arrival, Client

from .test_actions import WAIT_S, client_of, eventually
from .toys import ToyDrafter, ToySharedDrafter, ToyVerifier, ToyVerifySession, target_answer


class Watch(ServerObserver):
    """Keeps what a server tells its observer."""

    def __init__(self) -> None:
        self.passes: list[tuple[int, int]] = []
        self.actions: list[tuple[int, int, int, str]] = []
        self.codes: list[str] = []

    def pass_done(self, sessions: int, tokens: int, busy_ms: float) -> None:
        self.passes.append((sessions, tokens))

    def action_done(self, accepted: int, drafted: int, passes: int, state: str) -> None:
        self.actions.append((accepted, drafted, passes, state))

    def failed(self, code: str) -> None:
        self.codes.append(code)


@contextlib.contextmanager
def listening(server: VerifierServer) -> Iterator[tuple[Client, queue.Queue[Arrival]]]:
    with client_of(server.endpoint) as client:
        heard: queue.Queue[Arrival] = queue.Queue()
        client.listen(heard.put)
        yield client, heard


def error_from(heard: queue.Queue[Arrival]) -> Error:
    while not isinstance(message := heard.get(timeout=WAIT_S).message, Error):
        pass
    return message


@pytest.mark.parametrize("method", ["cloud", "colocated", "sync", "pipelined", "auto"])
def test_robots_that_share_passes_get_what_each_gets_alone(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier_server, "pass_budget", lambda timing: 64)
    verifier, watch = ToyVerifier(0.001), Watch()
    verifier.prompt_tokens = 80
    verifier.gate = threading.Event()
    own = ServerDrafter(lambda _: 3, drafter=ToyDrafter(lambda position: position % 3 == 0))
    with VerifierServer(verifier, "toy", drafter=own, observer=watch) as server:

        def robot(number: int) -> None:
            drafter = ToyDrafter(lambda position: position % (2 + number % 3) == 1, token_s=0.0005)
            with (
                client_of(server.endpoint) as client,
                EdgeRuntime(drafter, client, method, deadline_s=60.0) as runtime,
            ):
                for index in range(3):
                    result = runtime.act(f"robot {number} action {index}")
                    assert result.tokens == target_answer(f"robot {number} action {index}")
                    assert result.verified

        with ThreadPoolExecutor(8) as pool:
            acting = [pool.submit(robot, number) for number in range(8)]
            # The first pass lasts until all are there, and so the next ones are shared.
            assert eventually(lambda: server.counts.actions == 8)
            verifier.gate.set()
            for each in acting:
                each.result(60.0)
        assert len(verifier.threads) == 1
        assert max(map(len, verifier.shared)) > 1
        assert 1.0 < server.engine.sharing < 8.0
        assert any(prefill for parts in verifier.shared for _, prefill in parts)
        assert [sessions for sessions, _ in watch.passes] == list(map(len, verifier.shared))
        assert eventually(lambda: verifier.open == 0)
        assert [state for *_, state in watch.actions] == ["done"] * 24
        assert sum(passes for _, _, passes, _ in watch.actions) == sum(
            not prefill for parts in verifier.shared for _, prefill in parts
        )


def test_a_session_that_fails_in_a_shared_pass_does_not_harm_the_others() -> None:
    verifier = ToyVerifier()
    verifier.gates["first"] = threading.Event()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(VerifierServer(verifier, "toy"))
        robots = {}
        for prompt in ("first", "explode", "unreadable", "good"):
            robots[prompt] = stack.enter_context(listening(server))
            robots[prompt][0].send(Open(1, prompt))
            if prompt == "first":
                assert eventually(lambda: bool(verifier.passes))
        assert eventually(lambda: server.counts.actions == 4)
        verifier.gates["first"].set()
        assert error_from(robots["explode"][1]).code == ErrorCode.MODEL_FAILED
        assert "can't be read" in error_from(robots["unreadable"][1]).sentence
        tokens: tuple[int, ...] = ()
        while len(tokens) < len(target_answer("good")):
            tokens += getattr(robots["good"][1].get(timeout=WAIT_S).message, "tokens", ())
        assert tokens == target_answer("good")
        assert any({"explode", "good"} <= {name for name, _ in parts} for parts in verifier.shared)


def test_a_prompt_that_is_longer_than_a_pass_goes_in_by_pieces_between_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verifier_server, "pass_budget", lambda timing: 4)
    verifier = ToyVerifier()
    verifier.gates["long"] = threading.Event()
    verifier.prompt_tokens = 10
    with VerifierServer(verifier, "toy") as server, listening(server) as (client, heard):
        verifier.gates["long"].set()
        client.send(Open(1, "long"))
        tokens: tuple[int, ...] = ()
        while len(tokens) < len(target_answer("long")):
            tokens += getattr(heard.get(timeout=WAIT_S).message, "tokens", ())
        assert tokens == target_answer("long")
    assert [prefill for ((_, prefill),) in verifier.shared[:4]] == [4, 4, 0, 0]


def test_who_comes_while_prompts_are_made_ready_has_a_part_in_the_next_pass_and_nobody_yields_to_him() -> (
    None
):
    preparing, go_on = threading.Event(), threading.Event()

    class Slow(ToyVerifier):
        def prepare(self, prompt: str, images: Sequence[bytes] = ()) -> ToyVerifySession:
            if prompt == "one":
                preparing.set()
                assert go_on.wait(WAIT_S)
            return super().prepare(prompt, images)

    verifier = Slow()
    with (
        VerifierServer(verifier, "toy") as server,
        listening(server) as (one, heard),
        listening(server) as (two, _),
    ):
        one.send(Open(1, "one", yields=True))
        assert preparing.wait(WAIT_S)
        two.send(Open(1, "two"))
        assert eventually(lambda: server.counts.actions == 2)
        go_on.set()
        tokens: tuple[int, ...] = ()
        while len(tokens) < len(target_answer("one")):
            tokens += getattr(heard.get(timeout=WAIT_S).message, "tokens", ())
    first, second = ([name for name, _ in parts] for parts in verifier.shared[:2])
    assert (first, sorted(second)) == (["one"], ["one", "two"])


def test_a_server_that_ends_lets_the_running_actions_finish_and_takes_no_new_ones() -> None:
    verifier = ToyVerifier()
    verifier.gate = threading.Event()
    with (
        VerifierServer(verifier, "toy") as server,
        listening(server) as (one, heard_by_one),
        listening(server) as (two, heard_by_two),
        ThreadPoolExecutor(1) as pool,
    ):
        one.send(Open(1, "go"))
        assert eventually(lambda: bool(verifier.passes))
        assert not server.drain(0.01)
        assert server.draining
        two.send(Open(1, "go"))
        assert error_from(heard_by_two).code == ErrorCode.DRAINING
        drained = pool.submit(server.drain, WAIT_S)
        verifier.gate.set()
        assert drained.result(WAIT_S)
        tokens: tuple[int, ...] = ()
        while len(tokens) < len(target_answer("go")):
            tokens += getattr(heard_by_one.get(timeout=WAIT_S).message, "tokens", ())
        assert tokens == target_answer("go")


def test_a_robot_that_begins_too_many_actions_is_told_when_to_come_back() -> None:
    watch = Watch()
    limits = ServiceConfig(actions_per_second=0.5)
    with (
        VerifierServer(ToyVerifier(), "toy", config=limits, observer=watch) as server,
        listening(server) as (one, heard),
        listening(server) as (two, _),
    ):
        one.send(Open(1, "go", mode=ServerMode.VERIFY_ONLY))
        one.send(Open(2, "go", mode=ServerMode.VERIFY_ONLY))
        error = error_from(heard)
        assert (error.action_id, error.code) == (2, ErrorCode.BUSY)
        assert 1000.0 < error.retry_ms <= 2000.0 and "0.5 actions a second" in error.sentence
        two.send(Open(1, "go", mode=ServerMode.VERIFY_ONLY))
        assert eventually(lambda: server.counts.actions == 2)
        assert server.counts.refused == 1 and watch.codes == [ErrorCode.BUSY]


def test_the_servers_own_drafts_are_made_together() -> None:
    verifier = ToyVerifier(0.002)
    drafter = ToySharedDrafter(lambda position: position % 3 == 0)
    with VerifierServer(verifier, "toy", drafter=ServerDrafter(lambda _: 3, drafter=drafter)) as server:

        def robot(number: int) -> None:
            prompt = f"no draft {number}" if number == 3 else f"robot {number}"
            with (
                client_of(server.endpoint) as client,
                EdgeRuntime(ToyDrafter(), client, "colocated", deadline_s=60.0) as runtime,
            ):
                for index in range(4):
                    assert runtime.act(f"{prompt} {index}").tokens == target_answer(f"{prompt} {index}")

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(robot, range(6)))
    assert max(drafter.shared) > 1
    assert len(drafter.threads) == 1


def test_memory_is_reserved_for_as_many_actions_as_are_let_in() -> None:
    verifier = ToyVerifier()
    verifier.bytes_per_token = 1000
    limits = ServiceConfig(max_sessions=64, memory_mb=3.0, session_tokens=1000)
    with (
        VerifierServer(verifier, "toy", config=limits) as server,
        contextlib.ExitStack() as robots,
    ):
        assert verifier.reserved == (3, 1000)
        for _ in range(3):
            robots.enter_context(listening(server))[0].send(Open(1, "go", mode=ServerMode.VERIFY_ONLY))
        assert eventually(lambda: server.counts.actions == 3)
        last, heard = robots.enter_context(listening(server))
        last.send(Open(1, "go", mode=ServerMode.VERIFY_ONLY))
        assert error_from(heard).code == ErrorCode.BUSY
