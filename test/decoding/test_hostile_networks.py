"""Whatever the network, the draft model and the method do, the answer is what the target alone would say."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import EOS, HostileLink, any_link, any_times, coupled, toy_drafter, toy_exit, toy_target

from spec_decode_ros.decoding.commands import Done
from spec_decode_ros.decoding.controller import Measurements
from spec_decode_ros.decoding.messages import Sampling, ServerMode, TokenOutcome
from spec_decode_ros.decoding.methods import METHODS, Method
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.testing import NextToken, Scenario, VirtualAction, decode_alone

ANY_METHOD = [
    *(method for method in METHODS.values() if method.uses_cloud),
    replace(METHODS["auto"], name="patient", patience_ms=30.0),
    replace(METHODS["pipelined"], name="foresighted pipeline", window=5, early=True, chunk=1),
    replace(METHODS["auto"], name="everything", early=True, server=ServerMode.SELF_DRAFT, yields=True),
    replace(METHODS["auto"], name="balanced", yields=True),
    Method("narrow", "", ServerMode.STREAM, window=3, chunk=1, temporal=True, early=True),
]

MEASURED = st.builds(
    Measurements,
    st.just(0.0),
    st.just(1.0),
    st.sampled_from([0.0, 10.0]),
    acceptance=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    per_token_ms=st.sampled_from([0.0, 0.5, 20.0]),
    server_draft_ms=st.sampled_from([0.0, 1.0, 20.0]),
    stale_acceptance=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
)


@st.composite
def actions(draw) -> dict:
    """Everything that could make a difference, and must not."""
    seed = draw(st.integers(0, 10**6))
    rng = random.Random(seed)
    vocabulary = draw(st.integers(2, 20))
    target = toy_target(seed, vocabulary, context=draw(st.sampled_from([0, 1, None])))
    drafter = toy_drafter(
        target,
        seed + 1,
        draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        draw(st.sampled_from([0.0, 0.0, 0.2, 1.0])),
    )
    if draw(st.booleans()):
        sampling = Sampling(draw(st.sampled_from([0.3, 1.0, 2.0])), draw(st.integers(0, 5)), seed=seed)
        target, drafter = coupled(vocabulary, sampling, draw(st.sampled_from([0.0, 0.5, 3.0])))
    max_tokens = draw(st.integers(1, 24))
    answer = decode_alone(target, {EOS}, max_tokens)
    previous = [token if rng.random() < 0.8 else rng.randrange(20) for token in answer]
    method = draw(st.sampled_from(ANY_METHOD))
    return dict(
        method=replace(
            method,
            redrafts=method.server is ServerMode.VERIFY_ONLY or method.yields or draw(st.booleans()),
            branches=draw(st.sampled_from([0, 0, 1, 6])) if method.window else 0,
        ),
        request=Request(
            action_id=1,
            prompt="p",
            max_tokens=max_tokens,
            previous=draw(st.sampled_from([(), tuple(previous), answer, (*answer, 3, EOS, 4)])),
            resend_s=draw(st.sampled_from([0.004, 0.05, 0.5])),
        ),
        eos={EOS},
        target=target,
        drafter=drafter,
        link=any_link(draw, rng),
        times=any_times(rng),
        forget_at=draw(st.sampled_from([(), (), (0.03,), (0.02, 0.06)])),
        keeps_early_drafts=draw(st.booleans()),
        exits=[
            toy_exit(target, seed + 2 + i, fraction, draw(st.sampled_from([0.0, 0.7, 1.0])))
            for i, fraction in enumerate(draw(st.sampled_from([(), (0.5,), (0.2, 0.9)])))
        ],
        server_draft_tokens=draw(st.sampled_from([0, 0, 1, 5])),
        trees=draw(st.booleans()),
        second_choice=draw(st.sampled_from([None, toy_drafter(target, seed + 9, 0.5), target])),
        stale_tokens=draw(st.sampled_from([0, 1, 32])),
        others_wait=draw(st.booleans()),
        measured=draw(st.none() | MEASURED),
        jump_forward=draw(st.sampled_from([None, None, forced_by(target, seed)])),
    )


def forced_by(target: NextToken, seed: int) -> Callable[[Sequence[int]], tuple[int, ...]]:
    """What a grammar would force: one to three of the target's own tokens in half of all places."""

    def forced(text: Sequence[int]) -> tuple[int, ...]:
        rng = random.Random(repr((seed, tuple(text))))
        tokens: list[int] = []
        while len(tokens) < rng.choice([0, 0, 1, 3]) and EOS not in tokens:
            token = target([*text, *tokens])
            assert token is not None
            tokens.append(token)
        return tuple(tokens)

    return forced


