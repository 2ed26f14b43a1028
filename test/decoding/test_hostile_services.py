"""Whatever becomes of servers and connections, the answer is what the target alone would say, and there is an end."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storms import Storm, StormyAction, storms
from test_hostile_networks import actions
from test_rejection_sampling import ANY_METHOD, expected, hashed_logits, sampled_drafter, sampled_target
from toys import EOS, any_link, any_times, toy_target

from spec_decode_ros.decoding.commands import Done, Failed
from spec_decode_ros.decoding.messages import Draft, ErrorCode, Open, Sampler, Sampling, TokenOutcome
from spec_decode_ros.decoding.methods import METHODS, Method
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.testing import Scenario, SteadyLink, Times, decode_alone

FOREVER = Storm(full=1.0, retry_ms=100.0)


@settings(max_examples=600)
@given(actions(), storms(), st.floats(0.0, 1.0))
def test_the_answer_is_the_targets_own(action: dict, storm: Storm, spread: float) -> None:
    request = replace(action["request"], spread=spread)
    done = StormyAction(Scenario(**{**action, "request": request}), storm).run().ending
    assert isinstance(done, Done)
    assert done.tokens == decode_alone(action["target"], {EOS}, request.max_tokens)
    assert done.verified and done.complete
    assert len(done.outcomes) == len(done.tokens) and TokenOutcome.UNVERIFIED not in done.outcomes


@settings(max_examples=400)
@given(st.data(), storms())
def test_the_answer_for_a_seed_does_not_depend_on_the_service(data: st.DataObject, storm: Storm) -> None:
    draw = data.draw
    seed = draw(st.integers(0, 10**6))
    sampling = Sampling(1.0, 0, 1.0, seed, Sampler.REJECTION)
    target = sampled_target(hashed_logits(seed, 8, 1.0), sampling)
    drafter = sampled_drafter(hashed_logits(seed + 1, 8, 0.8), sampling, draw(st.sampled_from([0.0, 0.2])))
    method = draw(st.sampled_from(ANY_METHOD))
    request = Request(1, "p", sampling=sampling, max_tokens=draw(st.integers(1, 20)), resend_s=0.02)
    rng = random.Random(seed)
    action = StormyAction(
        Scenario(method, request, {EOS}, target, drafter, any_link(draw, rng), any_times(rng)), storm
    )
    done = action.run().ending
    assert isinstance(done, Done) and done.verified and done.complete
    assert done.tokens == expected(method, request, target, drafter, 64)


@settings(max_examples=200)
@given(actions(), storms(), st.floats(0.001, 0.3), st.booleans())
def test_the_deadline_ends_every_action(
    action: dict, storm: Storm, deadline_s: float, fallback: bool
) -> None:
    request = replace(action["request"], deadline_s=deadline_s, fallback=fallback)
    outcome = StormyAction(Scenario(**{**action, "request": request}), storm).run()
    assert outcome.at <= deadline_s + 1e-9
    if isinstance(outcome.ending, Done):
        answer = decode_alone(action["target"], {EOS}, request.max_tokens)
        known = sum(outcome is not TokenOutcome.UNVERIFIED for outcome in outcome.ending.outcomes)
        assert outcome.ending.tokens[:known] == answer[:known]
    else:
        assert not fallback or outcome.ending.code in (ErrorCode.BUSY, ErrorCode.DRAINING)


def steadily(
    method: str | Method,
    storm: Storm,
    deadline_s: float | None = None,
    fallback: bool = True,
    spread: float = 0.0,
    times: Times | None = None,
) -> StormyAction:
    target = toy_target(3, end_after=8)
    method = METHODS[method] if isinstance(method, str) else method
    request = Request(1, "p", deadline_s=deadline_s, fallback=fallback, spread=spread)
    action = StormyAction(
        Scenario(method, request, {EOS}, target, target, SteadyLink(0.02), times or Times()), storm
    )
    action.run()
    return action


@pytest.mark.parametrize("name", ["cloud", "sync", "auto"])
def test_a_server_that_is_full_is_asked_again_when_it_said_and_no_sooner(name: str) -> None:
    action = steadily(name, replace(FOREVER, full_until=0.35))
    assert isinstance(action.ending, Done) and action.ending.verified
    opens = [message for message in action.outcome.up if isinstance(message, Open)]
    # Turned away at 10, 130 and 250 ms; the answer takes 20 ms each time to come and to be followed.
    assert len(opens) == 4


def test_a_server_that_is_full_is_told_nothing_until_it_is_asked_again() -> None:
    eager = replace(METHODS["auto"], chunk=1)
    action = steadily(eager, replace(FOREVER, full_until=0.35), times=Times(draft_token=0.01))
    assert isinstance(action.ending, Done) and action.ending.verified
    last = max(index for index, message in enumerate(action.outcome.up) if isinstance(message, Open))
    drafts = [message for message in action.outcome.up[:last] if isinstance(message, Draft)]
    # Until word comes that it is full it may have room: one token at first, the tokens of 20 ms each time later,
    # and those that an earlier question had brought.
    assert len(drafts) <= 1 + 2 * 3 < len(action.ending.tokens)


def test_robots_that_were_turned_away_together_come_back_one_after_the_other() -> None:
    ends = [
        steadily("cloud", replace(FOREVER, full_until=0.05), spread=spread).outcome.at
        for spread in (0.0, 0.5, 1.0)
    ]
    assert ends[1] - ends[0] == pytest.approx(0.025)
    assert ends[2] - ends[0] == pytest.approx(0.05)


def test_while_it_waits_the_edge_drafts_and_ends_with_that_when_it_gets_too_late() -> None:
    outcome = steadily("auto", FOREVER, deadline_s=0.23).outcome
    assert isinstance(outcome.ending, Done)
    assert not outcome.ending.verified and outcome.ending.complete
    assert outcome.ending.tokens == decode_alone(toy_target(3, end_after=8), {EOS}, 64)
    assert outcome.at == pytest.approx(0.14), (
        "a server that asks to wait beyond the deadline is not waited for"
    )


@pytest.mark.parametrize(("name", "fallback"), [("cloud", False), ("auto", False), ("cloud", True)])
@pytest.mark.parametrize(("deadline_s", "at"), [(0.23, 0.14), (0.25, 0.25)])
def test_who_may_not_or_can_not_go_on_alone_says_why(
    name: str, fallback: bool, deadline_s: float, at: float
) -> None:
    action = steadily(name, FOREVER, deadline_s=deadline_s, fallback=fallback)
    assert isinstance(action.ending, Failed)
    assert action.ending.code in (ErrorCode.BUSY, ErrorCode.DRAINING)
    assert action.ending.sentence == "full"
    assert action.outcome.at == pytest.approx(at), "at once when it is too late, and never after the deadline"


@pytest.mark.parametrize("name", ["cloud", "sync", "pipelined", "auto"])
def test_a_server_that_takes_over_is_told_at_once(name: str) -> None:
    calm = steadily(name, Storm()).outcome.at
    moved = steadily(name, Storm(moves=(0.03,))).outcome
    assert isinstance(moved.ending, Done) and moved.ending.verified
    # A round trip and another prefill; the first silence that is taken for a loss would be half a second.
    assert moved.at < calm + 0.2


@pytest.mark.parametrize("name", ["cloud", "sync", "pipelined", "auto"])
def test_after_an_outage_a_server_that_knows_the_action_is_asked_and_not_given_the_frame_again(
    name: str,
) -> None:
    outage = steadily(name, Storm(outages=(0.03,), gap_s=0.2)).outcome
    assert isinstance(outage.ending, Done) and outage.ending.verified
    assert sum(isinstance(message, Open) for message in outage.up) == 1
    assert outage.at < 0.5
