"""Whole actions over real sockets: the answer is always the target's, whatever method, link and mishap."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from spec_decode_ros.decoding.messages import (
    Close,
    Draft,
    Error,
    ErrorCode,
    Open,
    Opened,
    Sampling,
    ServerMode,
)
from spec_decode_ros.decoding.methods import METHODS, Method
from spec_decode_ros.edge.runtime import ActionCancelled, ActionFailed, EdgeRuntime, Progress
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.link import EmulatedLink, LinkProfile
from spec_decode_ros.server import verifier_server
from spec_decode_ros.server.config import ServiceConfig
from spec_decode_ros.server.server_drafts import ServerDrafter
from spec_decode_ros.server.verifier_server import VerifierServer
from spec_decode_ros.transport.client import Arrival, Client

from .toys import EOS, ToyDrafter, ToyText, ToyVerifier, target_answer

WAIT_S = 10.0
CLOUD_METHODS = [name for name, method in METHODS.items() if method.uses_cloud]
FRAME = b"\xff\xd8 a frame " + bytes(range(256)) * 20


@contextlib.contextmanager
def client_of(endpoint: str) -> Iterator[Client]:
    with Client(endpoint, "toy", ToyText.vocabulary) as client:
        client.wait_ready(WAIT_S)
        yield client


@contextlib.contextmanager
def system(
    method: str | Method,
    drafter: ToyDrafter | None = None,
    verifier: ToyVerifier | None = None,
    profile: LinkProfile | None = None,
    own_drafter: ToyDrafter | ServerDrafter | None = None,
    **options: object,
) -> Iterator[EdgeRuntime]:
    with contextlib.ExitStack() as stack:
        own = (
            ServerDrafter(lambda _: 3, drafter=own_drafter)
            if isinstance(own_drafter, ToyDrafter)
            else own_drafter
        )
        endpoint = stack.enter_context(VerifierServer(verifier or ToyVerifier(), "toy", drafter=own)).endpoint
        if profile:
            endpoint = stack.enter_context(EmulatedLink(endpoint, profile)).endpoint
        client = stack.enter_context(client_of(endpoint))
        yield stack.enter_context(EdgeRuntime(drafter or ToyDrafter(), client, method, **options))  # type: ignore[arg-type]


def eventually(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("rtt_ms", [0.0, 20.0])
@pytest.mark.parametrize("method", CLOUD_METHODS)
@pytest.mark.parametrize("every", [0, 3, 1], ids=["good drafts", "some wrong", "all wrong"])
def test_the_answer_is_the_targets(method: str, every: int, rtt_ms: float) -> None:
    drafter = ToyDrafter(lambda position: bool(every) and position % every == 0, token_s=0.001)
    last: tuple[int, ...] = ()
    with system(method, drafter, ToyVerifier(0.001), LinkProfile(rtt_ms) if rtt_ms else None) as runtime:
        for index in range(6):
            sampling = Sampling(0.8, seed=index) if index % 2 else Sampling()
            prompt = f"go to chair {index // 2}"
            result = runtime.act(prompt, [FRAME], last, sampling=sampling)
            assert result.tokens == target_answer(prompt, [FRAME], sampling)
            assert result.verified and result.complete
            assert len(result.outcomes) == len(result.tokens)
            assert result.text == ToyText().decode(result.tokens)
            last = result.tokens


@pytest.mark.parametrize("method", CLOUD_METHODS)
def test_the_answer_is_the_targets_where_the_target_drafts_for_itself(method: str) -> None:
    verifier = ToyVerifier(0.002, lambda position: position % 3 > 0)
    drafter = ToyDrafter(lambda position: position % 4 == 2, token_s=0.001)
    with system(method, drafter, verifier, LinkProfile(10.0), ServerDrafter(lambda _: 3)) as runtime:
        for index in range(4):
            result = runtime.act(f"go to box {index}", [FRAME])
            assert result.tokens == target_answer(f"go to box {index}", [FRAME])
    assert bool(verifier.self_drafted) == (method == "colocated")
    assert len(verifier.threads) == 1


def test_an_own_draft_that_fails_once_is_tried_again_for_the_next_action() -> None:
    verifier = ToyVerifier(0.0, lambda position: True)
    with system("colocated", None, verifier, own_drafter=ServerDrafter(lambda _: 3)) as runtime:
        runtime.act("falter", [FRAME])
        tried = verifier.self_drafted
        assert runtime.act("go to the box", [FRAME]).tokens == target_answer("go to the box", [FRAME])
    assert verifier.self_drafted > tried


def test_how_much_a_server_drafts_by_itself_follows_from_what_was_accepted() -> None:
    asked: list[float] = []

    def length(acceptance: float) -> int:
        asked.append(acceptance)
        return 0

    own = ServerDrafter(length, 0.6, drafter=ToyDrafter(lambda position: True))
    with system("colocated", own_drafter=own) as runtime:
        for index in range(4):
            result = runtime.act(f"go to box {index}", [FRAME])
            assert result.tokens == target_answer(f"go to box {index}", [FRAME])
    assert asked[0] == 0.6
    assert asked == sorted(asked, reverse=True) and asked[-1] < 0.6, "always wrong, and still tried"


def test_a_second_choice_of_the_servers_own_draft_saves_a_pass() -> None:
    """Every third token is wrong and its second choice right."""
    passes = {}
    for seconds in (0, 1, 3):
        drafter = ToyDrafter(lambda position: position % 3 == 1)
        own = ServerDrafter(
            lambda _: 3, drafter=drafter, alternatives=lambda _, count, most=seconds: min(count, most)
        )
        verifier = ToyVerifier()
        with system("colocated", None, verifier, own_drafter=own) as runtime:
            for index in range(6):
                result = runtime.act(f"go to box {index}", [FRAME])
                assert result.tokens == target_answer(f"go to box {index}", [FRAME])
        passes[seconds] = len(verifier.passes)
        assert bool(verifier.trees) == bool(seconds)
    assert passes[3] < passes[0]
    assert passes[3] <= passes[1] <= passes[0]


def test_a_target_whose_own_draft_fails_goes_on_without_it() -> None:
    verifier = ToyVerifier(0.0, lambda position: True)
    with system("colocated", None, verifier, own_drafter=ServerDrafter(lambda _: 3)) as runtime:
        prompt = "falter"
        result = runtime.act(prompt, [FRAME])
        assert result.verified and result.tokens == target_answer(prompt, [FRAME])
    assert verifier.self_drafted == 1


@pytest.mark.parametrize("method", CLOUD_METHODS)
@pytest.mark.parametrize("right", [lambda position: True, lambda position: position % 3 > 0])
def test_the_answer_is_the_targets_with_exits_and_a_draft_model_on_the_server(
    method: str, right: Callable[[int], bool]
) -> None:
    drafter = ToyDrafter(lambda position: position % 4 == 2, token_s=0.001)
    verifier, own = ToyVerifier(0.01, right), ToyDrafter(lambda position: position % 5 == 1)
    with system(method, drafter, verifier, LinkProfile(10.0), own) as runtime:
        for index in range(6):
            result = runtime.act(f"go to box {index}", [FRAME])
            assert result.tokens == target_answer(f"go to box {index}", [FRAME])
            assert result.verified


def test_balanced_actions_yield_to_others_and_still_end() -> None:
    """Several robots at once, whose drafts are all wrong: the server has to go on by itself in between."""
    balanced = dataclasses.replace(METHODS["auto"], yields=True, adapts=False)
    verifier = ToyVerifier(0.003)
    with VerifierServer(verifier, "toy") as server, contextlib.ExitStack() as stack:
        runtimes = [
            stack.enter_context(
                EdgeRuntime(
                    ToyDrafter(lambda position: True),
                    stack.enter_context(client_of(server.endpoint)),
                    balanced,
                )
            )
            for _ in range(3)
        ]
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(runtime.act, f"go {n}", [FRAME]) for n, runtime in enumerate(runtimes)]
            results = [future.result(WAIT_S) for future in futures]
    for n, result in enumerate(results):
        assert result.verified
        assert result.tokens == target_answer(f"go {n}", [FRAME])


def test_a_server_whose_own_draft_model_fails_goes_on_without_it() -> None:
    with system("colocated", own_drafter=ToyDrafter()) as runtime:
        for prompt in ("no draft", "go on"):
            result = runtime.act(prompt, [FRAME])
            assert result.verified
            assert result.tokens == target_answer(prompt, [FRAME])


def test_branches_that_were_prepared_are_used() -> None:
    method = replace(METHODS["pipelined"], branches=4, window=64)
    drafter, used = ToyDrafter(lambda position: position == 2), 0
    with system(method, drafter, ToyVerifier(0.02), LinkProfile(20.0)) as runtime:
        for index in range(4):
            result = runtime.act(f"go {index}", [FRAME])
            assert result.tokens == target_answer(f"go {index}", [FRAME])
            used += result.stats["branches_used"]
    assert used > 0


def test_early_exits_are_heard_and_mostly_right() -> None:
    drafter = ToyDrafter(lambda position: position % 4 == 2)
    stats = []
    with system("early_exit", drafter, ToyVerifier(0.02, lambda position: True), LinkProfile(4.0)) as runtime:
        stats = [runtime.act(f"go to cone {index}", [FRAME]).stats for index in range(5)]
    assert sum(s["predictions"] for s in stats) > 0
    assert all(s["prediction_hits"] == s["predictions"] for s in stats)
    assert sum(s["preemptive_used"] for s in stats) > 0


def test_a_server_with_its_own_draft_model_needs_fewer_passes() -> None:
    with system("colocated", own_drafter=ToyDrafter()) as runtime:
        result = runtime.act("go far", [FRAME])
    assert result.tokens == target_answer("go far", [FRAME])
    assert result.stats["cloud_passes"] <= len(result.tokens) / 4 + 1
    assert set(result.outcomes) == {"bonus"}
    assert result.stats["drafted"] == 0


@pytest.mark.parametrize("method", CLOUD_METHODS)
def test_loss_and_reordering_change_only_the_time(method: str) -> None:
    profile = LinkProfile(rtt_ms=5.0, jitter_ms=20.0, loss=0.15, seed=3)
    drafter = ToyDrafter(lambda position: position % 4 == 2)
    with system(method, drafter, ToyVerifier(), profile, deadline_s=60.0) as runtime:
        for index in range(4):
            result = runtime.act(f"prompt {index}", [FRAME])
            assert result.verified
            assert result.tokens == target_answer(f"prompt {index}", [FRAME])


def test_a_perfect_draft_costs_one_round_trip_and_few_passes() -> None:
    with system("auto", ToyDrafter()) as runtime:
        answer = target_answer("go", [FRAME])
        result = runtime.act("go", [FRAME], answer)
        assert result.stats["round_trips"] == 1
        assert result.stats["cloud_passes"] == 1
        assert result.stats["acceptance_rate"] == 1.0
        assert set(result.outcomes) == {"accepted"}


def test_stats_and_timeline_tell_what_happened() -> None:
    verifier = ToyVerifier(0.02)
    drafter = ToyDrafter(lambda position: position == 3, token_s=0.002)
    with system("auto", drafter, verifier, LinkProfile(30.0)) as runtime:
        assert eventually(lambda: (runtime._client.rtt_ms or 0) > 25)
        result = runtime.act("go", [FRAME])
    stats = result.stats
    assert stats["ttva_ms"] >= 50  # a round trip and a pass
    assert 0 < stats["ttft_ms"] <= stats["ttva_ms"]
    assert 0 < stats["ttfa_ms"] <= stats["ttva_ms"]
    assert stats["tpot_ms"] == pytest.approx((stats["ttva_ms"] - stats["ttft_ms"]) / (len(result.tokens) - 1))
    assert stats["cloud_passes"] == len(verifier.passes)
    assert stats["cloud_busy_ms"] >= 20 * len(verifier.passes)
    assert stats["accepted_length"] == len(result.tokens) / len(verifier.passes)
    assert stats["image_bytes"] == len(FRAME)
    assert 0 < stats["uplink_bytes"] < 1000
    assert 0 < stats["downlink_bytes"] < 2000
    assert result.outcomes.count("recovered") + result.outcomes.count("bonus") >= 1
    lanes = {lane for lane, *_ in result.timeline}
    assert lanes == {"robot", "link", "cloud"}
    for _, _, start, end in result.timeline:
        assert 0 <= start <= end
    busy = sum(end - start for lane, _, start, end in result.timeline if lane == "cloud")
    assert busy <= stats["cloud_busy_ms"] + 1e-6


def test_progress_shows_drafts_first_and_then_what_is_final() -> None:
    seen: list[Progress] = []
    gate = threading.Event()
    verifier = ToyVerifier()
    verifier.gate = gate

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if progress.ended:
            gate.set()  # the whole draft is there before any verdict

    with system("auto", ToyDrafter(), verifier) as runtime:
        result = runtime.act("go", [FRAME], on_event=watch)
    drafts = [progress for progress in seen if progress.committed == 0]
    assert drafts and drafts[-1].text
    assert seen[-1].committed == len(result.tokens)
    assert seen[-1].committed_text == result.text
    assert [progress.elapsed_ms for progress in seen] == sorted(progress.elapsed_ms for progress in seen)


def test_the_edge_method_needs_no_server() -> None:
    with EdgeRuntime(ToyDrafter(), None, "edge") as runtime:
        result = runtime.act("go", [FRAME])
    assert result.tokens == target_answer("go", [FRAME])  # the toy draft is a good one
    assert not result.verified and result.complete
    assert set(result.outcomes) == {"unverified"}
    assert result.stats["ttva_ms"] is None and result.stats["cloud_passes"] == 0
    assert result.stats["ttfa_ms"] > 0


def test_a_method_of_the_cloud_without_a_client_is_refused() -> None:
    with pytest.raises(SpecDecodeError, match="endpoint"):
        EdgeRuntime(ToyDrafter(), None, "auto")
    with pytest.raises(SpecDecodeError, match="choose one of"):
        EdgeRuntime(ToyDrafter(), None, "magic")


def test_models_run_in_one_thread_each_and_caches_are_freed() -> None:
    drafter, verifier = ToyDrafter(), ToyVerifier()
    with system("auto", drafter, verifier) as runtime:
        for index in range(5):
            runtime.act(f"go {index}", [FRAME])
        assert eventually(lambda: verifier.open == 0)
    assert verifier.threads == {"model"}
    assert drafter.threads == {"drafter"}


@pytest.mark.parametrize("method", CLOUD_METHODS)
def test_a_failing_session_hurts_nobody_else(method: str) -> None:
    verifier = ToyVerifier()
    with (
        VerifierServer(verifier, "toy") as server,
        client_of(server.endpoint) as one,
        client_of(server.endpoint) as two,
    ):
        with EdgeRuntime(ToyDrafter(), one, method, fallback=False) as runtime:
            with pytest.raises(ActionFailed, match="RuntimeError"):
                runtime.act("explode please", [FRAME])
            with pytest.raises(ActionFailed, match=r"can't be read; send a JPEG"):
                runtime.act("unreadable", [FRAME])
            assert runtime.act("go on", [FRAME]).verified
        with EdgeRuntime(ToyDrafter(), two, method) as runtime:
            assert runtime.act("go", [FRAME]).tokens == target_answer("go", [FRAME])
        assert server.counts.failures == 2
        assert eventually(lambda: verifier.open == 0)


def test_when_the_cloud_fails_the_draft_is_what_remains() -> None:
    with system("auto", ToyDrafter(lambda position: position == 2)) as runtime:
        result = runtime.act("explode please", [FRAME])
    assert not result.verified and result.complete
    assert result.tokens[-1] == EOS
    assert set(result.outcomes) == {"unverified"}


def test_a_failing_draft_model_only_costs_time() -> None:
    with system("auto") as runtime:
        result = runtime.act("no draft, please", [FRAME])
        assert result.verified and result.tokens == target_answer("no draft, please", [FRAME])
    with (
        EdgeRuntime(ToyDrafter(), None, "edge") as runtime,
        pytest.raises(ActionFailed, match="a bug in the draft"),
    ):
        runtime.act("no draft, please", [FRAME])


def test_the_deadline_ends_an_action_with_the_draft() -> None:
    verifier = ToyVerifier()
    verifier.gate = threading.Event()
    with system("auto", verifier=verifier, deadline_s=0.3) as runtime:
        start = time.perf_counter()
        result = runtime.act("go", [FRAME])
        assert 0.29 < time.perf_counter() - start < 5.0
        verifier.gate.set()
        assert not result.verified and result.complete
        # The next action is not disturbed by what comes late.
        assert runtime.act("go again", [FRAME]).tokens == target_answer("go again", [FRAME])


def test_an_action_can_be_cancelled_from_another_thread() -> None:
    verifier = ToyVerifier()
    verifier.gate = threading.Event()
    with system("auto", verifier=verifier, deadline_s=60.0) as runtime:
        runtime.cancel()  # nothing runs: nothing happens
        threading.Timer(0.2, runtime.cancel).start()
        with pytest.raises(ActionCancelled):
            runtime.act("go", [FRAME])
        verifier.gate.set()
        assert eventually(lambda: verifier.open == 0)
        assert runtime.act("go", [FRAME]).verified


def test_a_second_action_at_the_same_time_is_refused() -> None:
    with system("auto") as runtime:

        def interfere(progress: Progress) -> None:
            with pytest.raises(SpecDecodeError, match="one action at a time"):
                runtime.act("another", [FRAME])

        assert runtime.act("go", [FRAME], on_event=interfere).verified


def test_an_action_that_is_heard_of_no_more_expires() -> None:
    verifier = ToyVerifier()
    with (
        VerifierServer(verifier, "toy", ServiceConfig(expire_s=0.5)) as server,
        client_of(server.endpoint) as client,
    ):
        client.send(Open(1, "go", mode=ServerMode.VERIFY_ONLY))
        assert eventually(lambda: verifier.open == 1)
        assert eventually(lambda: verifier.open == 0)
        with EdgeRuntime(ToyDrafter(), client, "sync") as runtime:
            client.next_action_id()  # 1 is the action above
            assert runtime.act("go", [FRAME]).verified


def test_the_action_of_a_robot_that_vanished_is_dropped() -> None:
    verifier = ToyVerifier(0.2)
    verifier.gate = threading.Event()
    prompt = max((f"go {index}" for index in range(50)), key=lambda text: len(target_answer(text)))
    assert len(target_answer(prompt)) > 8
    with VerifierServer(verifier, "toy") as server:
        with client_of(server.endpoint) as client:
            client.send(Open(1, prompt))
            assert eventually(lambda: bool(verifier.passes))
        verifier.gate.set()
        assert eventually(lambda: verifier.open == 0)
        assert len(verifier.passes) < len(target_answer(prompt))


def test_a_full_server_says_that_it_is_busy() -> None:
    verifier = ToyVerifier()
    with (
        VerifierServer(verifier, "toy", ServiceConfig(max_sessions=1)) as server,
        client_of(server.endpoint) as one,
        client_of(server.endpoint) as two,
    ):
        one.send(Open(1, "go", mode=ServerMode.VERIFY_ONLY))
        assert eventually(lambda: verifier.open == 1)
        with (
            EdgeRuntime(ToyDrafter(), two, "auto", fallback=False, deadline_s=0.5) as runtime,
            pytest.raises(ActionFailed, match="works on 1 actions already"),
        ):
            runtime.act("go", [FRAME])
        with EdgeRuntime(ToyDrafter(), two, "auto") as runtime:
            one.send(Close(1))
            assert eventually(lambda: verifier.open == 0)
            assert runtime.act("go", [FRAME]).verified


def test_the_newest_action_of_a_robot_replaces_its_older_ones() -> None:
    verifier = ToyVerifier()
    with VerifierServer(verifier, "toy") as server, client_of(server.endpoint) as client:
        arrivals: queue.Queue[Arrival] = queue.Queue()
        client.listen(arrivals.put)
        for action_id in (1, 2, 3):
            client.send(Open(action_id, f"go {action_id}", mode=ServerMode.VERIFY_ONLY))
        assert eventually(lambda: server.counts.sessions == 1 and verifier.open == 1)
        client.send(Draft(2, 0))
        while (message := arrivals.get(timeout=WAIT_S).message).action_id != 2 or not isinstance(
            message, Error
        ):
            pass
        assert message.code == ErrorCode.UNKNOWN_ACTION


def test_a_pass_that_stands_in_line_takes_the_drafts_that_come_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(verifier_server, "pass_budget", lambda timing: 1)
    verifier = ToyVerifier()
    verifier.gates = {"c": threading.Event(), "a": threading.Event()}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(VerifierServer(verifier, "toy"))
        heard: dict[str, queue.Queue[Arrival]] = {}
        clients: dict[str, Client] = {}
        for name in ("c", "a", "b"):
            clients[name] = stack.enter_context(client_of(server.endpoint))
            heard[name] = queue.Queue()
            clients[name].listen(heard[name].put)
            clients[name].send(Open(1, name))
            assert heard[name].get(timeout=WAIT_S).message == Opened(1)
            if name == "c":
                assert eventually(lambda: bool(verifier.passes))
        verifier.gates["c"].set()  # both others get prepared, then a's pass holds up b's
        assert eventually(lambda: any(prompt == "a" for prompt, *_ in verifier.passes))
        answer = target_answer("b")
        clients["b"].send(Draft(1, 0, answer, final=True))
        clients["b"].send(Draft(1, 0))  # a poll: its answer comes when the draft has been taken in
        assert heard["b"].get(timeout=WAIT_S).message.tokens == ()
        verifier.gates["a"].set()
        assert heard["b"].get(timeout=WAIT_S).message.tokens == answer
        assert [length for prompt, _, length in verifier.passes if prompt == "b"] == [len(answer)]


def test_a_server_that_dies_in_mid_action_and_comes_back_finishes_it() -> None:
    first = ToyVerifier()
    first.gate = threading.Event()
    server = VerifierServer(first, "toy")
    endpoint = server.start()
    results = []
    with client_of(endpoint) as client, EdgeRuntime(ToyDrafter(), client, "auto", deadline_s=30.0) as runtime:
        thread = threading.Thread(target=lambda: results.append(runtime.act("go", [FRAME])))
        thread.start()
        assert eventually(lambda: bool(first.passes))
        server.socket.stop()  # the address is gone at once, as when the process is killed
        first.gate.set()
        server.stop()
        with VerifierServer(ToyVerifier(), "toy", ServiceConfig(bind=endpoint)):
            thread.join(30.0)
            assert results and results[0].verified
            assert results[0].tokens == target_answer("go", [FRAME])


def toy_process(endpoint: str, pass_s: float) -> tuple[subprocess.Popen[str], str]:
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "toy_server.py"), endpoint, str(pass_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert child.stdout is not None
    return child, child.stdout.readline().removeprefix("ready ").strip()


@pytest.mark.parametrize("method", CLOUD_METHODS)
def test_a_server_process_killed_in_mid_action_is_replaced_by_another(method: str) -> None:
    first, endpoint = toy_process("tcp://127.0.0.1:*", 0.1)
    children = [first]
    killed = threading.Event()

    def kill_once(progress: Progress) -> None:
        if progress.committed >= 2 and not progress.ended and not killed.is_set():
            killed.set()
            first.kill()
            first.wait(WAIT_S)
            children.append(toy_process(endpoint, 0.0)[0])

    drafter = ToyDrafter(lambda position: position % 2 == 1)
    try:
        with client_of(endpoint) as client, EdgeRuntime(drafter, client, method, deadline_s=60.0) as runtime:
            result = runtime.act("go", [FRAME], on_event=kill_once)
            assert killed.is_set() and len(children) == 2
            assert result.verified
            assert result.tokens == target_answer("go", [FRAME])
    finally:
        for child in children:
            child.kill()
            child.wait(WAIT_S)


def test_a_verifier_that_is_gone_is_not_waited_for() -> None:
    with Client("tcp://127.0.0.1:1", "toy", ToyText.vocabulary) as client:
        with EdgeRuntime(ToyDrafter(), client, "auto", deadline_s=60.0) as runtime:
            result = runtime.act("go", [FRAME])
            assert result.complete and not result.verified
        with (
            EdgeRuntime(ToyDrafter(), client, "auto", fallback=False) as runtime,
            pytest.raises(ActionFailed, match="does not answer"),
        ):
            runtime.act("go", [FRAME])


def test_a_link_that_breaks_and_mends() -> None:
    with (
        VerifierServer(ToyVerifier(0.02), "toy") as server,
        EmulatedLink(server.endpoint, LinkProfile(5.0)) as link,
        client_of(link.endpoint) as client,
        EdgeRuntime(ToyDrafter(), client, "cloud", deadline_s=30.0) as runtime,
    ):

        def watch(progress: Progress) -> None:
            if progress.committed == 2:
                link.cut()
                threading.Timer(0.7, link.mend).start()

        result = runtime.act("go", [FRAME], on_event=watch)
        assert result.verified
        assert result.tokens == target_answer("go", [FRAME])


def test_several_robots_at_once_each_get_their_answers() -> None:
    verifier = ToyVerifier(0.002)
    wrong: list[str] = []

    def robot(name: str, endpoint: str, method: str) -> None:
        with (
            client_of(endpoint) as client,
            EdgeRuntime(
                ToyDrafter(lambda position: position % 3 == 1), client, method, deadline_s=30.0
            ) as runtime,
        ):
            for index in range(5):
                prompt = f"{name} {index}"
                result = runtime.act(prompt, [FRAME])
                if result.tokens != target_answer(prompt, [FRAME]) or not result.verified:
                    wrong.append(prompt)

    with VerifierServer(verifier, "toy") as server:
        methods = [*CLOUD_METHODS, *CLOUD_METHODS]
        threads = [
            threading.Thread(target=robot, args=(f"robot {index}", server.endpoint, method))
            for index, method in enumerate(methods)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60.0)
        assert not wrong
        assert server.counts.actions == 5 * len(methods)
        assert eventually(lambda: verifier.open == 0)
