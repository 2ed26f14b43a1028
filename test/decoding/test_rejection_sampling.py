"""Separate rejection sampling over whole actions: no network changes the tokens, and they follow the target."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from chi_square import p_value
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import HostileLink, any_link, any_times

from spec_decode_ros.decoding import cloud as cloud_module
from spec_decode_ros.decoding.commands import Done, DraftFrom, Failed, RunPass, Send
from spec_decode_ros.decoding.distribution import Distribution, warped
from spec_decode_ros.decoding.edge import EdgeMachine
from spec_decode_ros.decoding.messages import (
    Committed,
    Draft,
    Open,
    Opened,
    Sampler,
    Sampling,
    ServerMode,
    TokenOutcome,
)
from spec_decode_ros.decoding.methods import METHODS, Method
from spec_decode_ros.decoding.rejection import (
    DraftedToken,
    SampledDraft,
    draft_token,
    judge_sampled,
    resample,
)
from spec_decode_ros.decoding.rejection_sampling import RejectionSampling
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.resampling import separately
from spec_decode_ros.decoding.sparse import pack, unpack
from spec_decode_ros.decoding.testing import (
    Scenario,
    SteadyLink,
    Times,
    VirtualAction,
    VirtualResult,
)
from spec_decode_ros.decoding.verification import AnswerState
from spec_decode_ros.errors import SpecDecodeError

EOS = 0
Logits = Callable[[tuple[int, ...]], np.ndarray]

ANY_METHOD = [
    METHODS["cloud"],
    METHODS["sync"],
    METHODS["early_exit"],
    METHODS["pipelined"],
    METHODS["auto"],
    replace(METHODS["auto"], name="self drafting", server=ServerMode.SELF_DRAFT, yields=True),
    replace(METHODS["auto"], name="no guess", temporal=False, patience_ms=30.0),
    Method("narrow", "", ServerMode.STREAM, window=3, chunk=3),
    Method("narrow pipeline", "", ServerMode.VERIFY_ONLY, window=3, chunk=2, ahead=True),
]


@functools.cache
def hashed_logits(seed: int, vocabulary: int, spread: float) -> Logits:
    @functools.cache
    def logits(text: tuple[int, ...]) -> np.ndarray:
        return np.random.default_rng([seed, *text]).normal(size=vocabulary) * spread

    return logits


def sampled_target(logits: Logits, sampling: Sampling) -> Callable[[Sequence[int]], Distribution]:
    return lambda text: warped(logits(tuple(text)), sampling)


def sampled_drafter(
    logits: Logits, sampling: Sampling, gives_up: float = 0.0
) -> Callable[[Sequence[int]], DraftedToken | None]:
    def next_token(text: Sequence[int]) -> DraftedToken | None:
        if random.Random(repr(tuple(text))).random() < gives_up:
            return None
        return draft_token(logits(tuple(text)), len(text), sampling)

    return next_token


def expected(method: Method, request: Request, target, drafter, k: int) -> tuple[int, ...]:
    """The answer, place by place, without machines or messages."""
    method, sampling, longest = separately(method), request.sampling, request.max_tokens
    previous = request.previous if method.temporal else ()
    previous = previous[: previous.index(EOS) + 1] if EOS in previous else previous
    text: tuple[int, ...] = ()
    left = 0  # how many tokens the edge still drafts before it waits
    while len(text) < longest and EOS not in text:
        here, p = len(text), target(text)

        def judged(tokens, probabilities, adds, p=p, here=here):
            p = (p,) * (len(tokens) + 1)
            return judge_sampled(SampledDraft(tokens, probabilities, adds), p, here, sampling, (), 99, k)

        if previous[:here] == text and here < len(previous):
            text, left = (*text, *judged(previous[here : here + 1], (1.0,), False).tokens), 0
            continue
        if not method.ahead and not left:
            left = min(method.window, longest - here - 1) + 1
        may_draft = method.window and here < longest - 1 and (method.ahead or left > 1)
        drafted = drafter(text) if may_draft and not (previous and text == previous) else None
        left = max(0, left - 1) if drafted else 0
        if drafted is None:
            text += judged((), (), True).tokens
            continue
        verdict = judged((drafted.token,), (drafted.probability,), False)
        token = (
            verdict.tokens[0]
            if verdict.sparse is None
            else resample(verdict.sparse, drafted.distribution, here, sampling)
        )
        if token != drafted.token:
            left = 0
        text = (*text, token)
    return text


def run(method: Method, request: Request, target, drafter, k: int = 64, **options) -> VirtualResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cloud_module, "RejectionSampling", functools.partial(RejectionSampling, k=k))
        return VirtualAction(Scenario(method, request, {EOS}, target, drafter, **options)).run()


# ---- no network changes a token ----------------------------------------------------------------------------


@settings(max_examples=1000)
@given(st.data())
def test_the_answer_for_a_seed_does_not_depend_on_the_network(data: st.DataObject) -> None:
    draw = data.draw
    seed, k = draw(st.integers(0, 10**6)), draw(st.sampled_from([1, 3, 64]))
    vocabulary = draw(st.integers(2, 12))
    sampling = Sampling(*draw(st.sampled_from([(1.0, 0, 1.0), (0.7, 4, 0.9)])), seed, Sampler.REJECTION)
    target = sampled_target(hashed_logits(seed, vocabulary, 1.0), sampling)
    other = draw(st.sampled_from([seed, seed + 1]))
    gives_up = draw(st.sampled_from([0.0, 0.2, 1.0]))
    drafter = sampled_drafter(hashed_logits(other, vocabulary, 0.8), sampling, gives_up)
    method = draw(st.sampled_from(ANY_METHOD))
    request = Request(1, "p", sampling=sampling, max_tokens=draw(st.integers(1, 20)), resend_s=0.02)
    first = expected(method, replace(request, sampling=replace(sampling, seed=seed + 1)), target, drafter, k)
    request = replace(request, previous=draw(st.sampled_from([(), first, first[:2], (1, 1, 1, 1, 1, 0)])))
    rng = random.Random(seed)
    outcome = run(
        method,
        request,
        target,
        drafter,
        k,
        link=any_link(draw, rng),
        times=any_times(rng),
        forget_at=draw(st.sampled_from([(), (), (0.03,), (0.02, 0.06)])),
        keeps_early_drafts=draw(st.booleans()),
        server_draft_tokens=draw(st.sampled_from([0, 5])),
    )
    done = outcome.ending
    assert isinstance(done, Done) and done.verified and done.complete
    assert done.tokens == expected(method, request, target, drafter, k)
    assert len(done.outcomes) == len(done.tokens) and TokenOutcome.UNVERIFIED not in done.outcomes


# ---- the tokens follow the target --------------------------------------------------------------------------


def exact_joint(target: Logits, sampling: Sampling, length: int) -> dict[tuple[int, ...], float]:
    finished: dict[tuple[int, ...], float] = {}
    open_: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(length):
        longer: dict[tuple[int, ...], float] = {}
        for text, mass in open_.items():
            p = warped(target(text), sampling)
            for token, probability in zip(p.tokens.tolist(), p.probabilities.tolist(), strict=True):
                (finished if token == EOS else longer)[(*text, token)] = mass * probability
        open_ = longer
    return finished | open_


LENGTH = 5
TARGET, DRAFT = hashed_logits(41, 4, 1.0), hashed_logits(42, 4, 1.0)


def sampled_answers(method: Method, count: int, k: int, warpers=(1.0, 0, 1.0)) -> list[tuple[int, ...]]:
    """Answers of whole actions over a bad link; each guess is an answer to a seed that is used nowhere else."""
    answers = []
    for seed in range(count):
        sampling = Sampling(*warpers, seed, Sampler.REJECTION)
        before = replace(sampling, seed=10**6 + seed)
        target, drafter = sampled_target(TARGET, sampling), sampled_drafter(DRAFT, sampling)
        guess = Request(1, "p", sampling=before, max_tokens=LENGTH)
        previous = ()
        if method.temporal:
            previous = expected(METHODS["cloud"], guess, target, drafter, k)
        request = Request(1, "p", sampling=sampling, max_tokens=LENGTH, previous=previous, resend_s=0.01)
        link = HostileLink(random.Random(seed), loss=0.1, repeat=0.2, longest_delay=0.004)
        done = run(method, request, target, drafter, k, link=link, times=SLOW).ending
        assert isinstance(done, Done)
        answers.append(done.tokens)
    return answers


SLOW = Times(draft_token=0.002)


@pytest.mark.parametrize(
    ("name", "k", "warpers"),
    [("sync", 4, (1.0, 0, 1.0)), ("auto", 2, (1.0, 0, 1.0)), ("auto", 3, (1.2, 3, 0.9))],
)
def test_whole_actions_follow_the_targets_joint_distribution(name: str, k: int, warpers) -> None:
    answers = sampled_answers(METHODS[name], 3000, k, warpers)
    assert sum(map(len, answers)) >= 8_000
    assert p_value(answers, exact_joint(TARGET, Sampling(*warpers), LENGTH)) > 0.01


def test_a_server_that_races_the_edge_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An end token ends a draft and so is sent sooner than another token, which the server would not wait for."""

    def impatient(self: RejectionSampling, answer: AnswerState) -> SampledDraft | None:
        return choice(self, answer) or (None if self.rejected else SampledDraft())

    choice = RejectionSampling._choice
    monkeypatch.setattr(RejectionSampling, "_choice", impatient)
    method = replace(METHODS["auto"], temporal=False, chunk=2)
    answers = []
    for seed in range(1500):
        sampling = Sampling(1.0, seed=seed, sampler="rejection")
        target, drafter = sampled_target(TARGET, sampling), sampled_drafter(DRAFT, sampling)
        request = Request(1, "p", sampling=sampling, max_tokens=LENGTH)
        times = Times(draft_prefill=0.0, draft_token=0.002, prepare=0.003)
        done = run(method, request, target, drafter, link=SteadyLink(), times=times).ending
        assert isinstance(done, Done)
        answers.append(done.tokens)
    assert p_value(answers, exact_joint(TARGET, Sampling(1.0), LENGTH)) < 1e-6


