"""Which server a robot uses, and when it tries again: pure functions of time."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.transport.backoff import backoff_s
from spec_decode_ros.transport.failover import ConnectionStatus, Failover, FailoverPolicy

WELL, SILENT = ConnectionStatus(True, 0.5), ConnectionStatus(True, 2.6)
COMING, GONE = ConnectionStatus(False, float("inf")), ConnectionStatus(False, float("inf"), failed=True)
POLICY = FailoverPolicy()


# ---- backoff -----------------------------------------------------------------------------------------------


@given(st.integers(0, 10**9), st.floats(0.0, 1.0), st.floats(1e-3, 10.0), st.floats(1e-3, 100.0))
def test_waits_are_bounded_and_half_of_them_is_random(failures, jitter, first_s, longest_s) -> None:
    wait = backoff_s(failures, jitter, first_s, longest_s)
    least, most = (backoff_s(failures, edge, first_s, longest_s) for edge in (0.0, 1.0))
    assert 0.0 < least <= wait <= most <= longest_s
    assert most == pytest.approx(2 * least)
    assert least <= backoff_s(failures + 1, 0.0, first_s, longest_s)


def test_waits_double_until_they_are_long_enough() -> None:
    assert [backoff_s(n, 1.0, 0.1, 2.0) for n in range(1, 7)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0])


# ---- failover ----------------------------------------------------------------------------------------------


def on_second(now: float = 10.0) -> Failover:
    """A robot whose first server failed while it served."""
    failover = Failover(2, 0.0)
    assert not failover.review([WELL, WELL], 1.0, in_action=True)
    assert failover.review([GONE, WELL], now, in_action=True)
    assert failover.current == 1
    return failover


def test_the_first_server_is_waited_for_while_it_may_still_come() -> None:
    failover = Failover(2, 0.0)
    assert not failover.review([COMING, WELL], 0.9, in_action=False)
    assert failover.review([COMING, WELL], 1.1, in_action=False)
    failover = Failover(2, 0.0)
    assert failover.review([GONE, WELL], 0.1, in_action=False), "nothing to wait for"


def test_an_action_is_never_taken_from_a_server_that_answers() -> None:
    failover = on_second()
    for now in range(11, 100):
        assert not failover.review([WELL, WELL], float(now), in_action=True)
    assert failover.review([WELL, WELL], 100.0, in_action=False)
    assert (failover.current, failover.changes) == (0, 2)


def test_a_server_that_is_back_must_be_well_for_a_while() -> None:
    failover = on_second()
    assert not failover.review([WELL, WELL], 20.0, in_action=False)
    assert not failover.review([WELL, WELL], 24.9, in_action=False)
    assert not failover.review([GONE, WELL], 25.5, in_action=False)
    assert not failover.review([WELL, WELL], 26.0, in_action=False), "it begins anew"
    assert not failover.review([WELL, WELL], 30.9, in_action=False)
    assert failover.review([WELL, WELL], 31.0, in_action=False)


def test_silence_is_a_failure_and_nothing_is_done_where_all_are_silent() -> None:
    failover = Failover(2, 0.0)
    assert not failover.review([SILENT, SILENT], 5.0, in_action=True)
    assert failover.review([SILENT, WELL], 5.1, in_action=True)


def test_a_server_that_is_full_for_a_moment_is_asked_again_and_then_left() -> None:
    failover = Failover(2, 0.0)
    failover.on_busy(0, 1.0, retry_s=0.1)
    assert not failover.review([WELL, WELL], 1.0, in_action=True)
    failover.on_opened(0)
    failover.on_busy(0, 2.0, retry_s=0.1)
    failover.on_busy(0, 2.3, retry_s=0.1)
    assert not failover.review([WELL, WELL], 2.3, in_action=True)
    failover.on_busy(0, 2.45, retry_s=0.1)
    assert failover.review([WELL, WELL], 2.45, in_action=True)
    failover = Failover(2, 0.0)
    failover.on_busy(0, 1.0, retry_s=3.0)
    assert failover.review([WELL, WELL], 1.0, in_action=True), "it says itself that it takes long"


def test_a_server_that_ends_is_left_between_actions_or_when_it_refuses_one() -> None:
    failover = Failover(2, 0.0)
    failover.on_draining(0, 1.0, refused=False)
    assert not failover.review([WELL, WELL], 1.0, in_action=True)
    assert failover.review([WELL, WELL], 1.1, in_action=False)
    assert not failover.review([WELL, WELL], 30.0, in_action=False), "it is still ending"
    failover.on_welcome(0)
    assert failover.review([WELL, WELL], 30.1, in_action=False), "another process is there"
    failover.on_draining(0, 31.0, refused=True)
    assert failover.review([WELL, WELL], 31.0, in_action=True)


def test_with_one_server_there_is_nothing_to_change() -> None:
    failover = Failover(1, 0.0)
    failover.on_draining(0, 1.0, refused=True)
    for now, status in enumerate((COMING, WELL, SILENT, GONE, WELL), 1):
        assert not failover.review([status], float(now), in_action=False)


@st.composite
def histories(draw) -> tuple[int, list[tuple[float, list[ConnectionStatus], bool]]]:
    """Servers that come and go as they like, looked at a few times a second."""
    rng = random.Random(draw(st.integers(0, 10**9)))
    count = draw(st.integers(1, 4))
    changes = draw(st.sampled_from([0.02, 0.2, 0.9]))
    statuses, now, history = [COMING] * count, 1.0, []
    for _ in range(draw(st.integers(1, 400))):
        now += rng.choice([0.1, 0.1, 1.0])
        statuses = [
            rng.choice([WELL, WELL, SILENT, COMING, GONE]) if rng.random() < changes else each
            for each in statuses
        ]
        history.append((now, statuses, rng.random() < 0.7))
    return count, history


@settings(max_examples=300)
@given(histories())
def test_whatever_happens_a_server_is_changed_only_for_a_reason(history) -> None:
    count, moments = history
    failover = Failover(count, 1.0)
    well_since: list[float | None] = [None] * count
    for now, statuses, in_action in moments:
        well = [status.welcomed and status.silence_s <= POLICY.silent_s for status in statuses]
        well_since = [
            None if not is_well else (now if since is None else since)
            for is_well, since in zip(well, well_since, strict=True)
        ]
        before = failover.current
        changed = failover.review(statuses, now, in_action)
        assert changed == (failover.current != before)
        if not changed:
            if not well[before] and any(well):
                assert now - 1.0 < POLICY.startup_s, "another one was there"
            continue
        assert well[failover.current]
        if well[before]:
            since = well_since[failover.current]
            assert not in_action and failover.current < before
            assert since is not None and now - since >= POLICY.stable_s


def test_a_server_that_comes_and_goes_is_returned_to_ever_later() -> None:
    """Up for twenty seconds and down for two, for an hour: robots do not swing with it."""
    failover, now = Failover(2, 0.0), 0.0
    while now < 3600.0:
        now += 0.5
        failover.review([WELL if now % 22.0 < 20.0 else GONE, WELL], now, in_action=False)
    assert failover.changes <= 7
    for _ in range(2 * 60 * 30):
        now += 0.5
        failover.review([WELL, WELL], now, in_action=False)
    assert failover.current == 0
    assert failover.review([GONE, WELL], now + 1.0, in_action=False)
    assert not failover.review([WELL, WELL], now + 2.0, in_action=False)
    assert failover.review([WELL, WELL], now + 7.0, in_action=False), "its failures are forgotten"


def test_a_policy_needs_times() -> None:
    with pytest.raises(SpecDecodeError, match="above 0"):
        FailoverPolicy(silent_s=0.0)
