"""Who gets in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.errors import SpecDecodeError
from spec_decode_ros.server.admission import Admission
from spec_decode_ros.server.config import ServiceConfig


def test_a_full_server_says_so_and_when_to_come_back() -> None:
    admission = Admission(2)
    assert admission.ask(b"a", 0.0, 1) is None
    refusal = admission.ask(b"b", 0.0, 2)
    assert refusal is not None and "works on 2 actions already" in refusal.sentence
    assert 10.0 <= refusal.retry_ms < 1000.0


def test_the_longer_actions_last_the_later_a_robot_is_asked_to_come_back() -> None:
    short, long = Admission(1), Admission(1)
    for _ in range(50):
        short.lasted(20.0)
        long.lasted(2000.0)
    soon, late = short.ask(b"a", 0.0, 1), long.ask(b"a", 0.0, 1)
    assert soon is not None and late is not None and soon.retry_ms < 100.0 < 1000.0 < late.retry_ms


@given(st.floats(0.1, 50.0), st.lists(st.floats(0.0, 2.0), min_size=1, max_size=200))
def test_no_robot_begins_more_than_its_rate_allows(per_second: float, pauses: list[float]) -> None:
    admission, now, begun = Admission(1000, per_second), 0.0, 0
    for pause in pauses:
        now += pause
        refusal = admission.ask(b"a", now, 0)
        if refusal is None:
            begun += 1
        else:  # and when it is told to come back, it may
            assert refusal.retry_ms > 0
            later = now + refusal.retry_ms / 1000.0 + 1e-6
            assert Admission.ask(admission, b"a", later, 0) is None
            now, begun = later, begun + 1
    assert begun <= max(1.0, per_second) + now * per_second + 1e-3


def test_the_rate_is_that_of_one_robot() -> None:
    admission = Admission(10, 1.0)
    assert admission.ask(b"a", 0.0, 0) is None
    assert admission.ask(b"a", 0.0, 0) is not None
    assert admission.ask(b"b", 0.0, 0) is None
    admission.forget(100.0)
    assert admission.ask(b"a", 100.0, 0) is None


def test_a_robot_gets_an_equal_part_and_leaves_one_for_a_newcomer() -> None:
    admission = Admission(64)
    assert admission.ask("greedy", 0.0, 31, own=31, robots=1) is None
    refusal = admission.ask("greedy", 0.0, 32, own=32, robots=1)
    assert refusal is not None and "may have 32 unfinished actions" in refusal.sentence
    assert admission.ask("modest", 0.0, 32, own=0, robots=2) is None
    assert admission.ask("greedy", 0.0, 33, own=21, robots=2) is not None
    assert admission.ask("one of many", 0.0, 63, own=1, robots=1000) is None


def test_memory_bounds_the_actions() -> None:
    limits = ServiceConfig(max_sessions=64, memory_mb=100.0, session_tokens=1000)
    assert limits.sessions(10_000) == 10
    assert limits.sessions(0) == 64
    assert ServiceConfig(max_sessions=4, memory_mb=100.0, session_tokens=1000).sessions(10_000) == 4
    with pytest.raises(SpecDecodeError, match=r"take 200\.0 MB: raise memory_mb above 100"):
        limits.sessions(200_000)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_sessions": 0},
        {"memory_mb": -1.0},
        {"session_tokens": 0},
        {"actions_per_second": float("nan")},
        {"expire_s": 0.0},
    ],
)
def test_limits_that_make_no_sense_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(SpecDecodeError, match=next(iter(changes))):
        ServiceConfig(**changes)  # type: ignore[arg-type]
