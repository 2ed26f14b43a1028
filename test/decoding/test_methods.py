"""What the methods cost, in virtual time where every figure can be worked out by hand."""

from __future__ import annotations

import pytest
from toys import EOS, toy_drafter, toy_target

from spec_decode_ros.decoding.commands import Done
from spec_decode_ros.decoding.messages import Draft, Open, ServerMode, TokenOutcome
from spec_decode_ros.decoding.methods import METHODS, Method, method_named
from spec_decode_ros.decoding.request import Request
from spec_decode_ros.decoding.testing import (
    Scenario,
    SteadyLink,
    Times,
    VirtualAction,
    VirtualResult,
    decode_alone,
)
from spec_decode_ros.errors import SpecDecodeError

LENGTH = 12
TIMES = Times(draft_prefill=0.005, draft_token=0.001, prepare=0.002, prefill=0.010, step=0.003, per_token=0.0)


def target(text) -> int:
    return EOS if len(text) == LENGTH - 1 else toy_target(3, end_after=LENGTH)(text)


ANSWER = decode_alone(target, {EOS}, 64)


SILENT = -1.0


def act(
    method: str, agreement: float = 1.0, rtt: float = 0.04, upload: float = 0.02, **request
) -> VirtualResult:
    drafter = toy_drafter(target, 1, agreement, gives_up=float(agreement == SILENT))
    link = SteadyLink(rtt, upload)
    outcome = VirtualAction(
        Scenario(METHODS[method], Request(1, "p", **request), {EOS}, target, drafter, link, TIMES)
    ).run()
    assert isinstance(outcome.ending, Done)
    return outcome


def test_the_cloud_alone_takes_a_pass_a_token() -> None:
    outcome = act("cloud")
    assert outcome.at == pytest.approx(0.02 + 0.04 + 0.002 + 0.010 + 11 * 0.003)
    counts = outcome.ending.counts
    assert (counts.passes, counts.drafted, counts.round_trips) == (LENGTH, 0, 1)
    assert counts.cloud_busy_ms == pytest.approx(10 + 11 * 3)
    assert set(outcome.ending.outcomes) == {TokenOutcome.BONUS}
    assert [type(message).__name__ for message in outcome.up] == ["Open", "Close"]


def test_a_perfect_draft_costs_upload_prefill_and_one_round_trip() -> None:
    outcome = act("auto")
    assert outcome.at == pytest.approx(0.02 + 0.04 + 0.002 + 0.010)
    assert outcome.widths == [LENGTH]
    counts = outcome.ending.counts
    assert (counts.passes, counts.accepted, counts.round_trips) == (1, LENGTH, 1)
    assert outcome.first_draft_at == pytest.approx(0.006)


def test_a_right_temporal_draft_needs_no_draft_model() -> None:
    outcome = act("auto", agreement=SILENT, previous=ANSWER)
    assert outcome.widths == [LENGTH]
    assert outcome.at == pytest.approx(0.02 + 0.04 + 0.002 + 0.010)


def test_one_wrong_token_costs_one_more_pass_and_no_round_trip() -> None:
    previous = (*ANSWER[:5], ANSWER[5] + 1, *ANSWER[6:])
    outcome = act("auto", agreement=SILENT, previous=previous)
    assert outcome.at == pytest.approx(0.02 + 0.04 + 0.002 + 0.010 + 0.003)
    counts = outcome.ending.counts
    assert (counts.passes, counts.round_trips) == (2, 1)
    assert outcome.ending.outcomes == (
        *[TokenOutcome.ACCEPTED] * 5,
        TokenOutcome.RECOVERED,
        *[TokenOutcome.ACCEPTED] * 6,
    )


def test_a_wrong_draft_steps_back_behind_a_right_temporal_one() -> None:
    outcome = act("auto", agreement=0.0, previous=ANSWER)
    assert outcome.widths == [
        4,
        11,
    ]  # the drafted four, then what the temporal draft says after the correction


def test_a_useless_draft_model_never_makes_the_server_wait_or_run_more_often() -> None:
    outcome, alone = act("auto", agreement=0.0), act("cloud")
    assert outcome.at <= alone.at
    assert outcome.ending.counts.passes <= alone.ending.counts.passes


def test_stop_and_wait_takes_a_round_trip_a_window() -> None:
    outcome = act("sync", rtt=0.2)
    # The prefill verifies the first four and adds a fifth; then five a round: 5 + 5 + 2.
    assert outcome.widths == [4, 4, 2]
    counts = outcome.ending.counts
    assert (counts.passes, counts.round_trips, counts.drafted_on_edge) == (3, 3, 10)
    assert outcome.at == pytest.approx(0.02 + 3 * 0.2 + 0.002 + 0.010 + 2 * 0.003 + 0.004 + 0.002)


def test_stop_and_wait_drafts_nothing_while_it_waits() -> None:
    outcome = act("sync", agreement=0.6)
    drafts = [message for message in outcome.up if isinstance(message, Draft) and message.tokens]
    assert all(len(message.tokens) <= 4 for message in drafts)
    assert len({message.position for message in drafts}) == len(drafts) == outcome.ending.counts.round_trips
    assert outcome.ending.counts.drafted_on_edge == sum(len(message.tokens) for message in drafts)


def test_a_message_loses_nothing_that_the_one_before_it_carried() -> None:
    outcome = act("auto")
    drafts = [message for message in outcome.up if isinstance(message, Draft)]
    assert [len(message.tokens) for message in drafts] == [2, 4, 6, 8, 10, 12]
    assert [message.final for message in drafts] == [False] * 5 + [True]


def test_open_carries_what_the_method_asks_of_the_server() -> None:
    opened = {
        name: next(message for message in act(name, previous=(1, 2)).up if isinstance(message, Open))
        for name in ("cloud", "sync", "auto")
    }
    assert [opened[name].draft for name in opened] == [(), (), (1, 2)]
    assert opened["sync"].mode is ServerMode.VERIFY_ONLY and opened["auto"].mode is ServerMode.STREAM


def test_unknown_methods_are_answered_with_the_known_ones() -> None:
    assert method_named("auto") is METHODS["auto"]
    with pytest.raises(SpecDecodeError, match="edge, cloud, colocated, sync, early_exit, pipelined, auto"):
        method_named("magic")


@pytest.mark.parametrize(
    "choices",
    [
        dict(server=None, window=0),
        dict(server=ServerMode.VERIFY_ONLY, window=0),
        dict(server=ServerMode.STREAM, window=-1),
        dict(server=ServerMode.STREAM, window=2, chunk=0),
        dict(server=ServerMode.STREAM, window=2, patience_ms=-1.0),
        dict(server=ServerMode.VERIFY_ONLY, window=2, redrafts=False),
        dict(server=ServerMode.SELF_DRAFT, window=2, yields=True, redrafts=False),
    ],
)
def test_methods_that_could_not_work_are_refused(choices) -> None:
    with pytest.raises(SpecDecodeError):
        Method("bad", "", **choices)
