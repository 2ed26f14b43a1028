"""Which replicas are started and ended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spec_decode_ros.server.fleet.scaling import Phase, Plan, Row, delay_s, plan

PATIENCE_S = 60.0
ROWS = st.lists(
    st.builds(
        Row,
        number=st.integers(1, 1000),
        phase=st.sampled_from(Phase),
        since=st.floats(0.0, 100.0),
        robots=st.integers(0, 9),
    ),
    max_size=8,
    unique_by=lambda row: row.number,
)


def made(rows: list[Row], todo: Plan, now: float) -> list[Row]:
    """The rows after the plan was carried out, all starts having succeeded."""
    after = []
    for row in rows:
        if row.number in todo.end:
            continue
        if row.number in todo.leave:
            row = Row(row.number, Phase.LEAVING, now, row.robots)
        elif row.number in todo.stay:
            row = Row(row.number, Phase.SERVING, now, row.robots)
        after.append(row)
    return after + [Row(2000 + index, Phase.STARTING, now) for index in range(todo.start)]


@given(ROWS, st.integers(0, 6), st.floats(100.0, 300.0))
def test_a_plan_brings_the_replicas_to_what_is_wanted(rows: list[Row], wanted: int, now: float) -> None:
    todo = plan(rows, wanted, now, PATIENCE_S)
    after = made(rows, todo, now)
    assert sum(row.phase is not Phase.LEAVING for row in after) == wanted
    by_number = {row.number: row for row in rows}
    assert all(by_number[number].phase is Phase.SERVING for number in todo.leave)
    assert all(by_number[number].phase is Phase.LEAVING for number in todo.stay)
    assert all(by_number[number].phase is not Phase.SERVING for number in todo.end)
    assert not (todo.start or todo.stay) or not todo.leave
    assert not todo.start or not any(row.phase is Phase.LEAVING for row in after)


@given(ROWS, st.integers(0, 6))
def test_what_is_leaving_ends_in_the_end(rows: list[Row], wanted: int) -> None:
    now = 100.0
    rows = made(rows, plan(rows, wanted, now, PATIENCE_S), now)
    rows = made(rows, plan(rows, wanted, now + PATIENCE_S, PATIENCE_S), now + PATIENCE_S)
    assert len(rows) == wanted
    assert plan(rows, wanted, now + PATIENCE_S, PATIENCE_S) == Plan()


def test_too_many() -> None:
    rows = [
        Row(1, Phase.SERVING, 0.0, 3),
        Row(2, Phase.SERVING, 0.0, 1),
        Row(3, Phase.SERVING, 0.0, 1),
        Row(4, Phase.STARTING, 9.0),
    ]
    assert plan(rows, 3, 10.0, PATIENCE_S) == Plan(end=(4,))
    assert plan(rows, 2, 10.0, PATIENCE_S) == Plan(leave=(3,), end=(4,))


def test_too_few() -> None:
    rows = [Row(1, Phase.SERVING, 0.0, 3), Row(2, Phase.LEAVING, 0.0, 1), Row(3, Phase.LEAVING, 0.0, 0)]
    assert plan(rows, 1, 10.0, PATIENCE_S) == Plan(end=(3,))
    assert plan(rows, 2, 10.0, PATIENCE_S) == Plan(stay=(2,), end=(3,))
    assert plan(rows, 4, 10.0, PATIENCE_S) == Plan(start=1, stay=(2, 3))
    assert plan(rows, 1, 60.0, PATIENCE_S) == Plan(end=(2, 3))


def test_starts_that_fail_are_tried_more_and_more_seldom() -> None:
    assert [delay_s(failures) for failures in range(5)] == [0.0, 1.0, 2.0, 4.0, 8.0]
    assert delay_s(1000) == 60.0
