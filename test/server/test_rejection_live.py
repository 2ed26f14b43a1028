"""Rejection sampling over real sockets: the same tokens for a seed over every link, and what it sends."""

from __future__ import annotations

import pytest

from spec_decode_ros.decoding.edge import EdgeMachine
from spec_decode_ros.decoding.message_builder import MessageBuilder
from spec_decode_ros.decoding.messages import Committed, Draft, Sampling
from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.network.link import LinkProfile
from spec_decode_ros.transport.codec import encode

from .test_actions import FRAME, system
from .toys import ToyDrafter, ToyVerifier

ROUGH = LinkProfile(rtt_ms=5.0, jitter_ms=20.0, loss=0.15, seed=3)


def drafter() -> ToyDrafter:
    return ToyDrafter(lambda position: position % 3 == 1, token_s=0.001)


def answers(method: str, profile: LinkProfile | None, count: int) -> list[tuple[int, ...]]:
    made = []
    last: tuple[int, ...] = ()
    with system(method, drafter(), ToyVerifier(0.001), profile, deadline_s=60.0) as runtime:
        for index in range(count):
            sampling = Sampling(1.0, top_k=40, seed=index, sampler="rejection")
            result = runtime.act(f"go to chair {index}", [FRAME], last, sampling=sampling)
            assert result.verified and result.complete
            last = result.tokens
            made.append(result.tokens)
    return made


@pytest.mark.parametrize("method", ["cloud", "sync", "early_exit", "pipelined", "auto"])
def test_the_answer_for_a_seed_is_the_same_over_every_link(method: str) -> None:
    assert answers(method, None, 4) == answers(method, ROUGH, 4)


def test_a_rejection_is_settled_on_the_edge_with_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    down: list[int] = []
    settled: list[int] = []
    receive, draft = EdgeMachine.receive, MessageBuilder.draft

    def receive_and_count(machine, news):
        if isinstance(news, Committed) and news.sparse:
            down.append(len(encode(news)[0]))
        return receive(machine, news)

    def watch(builder, *arguments, **options):
        sent = draft(builder, *arguments, **options)
        assert isinstance(sent, Draft)
        settled.append(sent.settled)
        return sent

    monkeypatch.setattr(EdgeMachine, "receive", receive_and_count)
    monkeypatch.setattr(MessageBuilder, "draft", watch)
    assert len(answers("auto", None, 8)) == 8
    assert down and max(down) < 400
    assert any(settled)


def test_the_edge_alone_draws_from_the_draft_model() -> None:
    with system("edge", drafter()) as runtime:
        sampling = Sampling(1.0, seed=5, sampler="rejection")
        one, two = (runtime.act("go", [FRAME], sampling=sampling) for _ in range(2))
    assert one.tokens == two.tokens and not one.verified and one.complete


def test_a_method_that_drafts_on_the_server_has_no_rejection_sampler() -> None:
    with system("colocated") as runtime, pytest.raises(SpecDecodeError, match="use the gumbel"):
        runtime.act("go", [FRAME], sampling=Sampling(1.0, sampler="rejection"))


def test_with_temperature_0_it_is_the_greedy_answer() -> None:
    with system("sync", ToyDrafter()) as runtime:
        greedy = runtime.act("go", [FRAME])
        assert runtime.act("go", [FRAME], sampling=Sampling(sampler="rejection")).tokens == greedy.tokens
