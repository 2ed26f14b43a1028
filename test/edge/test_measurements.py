"""Running averages of what the controller has to know."""

from __future__ import annotations

import pytest

from spec_decode_ros.decoding.messages import Welcome
from spec_decode_ros.edge.measurements import ActionTimings, LinkStatistics

WELCOME = Welcome(2, "toy", "words", step_ms=30.0, server_draft_ms=3.0)


def test_nothing_is_known_before_the_first_action() -> None:
    gauge = LinkStatistics()
    assert gauge.measurements(20.0, WELCOME) is None
    gauge.observe((), ActionTimings(draft_ms=(2.0, 4.0)))
    assert gauge.measurements(None, WELCOME) is None
    assert gauge.measurements(20.0, None) is None
    now = gauge.measurements(20.0, WELCOME)
    assert now is not None
    assert (now.draft_ms, now.step_ms, now.server_draft_ms) == (3.0, 30.0, 3.0)


def test_a_robot_that_had_nothing_to_draft_is_not_held_up_by_that() -> None:
    gauge = LinkStatistics()
    gauge.observe(("bonus",), ActionTimings())
    now = gauge.measurements(20.0, WELCOME)
    assert now is not None and now.draft_ms == 0.0


def test_acceptance_counts_judged_tokens_only_and_drifts() -> None:
    gauge = LinkStatistics()
    gauge.observe(
        ("accepted", "accepted", "accepted", "recovered", "bonus", "bonus"), ActionTimings((1.0,), (10.0,))
    )
    first = gauge.measurements(5.0, Welcome(2, "toy", "words"))
    assert first is not None
    assert first.acceptance == 0.75
    assert first.server_draft_ms is None
    for _ in range(30):
        gauge.observe(("recovered",), ActionTimings((2.0,), (20.0,)))
    later = gauge.measurements(5.0, Welcome(2, "toy", "words"))
    assert later is not None
    assert later.acceptance < 0.01
    assert later.step_ms == pytest.approx(20.0, rel=0.01)
    told = gauge.measurements(5.0, WELCOME)
    assert told is not None and told.step_ms == WELCOME.step_ms, (
        "the server knows what a pass takes by itself"
    )
    assert later.draft_ms == pytest.approx(2.0, rel=0.01)


def test_length_and_link_are_known_once_they_were_seen() -> None:
    gauge = LinkStatistics()
    gauge.observe(("bonus",) * 12, ActionTimings((1.0,), (10.0,)))
    now = gauge.measurements(5.0, WELCOME)
    assert now is not None
    assert (now.tokens, now.upload_ms, now.uplink_mbps) == (12.0, 0.0, float("inf"))
    gauge.observe(("bonus",) * 12, ActionTimings(upload_ms=(40.0,), uplink_mbps=(2.0,)))
    now = gauge.measurements(5.0, WELCOME)
    assert now is not None
    assert (now.upload_ms, now.uplink_mbps) == (40.0, 2.0)
