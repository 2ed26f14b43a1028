"""The controller: arithmetic on what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.decoding.controller import (
    CONSTANTS,
    OBJECTIVES,
    Measurements,
    alternative_places,
    chunk,
    edge_draft_ms_per_token,
    expected_length,
    few_passes_window,
    pass_ms,
    plan,
    server_draft_length,
    server_draft_ms_per_token,
    server_mode,
    stale_draft_ms_per_token,
    window,
    worth_verifying,
)
from spec_decode_ros.decoding.messages import ServerMode
from spec_decode_ros.decoding.methods import METHODS, WHOLE_ACTION
from spec_decode_ros.errors import SpecDecodeError

HERE = Measurements(rtt_ms=60.0, draft_ms=4.0, step_ms=40.0, acceptance=0.8, server_draft_ms=4.0)
MILLISECONDS = st.floats(0, 1e4)
ANY = st.builds(
    Measurements,
    MILLISECONDS,
    MILLISECONDS,
    st.floats(0.01, 1e4),
    st.floats(0, 1),
    MILLISECONDS,
    st.none() | MILLISECONDS,
    few_ms=st.none() | MILLISECONDS,
    tokens=st.floats(0, 1e3),
    stale_acceptance=st.floats(0, 1),
    upload_ms=MILLISECONDS,
    uplink_mbps=st.floats(1e-6, 1e6) | st.just(float("inf")),
)


def test_expected_length_is_the_sum_over_the_places_of_the_first_rejection() -> None:
    for acceptance in (0.0, 0.3, 0.9, 1.0):
        by_hand = sum(acceptance**place for place in range(6))
        assert expected_length(acceptance, 5) == pytest.approx(by_hand)


@given(ANY)
def test_the_length_of_own_drafts_is_the_best_one(now: Measurements) -> None:
    best = server_draft_length(now)
    assert 0 <= best <= CONSTANTS.max_server_draft
    if now.server_draft_ms is None:
        assert best == 0
    else:
        assert all(
            server_draft_ms_per_token(now, best) <= server_draft_ms_per_token(now, other)
            for other in range(CONSTANTS.max_server_draft + 1)
        )


@given(ANY, st.integers(0, 30), st.integers(0, 30))
def test_a_draft_that_is_there_costs_what_one_costs_that_is_made_in_no_time(
    now: Measurements, exact: int, stale: int
) -> None:
    free = replace(now, server_draft_ms=0.0)
    assert edge_draft_ms_per_token(now, exact, 0) == pytest.approx(server_draft_ms_per_token(free, exact))
    assert edge_draft_ms_per_token(now, 0, stale) == pytest.approx(
        server_draft_ms_per_token(replace(free, acceptance=now.stale_acceptance), stale)
    )
    alike = replace(now, stale_acceptance=now.acceptance)
    assert edge_draft_ms_per_token(alike, exact, stale) == pytest.approx(
        edge_draft_ms_per_token(alike, exact + stale, 0)
    )


def test_a_draft_that_was_wrong_before_is_followed_by_the_right_one_and_then_looked_at() -> None:
    now = replace(HERE, per_token_ms=1.0, stale_acceptance=0.5)
    # Two tokens of 0.8 and two of 0.5 after them: 1 + 0.8 + 0.64 + 0.32 + 0.16 tokens from a pass of 44 ms.
    assert edge_draft_ms_per_token(now, 2, 2) == pytest.approx(44 / 2.92)
    # Every other time 1 + 0.5 + 0.25 more tokens for 42 ms more.
    assert stale_draft_ms_per_token(now, 2) == pytest.approx((40 + 21) / (1 + 0.875))
    assert stale_draft_ms_per_token(replace(now, stale_acceptance=0.0), 9) == pytest.approx(40)
    assert stale_draft_ms_per_token(replace(now, stale_acceptance=1.0), 9) == pytest.approx((40 + 49) / 11)


def test_drafting_where_it_costs_more_than_it_saves_is_left_alone() -> None:
    assert server_draft_length(replace(HERE, server_draft_ms=100.0)) == 0
    assert server_draft_length(replace(HERE, acceptance=0.0)) == 0
    assert (
        server_draft_length(replace(HERE, acceptance=0.97, server_draft_ms=2.0))
        > server_draft_length(HERE)
        > 0
    )


def test_the_farther_the_edge_the_more_the_server_does_itself() -> None:
    slow = replace(HERE, acceptance=0.95)
    modes = [server_mode(replace(slow, rtt_ms=rtt)) for rtt in (1.0, 30.0, 120.0, 250.0)]
    assert modes[0] is ServerMode.STREAM
    assert modes[-1] is ServerMode.SELF_DRAFT
    assert modes == sorted(modes, key=lambda mode: mode is ServerMode.SELF_DRAFT)
    assert server_mode(replace(HERE, rtt_ms=250.0, server_draft_ms=None)) is ServerMode.STREAM


def test_what_is_said_sooner_than_the_servers_draft_model_has_read_the_prompt_is_said_token_by_token() -> (
    None
):
    far = replace(HERE, rtt_ms=250.0, tokens=10.0)
    assert server_mode(far) is ServerMode.SELF_DRAFT
    assert server_mode(replace(far, server_draft_prefill_ms=200.0)) is ServerMode.STREAM
    assert server_mode(replace(far, server_draft_prefill_ms=200.0, tokens=100.0)) is ServerMode.SELF_DRAFT


def test_objectives() -> None:
    auto = METHODS["auto"]
    fast = plan(auto, "latency", HERE)
    assert fast.server is server_mode(HERE)
    assert not fast.yields
    assert plan(auto, "balanced", HERE) == replace(fast, redrafts=True, yields=True)
    near = replace(HERE, rtt_ms=5.0)
    cheap = plan(auto, "cost", near)
    assert cheap.server is ServerMode.VERIFY_ONLY
    assert cheap.chunk == cheap.window == few_passes_window(near)
    assert cheap.patience_ms > 0
    assert plan(auto, "cost", None).server is ServerMode.VERIFY_ONLY
    assert plan(auto, "balanced", None) == replace(auto, yields=True)
    assert plan(auto, "latency", None) == auto
    with pytest.raises(SpecDecodeError, match="latency, balanced, cost"):
        plan(auto, "speed", HERE)  # type: ignore[arg-type]


def test_few_passes_are_not_bought_with_more_time_than_the_target_takes_alone() -> None:
    far = replace(HERE, rtt_ms=250.0, acceptance=0.5)
    assert few_passes_window(far) == 0
    assert plan(METHODS["auto"], "cost", far) == plan(METHODS["auto"], "balanced", far)


@pytest.mark.parametrize("draft_ms", [1.0, 20.0, 80.0])
def test_a_draft_ends_where_the_next_token_is_hardly_ever_used(draft_ms: float) -> None:
    now = Measurements(rtt_ms=20.0, draft_ms=draft_ms, step_ms=620.0, acceptance=0.5, tokens=33.0)
    assert 3 <= few_passes_window(now) <= 11
    surer = few_passes_window(replace(now, acceptance=0.9))
    assert surer > few_passes_window(now)
    assert few_passes_window(replace(now, acceptance=1.0)) >= surer


def test_branches_are_prepared_where_the_edge_is_idle_and_the_server_has_no_draft_model() -> None:
    auto, far = METHODS["auto"], replace(HERE, rtt_ms=250.0, server_draft_ms=None)
    assert plan(auto, "latency", far) == replace(auto, server=ServerMode.STREAM, window=window(far))
    for now in (replace(far, server_draft_ms=4.0), replace(far, draft_ms=40.0), replace(far, acceptance=1.0)):
        assert not plan(auto, "latency", now).branches
    assert not plan(auto, "cost", far).branches
    assert not plan(replace(auto, branches=0), "latency", far).branches


def test_a_target_whose_passes_are_short_has_no_use_for_branches() -> None:
    far = replace(HERE, rtt_ms=60.0, draft_ms=0.5, server_draft_ms=None)
    assert plan(METHODS["auto"], "latency", far).branches
    assert not plan(METHODS["auto"], "latency", replace(far, step_ms=0.9)).branches


def test_branches_are_not_prepared_where_sending_them_takes_as_long_as_the_round_trip_that_they_save() -> (
    None
):
    narrow = replace(HERE, server_draft_ms=None, rtt_ms=70.0, uplink_mbps=0.01)
    assert not plan(METHODS["auto"], "latency", narrow).branches
    assert plan(METHODS["auto"], "latency", replace(narrow, uplink_mbps=1.0)).branches


def test_a_frame_that_takes_long_to_upload_leaves_time_for_branches() -> None:
    slow = replace(HERE, server_draft_ms=None, rtt_ms=5.0, draft_ms=8.0)
    assert not plan(METHODS["auto"], "latency", slow).branches
    assert plan(METHODS["auto"], "latency", replace(slow, upload_ms=100.0)).branches
    assert plan(METHODS["auto"], "latency", replace(slow, tokens=5.0)).branches


def test_where_the_server_drafts_by_itself_the_edge_does_so_once() -> None:
    far = replace(HERE, rtt_ms=200.0)
    assert plan(METHODS["auto"], "latency", far).server is ServerMode.SELF_DRAFT
    assert not plan(METHODS["auto"], "latency", far).redrafts
    assert plan(METHODS["auto"], "balanced", far).redrafts  # a server with many robots waits for drafts
    assert plan(METHODS["auto"], "latency", replace(far, server_draft_ms=None)).redrafts
    near = replace(far, rtt_ms=5.0)
    assert plan(
        METHODS["auto"], "latency", near
    ).redrafts  # it may arrive in time for the pass after the next
    assert not plan(METHODS["auto"], "latency", replace(near, acceptance=0.3)).redrafts


def test_the_edge_drafts_as_far_as_there_is_a_chance_that_it_is_used() -> None:
    windows = [window(replace(HERE, acceptance=a)) for a in (0.0, 0.3, 0.5, 0.8, 0.9, 0.97, 1.0)]
    assert windows == sorted(windows)
    assert (windows[0], windows[-1]) == (8, WHOLE_ACTION)
    assert 0.8 ** window(HERE) >= 0.01 > 0.8 ** (window(HERE) + 1)


def test_a_token_more_is_verified_where_it_is_likelier_to_spare_a_pass_than_it_costs() -> None:
    assert worth_verifying(0.8, 40.0, 0.0) == WHOLE_ACTION
    assert worth_verifying(0.8, 40.0, 10.0) == 6  # 0.8 ** 6 > 10 / 40 > 0.8 ** 7
    assert worth_verifying(0.8, 40.0, 50.0) == worth_verifying(0.0, 40.0, 1.0) == 0
    assert worth_verifying(1.0, 40.0, 10.0) == WHOLE_ACTION
    assert worth_verifying(0.5, 2.0, 5e-324) == WHOLE_ACTION
    assert worth_verifying(0.5, 0.0, 0.0) == WHOLE_ACTION
    assert window(replace(HERE, per_token_ms=10.0)) == 6
    assert window(replace(HERE, per_token_ms=50.0)) == 1


def test_on_a_narrow_link_drafts_go_in_fewer_messages() -> None:
    assert chunk(HERE, 2) == 2
    assert (
        chunk(replace(HERE, draft_ms=0.5), 2) == 3
    )  # with fewer in each the messages would keep both sides busy
    assert chunk(replace(HERE, uplink_mbps=0.05), 1) == 2  # a message takes 6.4 ms, a token 4 ms
    assert chunk(replace(HERE, uplink_mbps=1e-6), 1) == WHOLE_ACTION


def test_an_exit_that_is_worse_than_the_draft_is_not_listened_to() -> None:
    assert plan(METHODS["auto"], "latency", HERE).early
    assert not plan(METHODS["auto"], "latency", replace(HERE, acceptance=0.97)).early
    assert not plan(replace(METHODS["auto"], early=False), "latency", HERE).early


def test_an_exit_of_a_pass_that_is_over_at_once_is_not_asked_for() -> None:
    assert not plan(METHODS["auto"], "latency", replace(HERE, step_ms=3.0, draft_ms=1.5)).early


@given(ANY, st.sampled_from(OBJECTIVES))
def test_every_plan_is_a_valid_method(now: Measurements, objective: str) -> None:
    method = plan(METHODS["auto"], objective, now)  # type: ignore[arg-type]
    assert method.uses_cloud and method.uses_draft_model and method.temporal


@pytest.mark.parametrize(
    "wrong",
    [
        {"rtt_ms": -1.0},
        {"step_ms": float("nan")},
        {"acceptance": 1.1},
        {"server_draft_ms": float("inf")},
        {"uplink_mbps": 0.0},
        {"stale_acceptance": 1.5},
    ],
)
def test_conditions_refuse_nonsense(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecDecodeError, match=next(iter(wrong))):
        replace(HERE, **wrong)


@given(ANY, st.integers(0, CONSTANTS.max_server_draft))
def test_second_choices_stand_at_the_first_places_as_far_as_they_pay(now: Measurements, drafted: int) -> None:
    count = alternative_places(now, drafted)
    assert 0 <= count <= drafted
    spared = (
        CONSTANTS.second_choice_acceptance * (1 - now.acceptance) * server_draft_ms_per_token(now, drafted)
    )
    for place in range(count):
        assert spared * now.acceptance**place > pass_ms(now, drafted + place + 1) - pass_ms(
            now, drafted + place
        )


def test_a_pass_over_a_few_tokens_may_cost_no_more_than_one() -> None:
    now = replace(HERE, step_ms=36.0, per_token_ms=1.75, few_ms=0.0, server_draft_ms=3.0, acceptance=0.37)
    assert [pass_ms(now, drafted) for drafted in (0, 4, 6)] == [36.0, 36.0, 39.5]
    assert pass_ms(replace(now, few_ms=None), 4) == 43.0
    assert server_draft_length(now) == 2 > server_draft_length(replace(now, few_ms=None))
    assert alternative_places(now, 2) == 2
    assert alternative_places(replace(now, few_ms=None), 2) == 1
    assert alternative_places(replace(now, acceptance=1.0), 2) == 0
