"""A seed decides which faults come, and every action has a verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.lab.bench.fleet.log import LoggedAction
from spec_decode_ros.lab.faults.action_account import SLACK_S, ActionAccount, InjectedFault, action_outcome
from spec_decode_ros.lab.faults.fault_plan import KINDS, planned
from spec_decode_ros.lab.faults.stalls import overlap_s

GOOD = LoggedAction(1, 0, "auto", 10.0, 10.0, 10.1, "verified", True)


@given(st.integers(1, 300), st.integers(0, 2**32), st.floats(0.01, 2.0))
def test_a_seed_decides(count: int, seed: int, every_s: float) -> None:
    faults = planned(count, seed, every_s)
    assert faults == planned(count, seed, every_s)
    assert len(faults) == count
    assert [fault.at_s for fault in faults] == sorted(fault.at_s for fault in faults)
    assert all(0 <= fault.at_s <= count * every_s for fault in faults)
    if count >= len(KINDS):
        assert {fault.kind for fault in faults} == set(KINDS)


def test_another_seed_decides_otherwise() -> None:
    assert planned(50, 1, 0.5) != planned(50, 2, 0.5)
    assert {fault.kind for fault in planned(40, 0, 0.1, ("garbage", "link cut"))} == {"garbage", "link cut"}
    for wrong in ((0, 0, 1.0), (5, 0, 0.0)):
        with pytest.raises(SpecDecodeError, match="at least one fault"):
            planned(*wrong)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "verified"),
        ({"same": False}, "wrong"),
        ({"outcome": "unverified", "same": False}, "unverified"),
        ({"outcome": "refused"}, "refused"),
        ({"outcome": "crashed"}, "crashed"),
        ({"outcome": "cut off"}, "stuck"),
        ({"ended": 10.0 + 4.0 + SLACK_S + 0.1}, "stuck"),
        ({"outcome": "unverified", "ended": 10.0 + 4.0 + SLACK_S + 0.1}, "stuck"),
        ({"outcome": None, "ended": None}, "stuck"),
        ({"outcome": None, "ended": None, "robot": 7}, "lost with its robot"),
        ({"outcome": None, "ended": None, "robot": 7, "began": 1.0}, "stuck"),
        ({"outcome": "not started", "began": None, "ended": None}, "not started"),
    ],
)
def test_every_action_has_a_verdict(change: dict[str, object], told: str) -> None:
    assert action_outcome(replace(GOOD, **change), 4.0, {7: 11.0}) == told  # type: ignore[arg-type]


def test_a_standstill_of_the_machine_is_nobodys_time() -> None:
    late = replace(GOOD, ended=10.0 + 4.0 + SLACK_S + 3.0)
    assert action_outcome(late, 4.0, {}, [(11.0, 15.0)]) == "verified"
    assert action_outcome(late, 4.0, {}, [(11.0, 12.0), (30.0, 60.0)]) == "stuck"
    assert overlap_s(10.0, 20.0, [(0.0, 11.0), (12.0, 13.0), (19.0, 40.0)]) == 3.0


def account(acts: Sequence[LoggedAction], recovered: frozenset[int] = frozenset({0, 1})) -> ActionAccount:
    faults = [
        InjectedFault("link cut", 10.05, 12.0, frozenset({0})),
        InjectedFault("garbage", 30.0, 30.0, frozenset({0, 1})),
    ]
    return ActionAccount([(0, act) for act in acts], faults, 4.0, {}, recovered, 2)


def test_actions_are_counted_by_the_faults_that_they_may_have_met() -> None:
    later = replace(GOOD, number=1, began=20.0, ended=20.1, outcome="unverified")
    found = account([GOOD, later])
    assert found.during("link cut") == {"verified": 1}
    assert found.during("garbage") == {}
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert plain["passed"] and plain["faults"] == 2 and plain["actions_by_outcome"]["unverified"] == 1
    assert ActionAccount([(1, GOOD)], found.faults, 4.0, {}, frozenset(), 2).during("link cut") == {}


@pytest.mark.parametrize(
    ("acts", "recovered", "sentence"),
    [
        ([replace(GOOD, same=False), replace(GOOD, number=1)], {0, 1}, "1 actions wrong"),
        ([GOOD], {0}, r"after the last fault in the groups \[1\]"),
        ([replace(GOOD, outcome="refused")], {0, 1}, "no action was verified"),
        ([GOOD, replace(GOOD, number=1, outcome="crashed", sentence="oh")], {0, 1}, "1 actions crashed"),
    ],
)
def test_what_must_not_be_is_said(acts: list[LoggedAction], recovered: set[int], sentence: str) -> None:
    found = account(acts, frozenset(recovered))
    assert not found.as_dict()["passed"]
    with pytest.raises(AssertionError, match=sentence):
        assert not found.wrongs, found.wrongs[0]