@settings(max_examples=2000)
@given(actions())
def test_the_answer_is_the_targets_own(action: dict) -> None:
    request = action["request"]
    outcome = VirtualAction(Scenario(**action)).run()
    done = outcome.ending
    assert isinstance(done, Done)
    assert done.tokens == decode_alone(action["target"], {EOS}, request.max_tokens)
    assert done.verified and done.complete
    assert len(done.outcomes) == len(done.tokens) and TokenOutcome.UNVERIFIED not in done.outcomes
    assert done.counts.round_trips >= 1


@settings(max_examples=200)
@given(actions())
def test_the_counts_fit_together_where_the_server_lives_on(action: dict) -> None:
    outcome = VirtualAction(Scenario(**{**action, "forget_at": (), "keeps_early_drafts": True})).run()
    done = outcome.ending
    assert isinstance(done, Done)
    counts = done.counts
    assert counts.passes == len(outcome.widths)
    assert counts.drafted <= sum(outcome.widths)
    if not action["server_draft_tokens"]:
        assert counts.drafted == sum(outcome.widths)
    assert counts.prediction_hits <= counts.predictions
    assert counts.preemptive_used <= counts.preemptive <= counts.drafted_on_edge
    assert counts.accepted == done.outcomes.count(TokenOutcome.ACCEPTED) <= counts.drafted
    # Every pass commits at least one token, so no draft can make the server run more often than alone.
    assert counts.passes <= len(done.tokens)
    assert outcome.finished == 1


@settings(max_examples=200)
@given(actions(), st.floats(0.001, 0.3), st.booleans())
def test_the_deadline_ends_every_action(action: dict, deadline_s: float, fallback: bool) -> None:
    request = replace(action["request"], deadline_s=deadline_s, fallback=fallback)
    run = VirtualAction(Scenario(**{**action, "request": request}))
    outcome = run.run()
    assert outcome.at <= deadline_s + 1e-9
    if not isinstance(outcome.ending, Done):
        assert not fallback
        return
    answer = decode_alone(action["target"], {EOS}, request.max_tokens)
    known = sum(outcome is not TokenOutcome.UNVERIFIED for outcome in outcome.ending.outcomes)
    assert outcome.ending.tokens[:known] == answer[:known]
    assert outcome.ending.verified == (
        known == len(outcome.ending.outcomes) and outcome.ending.tokens == answer
    )


def test_the_edge_alone_says_what_the_draft_model_says() -> None:
    target = toy_target(5)
    drafter = toy_drafter(target, 6, 0.5)
    link = HostileLink(random.Random(1), 1.0, 0.0, 0.0)
    for max_tokens in (1, 7, 100):
        request = Request(1, "p", max_tokens=max_tokens)
        outcome = VirtualAction(Scenario(METHODS["edge"], request, {EOS}, target, drafter, link)).run()
        assert isinstance(outcome.ending, Done)
        assert outcome.ending.tokens == decode_alone(drafter, {EOS}, max_tokens)
        assert not outcome.ending.verified and outcome.ending.complete
        assert set(outcome.ending.outcomes) == {TokenOutcome.UNVERIFIED}
        assert outcome.up == []


@pytest.mark.parametrize("name", ["cloud", "sync", "auto"])
def test_a_dead_network_is_asked_again_ever_more_rarely(name: str) -> None:
    link = HostileLink(random.Random(1), 1.0, 0.0, 0.0)
    request = Request(1, "p", resend_s=0.1, deadline_s=10.0)
    target = toy_target(5, end_after=8)
    outcome = VirtualAction(Scenario(METHODS[name], request, {EOS}, target, target, link)).run()
    opens = [message for message in outcome.up if type(message).__name__ == "Open"]
    assert 4 <= len(opens) <= 18
    assert isinstance(outcome.ending, Done) and not outcome.ending.verified