# ---- what the machines say ---------------------------------------------------------------------------------

SAMPLING = Sampling(1.0, seed=3, sampler="rejection")


def rejecting(token: int) -> tuple[DraftedToken, Distribution, Distribution]:
    """A draft of `token`, and a target that never says it, with what the draft was drawn from."""
    q = Distribution(np.arange(4), np.full(4, 0.25))
    p = Distribution(np.array([n for n in range(4) if n != token]), np.full(3, 1 / 3))
    return DraftedToken(token, 0.25, q), p, q


def test_a_rejection_is_told_again_until_the_edge_has_settled_it() -> None:
    cloud = cloud_module.CloudMachine({EOS})
    cloud.receive(Open(1, "p", sampling=SAMPLING, mode=ServerMode.VERIFY_ONLY, max_tokens=8))
    assert cloud.prepared() == []  # the edge has the turn, and the prompt is prefilled with its draft
    assert cloud.receive(Draft(1, 0, (2,), probabilities=(0.25,))) == [RunPass((), (2,))]
    _, p, _ = rejecting(2)
    [news] = cloud.pass_finished([p, p])
    assert isinstance(news, Send) and isinstance(news.message, Committed)
    assert news.message.tokens == () and len(unpack(news.message.sparse).tokens) == 3
    assert cloud.receive(Draft(1, 0)) == [news]
    assert cloud.receive(Draft(1, 0, (2, 3), probabilities=(0.25, 0.25))) == []  # not judged again
    settled = Draft(1, 0, (1, 3), probabilities=(1.0, 0.25), settled=1)
    committed, again = cloud.receive(settled)
    assert committed == Send(Committed(1, 0, (1,), (TokenOutcome.RECOVERED,), passes=1, drafted=1))
    assert again == RunPass((1,), (3,))
    assert cloud.receive(settled) == []


