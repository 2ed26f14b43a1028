"""Scaling plans: which replicas are started and ended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.server.fleet.scaling import ReplicaPhase, ReplicaStatus, ScalingPlan, plan_scaling

PATIENCE_S = 60.0
ROWS = st.lists(
    st.builds(
        ReplicaStatus,
        number=st.integers(1, 1000),
        phase=st.sampled_from(ReplicaPhase),
        since=st.floats(0.0, 100.0),
        robots=st.integers(0, 9),
    ),
    max_size=8,
    unique_by=lambda row: row.number,
)


def made(rows: list[ReplicaStatus], todo: ScalingPlan, now: float) -> list[ReplicaStatus]:
    """The rows after the plan was carried out, all starts having succeeded."""
    after = []
    for row in rows:
        if row.number in todo.end:
            continue
        if row.number in todo.leave:
            row = ReplicaStatus(row.number, ReplicaPhase.LEAVING, now, row.robots)
        elif row.number in todo.stay:
            row = ReplicaStatus(row.number, ReplicaPhase.SERVING, now, row.robots)
        after.append(row)
    return after + [ReplicaStatus(2000 + index, ReplicaPhase.STARTING, now) for index in range(todo.start)]


@given(ROWS, st.integers(0, 6), st.floats(100.0, 300.0))
def test_a_plan_brings_the_replicas_to_what_is_wanted(
    rows: list[ReplicaStatus], wanted: int, now: float
) -> None:
    todo = plan_scaling(rows, wanted, now, PATIENCE_S)
    after = made(rows, todo, now)
    assert sum(row.phase is not ReplicaPhase.LEAVING for row in after) == wanted
    by_number = {row.number: row for row in rows}
    assert all(by_number[number].phase is ReplicaPhase.SERVING for number in todo.leave)
    assert all(by_number[number].phase is ReplicaPhase.LEAVING for number in todo.stay)
    assert all(by_number[number].phase is not ReplicaPhase.SERVING for number in todo.end)
    assert not (todo.start or todo.stay) or not todo.leave
    assert not todo.start or not any(row.phase is ReplicaPhase.LEAVING for row in after)


@given(ROWS, st.integers(0, 6))
def test_what_is_leaving_ends_in_the_end(rows: list[ReplicaStatus], wanted: int) -> None:
    now = 100.0
    rows = made(rows, plan_scaling(rows, wanted, now, PATIENCE_S), now)
    rows = made(rows, plan_scaling(rows, wanted, now + PATIENCE_S, PATIENCE_S), now + PATIENCE_S)
    assert len(rows) == wanted
    assert plan_scaling(rows, wanted, now + PATIENCE_S, PATIENCE_S) == ScalingPlan()


def test_too_many() -> None:
    rows = [
        ReplicaStatus(1, ReplicaPhase.SERVING, 0.0, 3),
        ReplicaStatus(2, ReplicaPhase.SERVING, 0.0, 1),
        ReplicaStatus(3, ReplicaPhase.SERVING, 0.0, 1),
        ReplicaStatus(4, ReplicaPhase.STARTING, 9.0),
    ]
    assert plan_scaling(rows, 3, 10.0, PATIENCE_S) == ScalingPlan(end=(4,))
    assert plan_scaling(rows, 2, 10.0, PATIENCE_S) == ScalingPlan(leave=(3,), end=(4,))


def test_too_few() -> None:
    rows = [
        ReplicaStatus(1, ReplicaPhase.SERVING, 0.0, 3),
        ReplicaStatus(2, ReplicaPhase.LEAVING, 0.0, 1),
        ReplicaStatus(3, ReplicaPhase.LEAVING, 0.0, 0),
    ]
    assert plan_scaling(rows, 1, 10.0, PATIENCE_S) == ScalingPlan(end=(3,))
    assert plan_scaling(rows, 2, 10.0, PATIENCE_S) == ScalingPlan(stay=(2,), end=(3,))
    assert plan_scaling(rows, 4, 10.0, PATIENCE_S) == ScalingPlan(start=1, stay=(2, 3))
    assert plan_scaling(rows, 1, 60.0, PATIENCE_S) == ScalingPlan(end=(2, 3))