def test_the_edge_settles_a_rejection_once_and_says_so_until_it_is_heard() -> None:
    edge = EdgeMachine(METHODS["sync"], Request(1, "p", sampling=SAMPLING, max_tokens=8), {EOS})
    edge.start(0.0)
    drafted, p, q = rejecting(2)
    for _ in range(3):
        assert not any(isinstance(command, Send) for command in edge.drafted(1, drafted))
    *_, sent = edge.drafted(1, drafted)
    assert sent == Send(Draft(1, 0, (2,) * 4, final=True, probabilities=(0.25,) * 4))
    verdict = judge_sampled(SampledDraft((2,), (0.25,)), (p, p), 0, SAMPLING, {EOS}, 8)
    assert verdict.sparse is not None
    rejection = Committed(1, 0, sparse=pack(verdict.sparse), passes=1, drafted=4)
    token = resample(verdict.sparse, q, 0, SAMPLING)
    assert token != 2
    onward = [command for command in edge.receive(rejection) if isinstance(command, DraftFrom)]
    assert edge.answer == (token,)
    if token == EOS:
        return
    assert onward == [DraftFrom(2, (token,), 4)]
    reminder = Send(Draft(1, 0, (token,), probabilities=(1.0,), settled=1, round=2))
    assert edge.receive(rejection) == [reminder]  # it is drawn once, and told again
    assert edge.receive(Committed(1, 0, (token,), (TokenOutcome.RECOVERED,), passes=1)) == []
    assert edge._draft_message() == Send(Draft(1, 1, round=2))


@pytest.mark.parametrize("sparse", [b"\xff", b"\x00" * 4, b"\x80" * 9])
def test_a_rejection_that_cannot_be_read_ends_the_action_with_the_reason(sparse: bytes) -> None:
    request = Request(1, "p", sampling=SAMPLING, fallback=False)
    edge = EdgeMachine(replace(METHODS["sync"], window=1, chunk=1), request, {EOS})
    edge.start(0.0)
    edge.drafted(1, rejecting(2)[0])
    edge.receive(Opened(1))
    failed = edge.receive(Committed(1, 0, sparse=sparse))[-1]
    assert isinstance(failed, Failed) and "can't be used" in failed.sentence


def test_drafts_without_probabilities_are_not_judged() -> None:
    cloud = cloud_module.CloudMachine({EOS})
    cloud.receive(Open(1, "p", sampling=SAMPLING, mode=ServerMode.VERIFY_ONLY))
    assert cloud.receive(Draft(1, 0, (2, 3))) == []
    assert cloud.prepared() == []


def test_a_method_that_sends_parts_of_a_draft_and_waits_is_refused() -> None:
    with pytest.raises(SpecDecodeError, match="'parts' waits for a verdict"):
        EdgeMachine(
            Method("parts", "", ServerMode.STREAM, window=3, chunk=1),
            Request(1, "p", sampling=SAMPLING),
            {EOS},
        )


def test_a_method_in_which_only_the_server_drafts_is_refused() -> None:
    with pytest.raises(SpecDecodeError, match="'colocated' has no rejection sampler"):
        EdgeMachine(METHODS["colocated"], Request(1, "p", sampling=SAMPLING), {EOS})
    EdgeMachine(METHODS["colocated"], Request(1, "p", sampling=Sampling(sampler="rejection")), {EOS})
